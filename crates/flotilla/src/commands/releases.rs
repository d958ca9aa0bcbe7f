//! `flotilla releases`: the history of deploys.

use std::time::Duration;

use flotilla_core::deploy::Outcome;

use crate::printer::{Printer, duration, table};
use crate::site::Site;

pub(crate) async fn run(site: &Site, limit: u32, printer: &Printer) -> anyhow::Result<()> {
    let client = site.client()?;
    let records = client.deploys(limit).await?;
    if printer.is_json() {
        return printer.json(&records);
    }
    let serving = client.status().await?.release.map(|release| release.revision);
    let mut is_first = true;
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let outcome = record.outcome.as_ref();
            let is_serving = is_first
                && outcome.is_some_and(Outcome::is_settled)
                && serving.as_ref() == Some(&record.release.revision);
            is_first &= !is_serving;
            let took = record.took_millis.map(|millis| duration(Duration::from_millis(millis)));
            vec![
                record.id.to_string(),
                record.release.revision.short().to_owned(),
                outcome.map_or("under way", |outcome| outcome.as_str()).to_owned(),
                if is_serving { "serving".to_owned() } else { String::new() },
                took.unwrap_or_default(),
                record.author.clone(),
                record.subject.clone(),
                outcome.map(Outcome::reason).unwrap_or_default(),
            ]
        })
        .collect();
    let head = ["DEPLOY", "REVISION", "OUTCOME", "", "TOOK", "BY", "SUBJECT", "WHY"];
    printer.line(table(&head, &rows));
    Ok(())
}

//! `flotilla captures`: what people changed in the workshop, and what becomes of it.

use flotilla_core::api::{CaptureItem, CaptureVerdict, Verdict};
use flotilla_core::capture::CaptureNumber;

use super::deploy::author;
use crate::cli::Captures;
use crate::printer::{Printer, table};
use crate::site::Site;

pub(crate) async fn run(
    site: &Site,
    command: Option<Captures>,
    limit: u32,
    printer: &Printer,
) -> anyhow::Result<()> {
    let client = site.client()?;
    let (number, verdict, done) = match command {
        None => return list(&client.captures(limit).await?, printer),
        Some(Captures::Approve { number }) => {
            (number, Verdict::Approve, "is on its way to all instances")
        }
        Some(Captures::Revert { number }) => (number, Verdict::Revert, "is undone"),
    };
    let by = CaptureVerdict { author: author() };
    let item = client.decide(CaptureNumber(number), verdict, &by).await?;
    if printer.is_json() {
        return printer.json(&item);
    }
    printer.line(format!("Capture {number}, \"{}\", {done}.", item.record.subject()));
    Ok(())
}

fn list(items: &[CaptureItem], printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        return printer.json(&items);
    }
    if items.is_empty() {
        printer.line("Nobody has changed code in wp-admin yet.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    printer.line(table(&["CAPTURE", "REVISION", "STATE", "BY", "WHAT", "WHY"], &rows));
    Ok(())
}

fn row(item: &CaptureItem) -> Vec<String> {
    let record = &item.record;
    let mut why = vec![item.reason.clone()];
    let alarms = record.alarms.iter().map(ToString::to_string);
    why.extend(alarms.filter(|alarm| !item.reason.contains(alarm)));
    why.retain(|one| !one.is_empty());
    vec![
        record.number.to_string(),
        record.revision.short().to_owned(),
        record.state.as_str().to_owned(),
        record.author.clone(),
        record.subject().to_owned(),
        why.join("; "),
    ]
}

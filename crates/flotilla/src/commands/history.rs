//! `flotilla history`: who changed what in the site's code.

use flotilla_core::api::HistoryItem;

use crate::printer::{Printer, date, table};
use crate::site::Site;

/// What is asked for.
pub(crate) struct Wanted {
    /// Only what changed this.
    pub(crate) path: Option<String>,
    /// How many commits.
    pub(crate) limit: usize,
    /// Whether each change is shown.
    pub(crate) has_patch: bool,
}

pub(crate) async fn run(site: &Site, wanted: Wanted, printer: &Printer) -> anyhow::Result<()> {
    let path = wanted.path.as_deref();
    let items = site.client()?.history(wanted.limit, path, wanted.has_patch).await?;
    if printer.is_json() {
        return printer.json(&items);
    }
    if items.is_empty() {
        let what = path.unwrap_or("the site");
        printer.line(format!("No commit changed `{what}`. Paths are from the root of the site."));
    } else if wanted.has_patch {
        items.iter().for_each(|item| printer.line(whole(item)));
    } else {
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        printer.line(table(&["REVISION", "WHEN", "BY", "DEPLOY", "CAPTURE", "WHAT"], &rows));
    }
    Ok(())
}

fn row(item: &HistoryItem) -> Vec<String> {
    vec![
        item.revision.short().to_owned(),
        date(item.time_seconds),
        item.author.clone(),
        item.deploy.map(|id| id.to_string()).unwrap_or_default(),
        item.capture.map(|number| number.to_string()).unwrap_or_default(),
        item.subject.clone(),
    ]
}

fn whole(item: &HistoryItem) -> String {
    let HistoryItem { revision, author, email, subject, body, patch, .. } = item;
    let when = date(item.time_seconds);
    let body = if body.is_empty() { String::new() } else { format!("\n{}\n", body.trim_end()) };
    let patch = patch.as_deref().unwrap_or_default();
    format!("{revision}\n{when}  {author} <{email}>\n\n{subject}\n{body}\n{patch}")
}

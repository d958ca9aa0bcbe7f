//! `flotilla blame`: who wrote each line of a file.

use flotilla_core::api::BlameLine;

use crate::printer::{Printer, date};
use crate::site::Site;

/// Longer names are cut, so that the file stays readable.
const NAME_CHARACTERS_MAX: usize = 20;

pub(crate) async fn run(site: &Site, path: &str, printer: &Printer) -> anyhow::Result<()> {
    let lines = site.client()?.blame(path).await?;
    if printer.is_json() {
        return printer.json(&lines);
    }
    let name =
        |line: &BlameLine| -> String { line.author.chars().take(NAME_CHARACTERS_MAX).collect() };
    let width = lines.iter().map(|line| name(line).chars().count()).max().unwrap_or_default();
    for line in &lines {
        printer.line(format!(
            "{} {} {:width$} {:>5}  {}",
            line.revision.short(),
            date(line.time_seconds),
            name(line),
            line.line,
            line.text,
        ));
    }
    Ok(())
}

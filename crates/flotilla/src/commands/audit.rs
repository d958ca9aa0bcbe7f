//! `flotilla audit`: which plugin or theme writes what where, and what becomes of it on a fleet.

use std::path::PathBuf;

use flotilla_core::audit::Verdict;
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::slot::SlotName;
use flotilla_foreman::audit::{Entry, audit};

use crate::local::workshop_place;
use crate::printer::{Printer, table};
use crate::site::Site;

pub(crate) async fn run(
    site: &Site,
    name: Option<&str>,
    is_whole: bool,
    printer: &Printer,
) -> anyhow::Result<()> {
    let code = workshop_place(site)?.directory.join("site");
    let logs = logs(site);
    let audited = tokio::task::spawn_blocking(move || audit(&code, &logs));
    let mut all = audited.await??;
    if let Some(name) = name {
        let is_named = |owner: &str| owner == name || owner.rsplit('/').next() == Some(name);
        all.retain(|entry| is_named(&entry.owner));
        if all.is_empty() {
            let none = format!("`{name}` writes nothing, or is no plugin or theme of the site");
            return Err(Failure::new(ErrorKind::Usage, none)
                .with_hint("`flotilla audit --all` names all that write something")
                .into());
        }
    }
    if printer.is_json() {
        return printer.json(&all);
    }
    let shown: Vec<&Entry> = all
        .iter()
        .filter(|entry| is_whole || name.is_some() || entry.verdict != Verdict::Fine)
        .collect();
    print(&shown, all.len(), printer);
    Ok(())
}

fn print(shown: &[&Entry], all: usize, printer: &Printer) {
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|entry| {
            let denied = if entry.denied > 0 {
                format!("denied {} times; {}", entry.denied, entry.remedy)
            } else {
                entry.remedy.to_owned()
            };
            vec![
                entry.owner.clone(),
                entry.verdict.as_str().to_owned(),
                entry.place.clone(),
                entry.first.clone(),
                denied,
            ]
        })
        .collect();
    printer.line(table(&["WHO", "VERDICT", "WRITES", "FIRST SEEN AT", "WHAT TO DO"], &rows));
    if shown.len() < all {
        printer.say(format!("{} more are fine; --all shows them", all - shown.len()));
    }
}

/// The logs of all slots of this machine, and what was put aside of them.
fn logs(site: &Site) -> Vec<PathBuf> {
    let mut logs = Vec::new();
    for instance in site.layout.instances_made() {
        for slot in SlotName::ALL {
            let directory = site.layout.instance(&instance).join(slot.as_str()).join("log");
            let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let is_ours = |path: &PathBuf| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("php-error.log"))
            };
            logs.extend(files.map(|file| file.path()).filter(is_ours));
        }
    }
    logs.sort();
    logs
}

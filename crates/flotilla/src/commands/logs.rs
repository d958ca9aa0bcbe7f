//! `flotilla logs`: what the parts wrote, each line with its part.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::slot::SlotName;
use flotilla_host::files::tail;
use flotilla_host::media::MOUNT_LOG;

use crate::printer::Printer;
use crate::site::Site;

const FOLLOW_INTERVAL: Duration = Duration::from_millis(300);
/// The logs of a slot.
const SLOT_LOGS: [&str; 4] = ["slot.log", "nginx-error.log", "php-fpm.log", "php-error.log"];

pub(crate) async fn run(
    site: &Site,
    part: Option<&str>,
    lines: usize,
    follow: bool,
    printer: &Printer,
) -> anyhow::Result<()> {
    let all = files(site);
    if all.is_empty() {
        // Fails with the word for that when there is no fleet at all.
        site.client()?;
    }
    let is_wanted =
        |name: &str| part.is_none_or(|part| name == part || name.starts_with(&format!("{part}/")));
    let wanted: BTreeMap<String, PathBuf> = all
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, path)| (name.clone(), path.clone()))
        .collect();
    if wanted.is_empty() {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        return Err(Failure::new(
            ErrorKind::Usage,
            format!("there is no log of `{}`", part.unwrap_or("any part")),
        )
        .with_hint(format!("there are logs of: {}", known.join(", ")))
        .into());
    }
    for (name, path) in &wanted {
        for line in tail(path, lines).lines() {
            show(name, line, printer)?;
        }
    }
    if follow { follow_all(&wanted, printer).await } else { Ok(()) }
}

fn show(part: &str, line: &str, printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        return printer.json(&serde_json::json!({ "part": part, "line": line }));
    }
    printer.line(format!("{part}: {line}"));
    Ok(())
}

fn files(site: &Site) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(site.layout.logs()).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(name) = path.file_stem()
        {
            let name = name.to_string_lossy();
            let name = match name.strip_prefix("agent-") {
                Some(instance) => format!("{instance}/agent"),
                None => name.into_owned(),
            };
            files.insert(name, path.clone());
        }
    }
    let mut add = |name: String, path: PathBuf| {
        if path.exists() {
            files.insert(name, path);
        }
    };
    add("foreman/media".to_owned(), site.layout.foreman_media().join(MOUNT_LOG));
    for instance in site.layout.instances_made() {
        let sessions = site.layout.instance(&instance).join("sessions/log/sessions.log");
        add(format!("{instance}/sessions"), sessions);
        add(format!("{instance}/media"), site.layout.instance_media(&instance).join(MOUNT_LOG));
        for slot in SlotName::ALL {
            let directory = site.layout.instance(&instance).join(slot.as_str()).join("log");
            for file in SLOT_LOGS {
                let name = file.trim_end_matches(".log");
                add(format!("{instance}/{slot}/{name}"), directory.join(file));
            }
        }
    }
    files
}

async fn follow_all(files: &BTreeMap<String, PathBuf>, printer: &Printer) -> anyhow::Result<()> {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let mut positions: BTreeMap<&String, u64> =
        files.iter().map(|(name, path)| (name, size(path))).collect();
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
        }
        for (name, path) in files {
            let Some(position) = positions.get_mut(name) else { continue };
            // A log that was moved aside starts anew.
            if size(path) < *position {
                *position = 0;
            }
            let text = added(path, position).unwrap_or_default();
            for line in text.lines() {
                show(name, line, printer)?;
            }
        }
    }
}

/// Returns the whole lines that were added since a position, and moves it behind them.
fn added(path: &PathBuf, position: &mut u64) -> std::io::Result<String> {
    const PIECE_BYTES_MAX: u64 = 1024 * 1024;
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(*position))?;
    let mut bytes = Vec::new();
    file.take(PIECE_BYTES_MAX).read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(end);
    *position += end as u64;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

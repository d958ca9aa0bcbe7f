//! `flotilla packages`: the Debian packages that a local fleet needs.

use flotilla_targets::local::packages::{Installer, Machine, PackagesError};

use crate::failure::configuration;
use crate::printer::Printer;

pub(crate) async fn run(install: bool, printer: &Printer) -> anyhow::Result<()> {
    if install {
        let installed = install_missing(printer).await?;
        if printer.is_json() {
            return printer.json(&serde_json::json!({ "installed": installed }));
        }
        printer.say(match installed.len() {
            0 => "All packages are installed".to_owned(),
            count => format!("Installed {count} packages: {}", installed.join(" ")),
        });
        return Ok(());
    }
    let missing = Machine::this().missing().await?;
    if printer.is_json() {
        return printer.json(&serde_json::json!({ "missing": missing }));
    }
    match missing.len() {
        0 => printer.say("All packages are installed"),
        _ => missing.iter().for_each(|package| printer.line(package)),
    }
    Ok(())
}

/// Installs what is missing; returns the packages' names.
pub(crate) async fn install_missing(printer: &Printer) -> anyhow::Result<Vec<String>> {
    let missing = Machine::this().missing().await?;
    let mut progress = printer.progress();
    let count = missing.len();
    let outcome = Installer::default()
        .install(&missing, |line| progress.doing(format!("Installing {count} packages: {line}")))
        .await;
    progress.done();
    match outcome {
        Ok(()) => Ok(missing),
        Err(error @ PackagesError::NotAllowed { .. }) => {
            Err(configuration(error.to_string()).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses to go on while packages are missing.
pub(crate) async fn require() -> anyhow::Result<()> {
    let missing = Machine::this().missing().await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(configuration(format!("Debian packages are missing: {}", missing.join(" ")))
        .with_hint("`flotilla up --install` installs them and starts none of their services")
        .into())
}

//! `flotilla config`: the configuration in force, and what is taken into it from a `wp-config.php`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use flotilla_core::config::{Config, FILE_NAME};
use flotilla_core::wp_config;
use flotilla_foreman::imported;
use flotilla_host::files::{Access, write_atomic};
use flotilla_host::ownership::set_mode;

use crate::failure::configuration;
use crate::printer::Printer;
use crate::site::Site;

const PRIVATE: u32 = 0o600;

pub(crate) fn run(site: &Site, printer: &Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        return printer.json(&site.config.effective()?);
    }
    printer.line(site.config.effective_toml().trim_end());
    let taken = imported::read(&site.layout.foreman())?;
    let others: Vec<String> = taken
        .iter()
        .filter(|(name, _)| !site.config.wordpress.constants.contains_key(*name))
        .map(|(name, value)| format!("# {name} = {value}"))
        .collect();
    if !others.is_empty() {
        printer.line("\n# Constants in force that came with the site's own wp-config.php:");
        printer.line(others.join("\n"));
    }
    Ok(())
}

/// Takes the constants of a file into `flotilla.toml`.
pub(crate) fn take(site: &Site, file: &Path, printer: &Printer) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let reading = wp_config::read(&String::from_utf8_lossy(&text));
    for line in imported::lines(&reading.notes) {
        printer.say(format!("left out: {line}"));
    }
    let prefix = &site.config.database.table_prefix;
    if let Some(other) = reading.table_prefix.as_ref().filter(|other| *other != prefix) {
        printer.say(format!("left out: `$table_prefix`: set `database.table_prefix = \"{other}\"` if the tables are restored"));
    }
    let mut taken = reading;
    let has = &site.config.wordpress.constants;
    taken.taken.retain(|name, value| has.get(name) != Some(value));
    if taken.taken.is_empty() {
        printer.say("There is nothing to take");
        return Ok(());
    }
    let target = site.directory.join(FILE_NAME);
    let appended = format!("{}\n{}", site.config_text.trim_end(), taken.toml());
    if !has.is_empty() || Config::parse(FILE_NAME, &appended).is_err() {
        printer.line(taken.toml().trim_end());
        return Err(configuration(format!("`{FILE_NAME}` has constants already"))
            .with_hint("put the lines above below its `[wordpress.constants]` yourself")
            .into());
    }
    // It may hold a password, so it stays as private as it was.
    let mode = std::fs::metadata(&target).map_or(PRIVATE, |data| data.permissions().mode() & 0o777);
    write_atomic(&target, format!("{}\n", appended.trim()).as_bytes(), Access::Private)?;
    set_mode(&target, mode)?;
    let names: Vec<&str> = taken.taken.keys().map(String::as_str).collect();
    printer.say(format!(
        "Took {} into {}; `flotilla up` and a deploy bring them into force",
        names.join(", "),
        target.display()
    ));
    Ok(())
}

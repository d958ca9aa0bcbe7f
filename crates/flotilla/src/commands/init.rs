//! `flotilla init`: a configuration file with every key explained.

use std::path::Path;

use anyhow::Context;
use flotilla_core::config::{Config, FILE_NAME};
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_host::files::{Access, make_directory, write_atomic};

use crate::printer::Printer;

pub(crate) fn run(directory: &Path, is_forced: bool, printer: &Printer) -> anyhow::Result<()> {
    make_directory(directory)?;
    let path = directory.join(FILE_NAME);
    if path.exists() && !is_forced {
        return Err(Failure::new(
            ErrorKind::Refused,
            format!("`{}` is there already", path.display()),
        )
        .with_hint("edit it, or replace it with `flotilla init --force`")
        .into());
    }
    // It may come to hold the password of a database.
    write_atomic(&path, Config::default().template().as_bytes(), Access::Private)
        .context("cannot write the configuration")?;
    printer.say(format!("Wrote {}; now `flotilla up` starts the fleet", path.display()));
    Ok(())
}

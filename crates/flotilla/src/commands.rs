//! One file for each command, and the choice between them.

mod audit;
mod blame;
mod captures;
mod config;
mod cron;
mod db;
mod deploy;
mod destroy;
mod down;
mod history;
mod init;
mod logs;
mod media;
mod packages;
mod releases;
mod scale;
mod secrets;
mod status;
mod up;
mod wp;

use std::process::ExitCode;

use crate::cli::{Arguments, Command};
use crate::internal;
use crate::printer::Printer;
use crate::site::Site;

/// Runs the command that was asked for.
pub(crate) async fn run(arguments: Arguments, printer: &Printer) -> anyhow::Result<ExitCode> {
    let directory = &arguments.directory;
    match arguments.command {
        Command::Init { force } => init::run(directory, force, printer)?,
        Command::Up { install, timeout, .. } => {
            let limit = std::time::Duration::from_secs(timeout);
            up::run(Site::open(directory)?, install, limit, printer).await?;
        }
        Command::Down => down::run(&Site::open_to_stop(directory, printer)?, printer).await?,
        Command::Destroy { yes } => {
            destroy::run(&Site::open_to_stop(directory, printer)?, yes, printer).await?;
        }
        Command::Deploy { revision, detach, no_wait, force, .. } => {
            let order = deploy::Order { revision, detach, waits: !no_wait, is_forced: force };
            return deploy::deploy(&Site::open(directory)?, order, printer).await;
        }
        Command::Rollback { to, force, .. } => {
            return deploy::roll_back(&Site::open(directory)?, to, force, printer).await;
        }
        Command::Releases { limit, .. } => {
            releases::run(&Site::open(directory)?, limit, printer).await?;
        }
        Command::Captures { command, limit, .. } => {
            captures::run(&Site::open(directory)?, command, limit, printer).await?;
        }
        Command::History { path, limit, patch, .. } => {
            let wanted = history::Wanted { path, limit, has_patch: patch };
            history::run(&Site::open(directory)?, wanted, printer).await?;
        }
        Command::Blame { path, .. } => {
            blame::run(&Site::open(directory)?, &path, printer).await?;
        }
        Command::Status { watch, .. } => {
            status::run(&Site::open(directory)?, watch, printer).await?;
        }
        Command::Logs { part, lines, follow, .. } => {
            logs::run(&Site::open(directory)?, part.as_deref(), lines, follow, printer).await?;
        }
        Command::Scale { instances, .. } => {
            scale::run(&Site::open(directory)?, instances, printer).await?;
        }
        Command::Cron { hook, limit, .. } => {
            cron::run(&Site::open(directory)?, hook, limit, printer).await?;
        }
        Command::Wp { arguments } => return wp::run(&Site::open(directory)?, arguments).await,
        Command::Config { take: Some(file), .. } => {
            config::take(&Site::open(directory)?, &file, printer)?;
        }
        Command::Config { take: None, .. } => config::run(&Site::open(directory)?, printer)?,
        Command::Audit { name, all, .. } => {
            audit::run(&Site::open(directory)?, name.as_deref(), all, printer).await?;
        }
        Command::Db { command } => {
            return db::run(&Site::open(directory)?, command, printer).await;
        }
        Command::Media { command } => {
            media::run(&Site::open(directory)?, command, printer).await?;
        }
        Command::Secrets { command } => {
            secrets::run(&Site::open(directory)?, command, printer).await?;
        }
        Command::Packages { install, .. } => packages::run(install, printer).await?,
        Command::Internal { command } => return Box::pin(internal::run(command, printer)).await,
    }
    Ok(ExitCode::SUCCESS)
}

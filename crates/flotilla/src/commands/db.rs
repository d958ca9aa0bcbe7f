//! `flotilla db`: the site's database by the server's own client programs, without its password on
//! any command line.

use std::io::{BufRead, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_foreman::database::{DatabaseError, Restore, dump, dump_to_file};
use flotilla_host::command::Command as Run;
use flotilla_host::inside::Inside;
use serde::Deserialize;
use tokio::time::Instant;

use crate::cli::Db as Command;
use crate::failure::unavailable;
use crate::local::{database_client, workshop};
use crate::printer::{Printer, duration};
use crate::site::Site;

const UPGRADE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(600);

pub(crate) async fn run(
    site: &Site,
    command: Command,
    printer: &Printer,
) -> anyhow::Result<ExitCode> {
    if !site.vault().exists() {
        let none = unavailable(format!("there is no fleet in `{}`", site.directory.display()));
        return Err(none.with_hint("`flotilla up` starts one; -C names another directory").into());
    }
    match command {
        Command::Shell => Err(shell(site)?),
        Command::Dump { file } => write_dump(site, file, printer).await.map(|()| ExitCode::SUCCESS),
        Command::Restore { file, yes, .. } => {
            restore(site, &file, yes, printer).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

/// Becomes the client; returns only when that failed.
fn shell(site: &Site) -> anyhow::Result<anyhow::Error> {
    let client = database_client(site, false)?;
    let (arguments, directory) = client.shell()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this process becomes the client, with its terminal"
    )]
    let mut command = std::process::Command::new(&client.program);
    command.args(arguments);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    Ok(command.exec().into())
}

async fn write_dump(site: &Site, file: Option<PathBuf>, printer: &Printer) -> anyhow::Result<()> {
    let client = database_client(site, false)?;
    let started_at = Instant::now();
    let Some(file) = file else {
        if std::io::stdout().is_terminal() {
            let usage = Failure::new(ErrorKind::Usage, "a dump is not for a terminal");
            return Err(usage
                .with_hint("name a file, or pipe it: `flotilla db dump | zstd > shop.sql.zst`")
                .into());
        }
        let path = Path::new("standard output");
        let output = std::io::stdout().as_fd().try_clone_to_owned()?;
        let mut output = tokio::fs::File::from_std(output.into());
        return dump(&client, &mut output, path).await.map(drop).map_err(silent);
    };
    let mut progress = printer.progress();
    progress.doing(format!("Dumping the database into {}", file.display()));
    let outcome = dump_to_file(&client, &file).await;
    progress.done();
    let bytes = outcome.map_err(silent)?;
    printer.say(format!(
        "Dumped {} MiB into {} in {}",
        bytes >> 20,
        file.display(),
        duration(started_at.elapsed())
    ));
    Ok(())
}

/// A server that does not answer may do so later.
fn silent(error: DatabaseError) -> anyhow::Error {
    match error {
        DatabaseError::Client(_) => unavailable(chain(&error))
            .with_hint("is the fleet up? `flotilla status` and `flotilla logs database` tell more")
            .into(),
        DatabaseError::NotRestorable { .. } => {
            Failure::new(ErrorKind::Refused, error.to_string()).into()
        }
        error => error.into(),
    }
}

async fn restore(site: &Site, file: &Path, is_sure: bool, printer: &Printer) -> anyhow::Result<()> {
    refuse_while_deploying(site).await?;
    let started_at = Instant::now();
    let mut progress = printer.progress();
    progress.doing(format!("Reading {} beside the site's database", file.display()));
    let client = database_client(site, true)?;
    let prefix = &site.config.database.table_prefix;
    let read = Restore::read(client, file, prefix).await;
    progress.done();
    let ready = read.map_err(silent)?;
    if let Err(failure) = may_swap(site, &ready, is_sure, printer).await {
        // What was read is rubbish now; the reason to stop matters more than its removal.
        drop(ready.abandon().await);
        return Err(failure);
    }
    let restored = ready.swap().await.map_err(silent)?;
    let mut progress = printer.progress();
    progress.doing("Bringing the restored database to the code");
    let upgraded = upgrade(site).await;
    progress.done();
    let upgraded = upgraded?;
    if printer.is_json() {
        return printer.json(&serde_json::json!({
            "tables": restored.tables,
            "before": restored.before,
            "upgraded": upgraded.changed,
        }));
    }
    printer.say(format!(
        "Restored {} tables in {}; what was there before is in the database `{}` until the next restore",
        restored.tables,
        duration(started_at.elapsed()),
        restored.before
    ));
    Ok(())
}

async fn may_swap(
    site: &Site,
    ready: &Restore,
    is_sure: bool,
    printer: &Printer,
) -> anyhow::Result<()> {
    let status = site.client()?.status().await?;
    let code = status.release.as_ref().and_then(|release| release.db_version);
    let dump = ready.db_version().await.map_err(silent)?;
    if let (Some(code), Some(dump)) = (code, dump)
        && dump > code
    {
        let newer = Failure::new(
            ErrorKind::Refused,
            format!("the dump has database version {dump}, but the code in service knows {code}"),
        );
        return Err(newer.with_hint("deploy the code that belongs to the dump first").into());
    }
    if !is_sure && !ask(printer)? {
        return Err(Failure::new(ErrorKind::Refused, "nothing was restored")
            .with_hint("type the word `restore`, or use --yes")
            .into());
    }
    // People take their time to answer.
    refuse_while_deploying(site).await
}

async fn refuse_while_deploying(site: &Site) -> anyhow::Result<()> {
    let status = site.client()?.status().await?;
    let Some(deploy) = status.deploy else { return Ok(()) };
    let busy = Failure::new(
        ErrorKind::Refused,
        format!("deploy {} is under way, which may change the database", deploy.request.id),
    );
    Err(busy.with_hint("wait for it with `flotilla status --watch`").into())
}

fn ask(printer: &Printer) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    printer.say(
        "This takes the site back to the dump: orders and posts since then go out of use.\n\
         Type `restore` to go on:",
    );
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "restore")
}

#[derive(Debug, Deserialize)]
struct Upgraded {
    changed: bool,
}

/// Upgrades what an older dump lacks, and makes every cache of the database void.
async fn upgrade(site: &Site) -> anyhow::Result<Upgraded> {
    let script = format!("{}/upgrade.php", flotilla_core::layout::PHP);
    let inside: Inside = workshop(site).await?.inside(vec![script, "--flush".to_owned()]);
    let output = Run::new(std::env::current_exe()?)
        .called("upgrade.php")
        .args(["internal", "inside", &serde_json::to_string(&inside)?])
        .time_limit(UPGRADE_TIMEOUT)
        .run()
        .await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

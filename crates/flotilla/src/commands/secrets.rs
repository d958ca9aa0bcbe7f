//! `flotilla secrets`: names the site's secrets, shows one, replaces some.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use flotilla_core::api::RotateRequest;
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::rotation::Kind;
use flotilla_foreman::secrets::{SALT_NAMES, Secrets};
use tokio::time::Instant;

use crate::cli::{SecretKind, Secrets as Command};
use crate::failure::unavailable;
use crate::printer::{Printer, duration, table};
use crate::site::Site;

/// A rotation may wait for a deploy, and for the last requests of the one before.
const ROTATION_TIMEOUT: Duration = Duration::from_secs(20 * 60);
const POLL_INTERVAL: Duration = Duration::from_millis(300);

pub(crate) async fn run(site: &Site, command: Command, printer: &Printer) -> anyhow::Result<()> {
    if !site.vault().exists() {
        let none = unavailable(format!("there is no fleet in `{}`", site.directory.display()));
        return Err(none.with_hint("`flotilla up` starts one; -C names another directory").into());
    }
    match command {
        Command::List { .. } => list(site, printer),
        Command::Show { name } => show(site, &name, printer),
        Command::Rotate { kinds, yes, .. } => rotate(site, &kinds, yes, printer).await,
    }
}

/// Returns the kind that a secret is replaced with.
fn kind_of(name: &str) -> Option<Kind> {
    match name {
        "operator_token" | "balancer_token" => Some(Kind::Tokens),
        "database_password" => Some(Kind::Database),
        name if SALT_NAMES.contains(&name) => Some(Kind::Salts),
        _ => None,
    }
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Salts => "salts",
        Kind::Database => "database",
        Kind::Tokens => "tokens",
    }
}

fn list(site: &Site, printer: &Printer) -> anyhow::Result<()> {
    let secrets = site.secrets()?;
    let is_open = secrets.open() != flotilla_core::rotation::Open::default();
    let rotated_at = |name: &str| kind_of(name).and_then(|kind| secrets.rotated_at.get(&kind));
    if printer.is_json() {
        let all: Vec<_> = secrets
            .named()
            .iter()
            .map(|(name, purpose, _)| {
                serde_json::json!({
                    "name": name,
                    "purpose": purpose,
                    "rotate": kind_of(name).map(word),
                    "rotated_at": rotated_at(name),
                })
            })
            .collect();
        return printer.json(&serde_json::json!({ "secrets": all, "is_rotating": is_open }));
    }
    let rows: Vec<Vec<String>> = secrets
        .named()
        .into_iter()
        .map(|(name, purpose, _)| {
            let kind = kind_of(&name).map_or("-", word).to_owned();
            vec![name, kind, purpose.to_owned()]
        })
        .collect();
    printer.line(table(&["NAME", "ROTATE", "WHAT FOR"], &rows));
    if is_open {
        printer.say("A rotation is under way; `flotilla logs foreman` tells how far it is");
    }
    Ok(())
}

fn show(site: &Site, name: &str, printer: &Printer) -> anyhow::Result<()> {
    let secrets = site.secrets()?;
    let all = secrets.named();
    let Some((_, _, secret)) = all.iter().find(|(known, ..)| known == name) else {
        let unknown = Failure::new(ErrorKind::Usage, format!("there is no secret `{name}`"));
        return Err(unknown.with_hint("`flotilla secrets list` names them").into());
    };
    printer.line(secret.reveal());
    Ok(())
}

async fn rotate(
    site: &Site,
    kinds: &[SecretKind],
    is_sure: bool,
    printer: &Printer,
) -> anyhow::Result<()> {
    if kinds.contains(&SecretKind::Salts) && !is_sure && !ask(printer)? {
        return Err(Failure::new(ErrorKind::Refused, "nothing was replaced")
            .with_hint("type the word `rotate`, or use --yes")
            .into());
    }
    let started_at = Instant::now();
    let mut kinds: Vec<Kind> = kinds.iter().map(|kind| kind_from(*kind)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    site.client()?.rotate(&RotateRequest { kinds: kinds.clone() }).await?;
    follow(site, started_at, printer).await?;
    if printer.is_json() {
        return printer.json(&serde_json::json!({ "rotated": kinds }));
    }
    let names: Vec<&str> = kinds.iter().map(|kind| word(*kind)).collect();
    let took = duration(started_at.elapsed());
    printer.say(format!("Replaced {} in {took}", names.join(", ")));
    Ok(())
}

/// The foreman starts anew on the way, and knows the operator by another token then.
async fn follow(site: &Site, started_at: Instant, printer: &Printer) -> anyhow::Result<()> {
    let mut progress = printer.progress();
    loop {
        let secrets = site.secrets()?;
        if let Ok(status) = site.client()?.rotation().await {
            if status.is_over && is_whole(&secrets) {
                break;
            }
            progress.doing(match status.trouble {
                Some(trouble) => format!("{trouble}; trying again"),
                None => status.doing,
            });
        }
        if started_at.elapsed() > ROTATION_TIMEOUT {
            return Err(unavailable("the rotation is not over yet; the foreman goes on with it")
                .with_hint(
                    "`flotilla secrets list` tells whether it is; `flotilla logs foreman` why not",
                )
                .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    progress.done();
    Ok(())
}

fn is_whole(secrets: &Secrets) -> bool {
    secrets.open() == flotilla_core::rotation::Open::default()
}

const fn kind_from(kind: SecretKind) -> Kind {
    match kind {
        SecretKind::Salts => Kind::Salts,
        SecretKind::Database => Kind::Database,
        SecretKind::Tokens => Kind::Tokens,
    }
}

fn ask(printer: &Printer) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    printer.say("New salts log everybody out, customers too; carts stay.\nType `rotate` to go on:");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "rotate")
}

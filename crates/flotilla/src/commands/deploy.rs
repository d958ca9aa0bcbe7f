//! `flotilla deploy` and `flotilla rollback`: ask, follow, tell how it ended.

use std::process::ExitCode;

use flotilla_core::api::{DeployRecord, DeployReply, DeployRequest, RollbackRequest};
use flotilla_core::deploy::Outcome;
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::id::DeployId;

use crate::client::Client;
use crate::patience::{Patience, WAITING};
use crate::printer::{Printer, duration};
use crate::site::Site;

/// What to deploy, and how patiently.
pub(crate) struct Order {
    pub(crate) revision: Option<String>,
    pub(crate) detach: bool,
    pub(crate) waits: bool,
    pub(crate) is_forced: bool,
}

pub(crate) async fn deploy(
    site: &Site,
    order: Order,
    printer: &Printer,
) -> anyhow::Result<ExitCode> {
    let client = site.client()?;
    let request = DeployRequest {
        revision: order.revision,
        author: author(),
        waits: order.waits,
        is_forced: order.is_forced,
    };
    let reply = client.deploy(&request).await?;
    if order.detach {
        if printer.is_json() {
            printer.json(&reply)?;
        } else {
            printer.say(format!("Deploy {} of {} was accepted", reply.id, reply.revision.short()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let record = follow(&client, &reply, printer).await?;
    Ok(conclude(&record, "Deployed", printer))
}

pub(crate) async fn roll_back(
    site: &Site,
    to: Option<String>,
    is_forced: bool,
    printer: &Printer,
) -> anyhow::Result<ExitCode> {
    let client = site.client()?;
    let request = RollbackRequest { to, author: author(), is_forced };
    let reply = client.roll_back(&request).await?;
    let record = follow(&client, &reply, printer).await?;
    if reply.is_called_off && record.outcome.as_ref().is_some_and(|outcome| !outcome.is_settled()) {
        let revision = record.release.revision.short();
        printer.say(format!(
            "Called off deploy {} of {revision}; the release before serves",
            reply.id
        ));
        return Ok(ExitCode::SUCCESS);
    }
    Ok(conclude(&record, "Rolled back to", printer))
}

/// Waits for the end of a deploy, also over a restart of the foreman.
async fn follow(
    client: &Client,
    reply: &DeployReply,
    printer: &Printer,
) -> anyhow::Result<DeployRecord> {
    let mut progress = printer.progress();
    let mut patience = Patience::default();
    let revision = reply.revision.short();
    let record = loop {
        let answer = patience.bear(client.wait_for_deploy(reply.id).await).await;
        let Some(record) = answer.map_err(|failure| goes_on(failure, reply.id))? else {
            progress.doing(format!("{revision}: {WAITING}"));
            continue;
        };
        if record.outcome.is_some() {
            break record;
        }
        progress.doing(match client.status().await {
            Ok(status) => match status.deploy.filter(|deploy| deploy.request.id == reply.id) {
                Some(deploy) => format!("{revision}: {}", deploy.phase.as_str()),
                None if reply.behind.is_some() => {
                    format!("{revision}: waiting for the deploy before it")
                }
                None => format!("{revision}: starting"),
            },
            Err(_silent) => format!("{revision}: {WAITING}"),
        });
    };
    progress.done();
    if printer.is_json() {
        printer.json(&record)?;
    }
    Ok(record)
}

/// A command that cannot follow any longer says that the deploy does not end with it.
fn goes_on(failure: Failure, id: DeployId) -> Failure {
    if failure.kind != ErrorKind::Unavailable {
        return failure;
    }
    failure.with_hint(format!(
        "deploy {id} goes on when the foreman is back; `flotilla releases` tells how it ended, \
         `flotilla logs foreman` why it is away"
    ))
}

fn conclude(record: &DeployRecord, verb: &str, printer: &Printer) -> ExitCode {
    let revision = record.release.revision.short();
    let failed = |text: String| {
        printer.say(format!("error: {text}"));
        printer
            .say("\nhint: `flotilla logs` shows what the parts said; the release before serves on");
        ExitCode::from(ErrorKind::Refused.exit_code())
    };
    match &record.outcome {
        Some(Outcome::Settled { instances }) => {
            let took = record.took_millis.map(std::time::Duration::from_millis);
            let took = took.map_or_else(String::new, |time| format!(" in {}", duration(time)));
            printer.say(format!("{verb} {revision} on {instances} instances{took}"));
            ExitCode::SUCCESS
        }
        Some(Outcome::Failed { reason }) => {
            failed(format!("`{revision}` was not deployed: {reason}"))
        }
        Some(Outcome::SwappedBack { reason }) => {
            failed(format!("`{revision}` was taken back: {reason}"))
        }
        Some(Outcome::Superseded) => {
            failed(format!("`{revision}` gave way to a newer deploy before it began"))
        }
        None => ExitCode::SUCCESS,
    }
}

/// Says who types, for the history.
fn author() -> String {
    std::env::var("SUDO_USER")
        .or_else(|_| std::env::var("USER"))
        .unwrap_or_else(|_| "operator".to_owned())
}

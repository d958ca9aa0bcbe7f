//! `flotilla deploy` and `flotilla rollback`: ask, follow, tell how it ended.

use std::process::ExitCode;

use flotilla_core::api::{DeployRecord, DeployReply, DeployRequest, RollbackRequest};
use flotilla_core::deploy::Outcome;
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::id::{DeployId, Revision};

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
    let serving = serving(&client).await;
    Ok(conclude(&record, "Deployed", serving.as_ref(), printer))
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
    let serving = serving(&client).await;
    if reply.is_called_off && record.outcome.as_ref().is_some_and(|outcome| !outcome.is_settled()) {
        return Ok(conclude_called_off(&record, serving.as_ref(), printer));
    }
    Ok(conclude(&record, "Rolled back to", serving.as_ref(), printer))
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

/// Returns what serves; `None` when nobody says.
async fn serving(client: &Client) -> Option<Revision> {
    client.status().await.ok()?.release.map(|release| release.revision)
}

fn conclude_called_off(
    record: &DeployRecord,
    serving: Option<&Revision>,
    printer: &Printer,
) -> ExitCode {
    let (id, revision) = (record.id, &record.release.revision);
    match serving {
        Some(serving) if serving == revision => {
            let reason = record.outcome.as_ref().map(Outcome::reason).unwrap_or_default();
            printer.say(format!(
                "error: deploy {id} was called off, but `{}` still serves: {reason}",
                revision.short()
            ));
            printer.say("\nhint: `flotilla status` shows what the instances hold");
            ExitCode::from(ErrorKind::Partial.exit_code())
        }
        Some(serving) => {
            let serving = serving.short();
            printer
                .say(format!("Called off deploy {id} of {}; {serving} serves", revision.short()));
            ExitCode::SUCCESS
        }
        None => {
            printer.say(format!("Called off deploy {id} of {}", revision.short()));
            ExitCode::SUCCESS
        }
    }
}

/// Tells how a deploy ended. One that left instances out has succeeded: the fleet serves the release,
/// and they join without anybody's help.
fn conclude(
    record: &DeployRecord,
    verb: &str,
    serving: Option<&Revision>,
    printer: &Printer,
) -> ExitCode {
    let revision = record.release.revision.short();
    let Some(outcome) = &record.outcome else { return ExitCode::SUCCESS };
    let reason = outcome.reason();
    let error = match outcome {
        Outcome::Settled { instances, left_out } => {
            let took = record.took_millis.map(std::time::Duration::from_millis);
            let took = took.map_or_else(String::new, |time| format!(" in {}", duration(time)));
            let total = instances + left_out.len();
            printer.say(format!("{verb} {revision} on {instances} of {total} instances{took}"));
            if !left_out.is_empty() {
                printer.say(format!("{reason}; what was left out joins when it is ready"));
            }
            return ExitCode::SUCCESS;
        }
        Outcome::Failed { .. } => format!("`{revision}` was not deployed: {reason}"),
        Outcome::SwappedBack { .. } => format!("`{revision}` was taken back: {reason}"),
        Outcome::Superseded { .. } => format!("`{revision}` was not begun: {reason}"),
    };
    printer.say(format!("error: {error}"));
    let state = match serving {
        Some(serving) if *serving == record.release.revision => {
            format!("; `{revision}` serves nevertheless")
        }
        Some(serving) => format!("; `{}` serves", serving.short()),
        None => String::new(),
    };
    printer.say(format!("\nhint: `flotilla logs` shows what the parts said{state}"));
    ExitCode::from(ErrorKind::Refused.exit_code())
}

/// Says who types, for the history.
/// Returns who is at this terminal.
pub(super) fn author() -> String {
    std::env::var("SUDO_USER")
        .or_else(|_| std::env::var("USER"))
        .unwrap_or_else(|_| "operator".to_owned())
}

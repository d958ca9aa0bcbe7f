//! The agent's line to the foreman: joining, reporting, and hearing what is wanted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::api::{SyncReply, SyncRequest};
use flotilla_core::error::chain;
use flotilla_core::id::Token;
use flotilla_core::report::AgentReport;
use flotilla_host::files::{Access, write_atomic};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Options;
use crate::agent::AgentError;
use crate::foreman::{Foreman, ForemanError};

/// How long the foreman may hold a report back when there is no news.
const SYNC_WAIT: Duration = Duration::from_secs(2);
const SYNC_RETRY: Duration = Duration::from_millis(500);
/// A foreman that refuses a token this often in a row has forgotten it, as after the loss of its
/// store.
const REFUSALS_MAX: u32 = 5;

/// Names the file of the agent's own token.
pub(crate) fn token_file(options: &Options) -> PathBuf {
    options.directory.join("token")
}

/// Gets the agent's token: its own, or a new one for its join token.
pub(crate) async fn authenticate(options: &Options) -> Result<Foreman, AgentError> {
    let own = token_file(options);
    let join = options.directory.join("join-token");
    if let Ok(token) = std::fs::read_to_string(&own) {
        return Ok(Foreman::new(options.foreman.clone(), Token::new(token.trim().to_owned()))?);
    }
    let token = std::fs::read_to_string(&join)
        .map_err(|_absent| AgentError::NoToken(options.directory.clone()))?;
    let joiner = Foreman::new(options.foreman.clone(), Token::new(token.trim().to_owned()))?;
    let token = match joiner.join(&options.instance).await {
        Ok(token) => token,
        Err(error @ ForemanError::Unreachable(_)) => return Err(AgentError::Join(error)),
        Err(error) => {
            // It is spent or wrong: without it, whoever keeps this instance makes a new one.
            drop(std::fs::remove_file(&join));
            return Err(AgentError::Join(error));
        }
    };
    write_atomic(&own, token.reveal().as_bytes(), Access::Private)?;
    drop(std::fs::remove_file(&join));
    Ok(Foreman::new(options.foreman.clone(), token)?)
}

/// Reports at every change and whenever the foreman has answered; hands on what it answers.
pub(crate) async fn sync(
    foreman: Foreman,
    token: PathBuf,
    mut reports: watch::Receiver<AgentReport>,
    news: watch::Sender<Option<Arc<SyncReply>>>,
    stopping: CancellationToken,
) {
    let mut refusals = 0;
    loop {
        let report = reports.borrow_and_update().clone();
        let wait_millis = u64::try_from(SYNC_WAIT.as_millis()).unwrap_or(u64::MAX);
        let request = SyncRequest { report, wait_millis };
        let outcome = tokio::select! {
            () = stopping.cancelled() => return,
            changed = reports.changed() => {
                if changed.is_err() { return }
                continue;
            }
            outcome = foreman.sync(&request) => outcome,
        };
        match outcome {
            Ok(reply) => {
                refusals = 0;
                news.send_if_modified(|last| {
                    let is_same = last.as_deref() == Some(&reply);
                    *last = Some(Arc::new(reply));
                    !is_same
                });
            }
            Err(ForemanError::Stranger) if refusals >= REFUSALS_MAX => {
                tracing::error!("The foreman has forgotten this instance, which joins anew");
                drop(std::fs::remove_file(&token));
                return stopping.cancel();
            }
            Err(error) => {
                let is_stranger = matches!(error, ForemanError::Stranger);
                refusals = if is_stranger { refusals + 1 } else { 0 };
                tracing::debug!(error = chain(&error), "The foreman cannot be asked");
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(SYNC_RETRY) => {}
                }
            }
        }
    }
}

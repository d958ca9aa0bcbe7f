//! Replaces secrets in a running fleet, step by step; which step is next is `core::rotation`'s.
//!
//! The foreman reads the secrets at its start. When those it works with were changed, it stops:
//! whoever keeps it starts it again, and the rotation goes on from what is stored.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::api::RotationStatus;
use flotilla_core::error::chain;
use flotilla_core::id::{DeployId, Token};
use flotilla_core::rotation::{Open, Seen, Step, next};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Secrets, Vault};
use crate::deploys::Deploys;
use crate::effects::Balancer;
use crate::engine::Snapshot;
use crate::store::Store;

/// Who asked, in the history of deploys.
const AUTHOR: &str = "flotilla secrets rotate";
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long a step that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long after a deploy that did not settle the next one is tried.
const DEPLOY_AGAIN_AFTER: Duration = Duration::from_secs(30);

type Outcome = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Sets the passwords that the database takes for the site's user, the one in use first.
#[derive(Clone)]
pub struct DatabaseAccount(Arc<dyn Fn(Vec<Token>) -> Outcome + Send + Sync>);

impl DatabaseAccount {
    /// Wraps whatever can do it.
    pub fn new(set: impl Fn(Vec<Token>) -> Outcome + Send + Sync + 'static) -> Self {
        Self(Arc::new(set))
    }

    async fn take(&self, passwords: Vec<Token>) -> Result<(), String> {
        (self.0)(passwords).await
    }
}

impl fmt::Debug for DatabaseAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DatabaseAccount(…)")
    }
}

/// What the task works with.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Where the secrets lie.
    pub vault: Vault,
    /// What the foreman was started with.
    pub at_start: Arc<Secrets>,
    /// Who sets the database's passwords; `None` when the database is not ours.
    pub account: Option<DatabaseAccount>,
    /// What deploys.
    pub deploys: Deploys,
    /// Where agents' tokens are.
    pub store: Store,
    /// Who must take a new token before it is used.
    pub balancer: Balancer,
    /// How long the last requests with older settings may run.
    pub drain_timeout: Duration,
    /// Whether scheduled work still runs that began with older settings; `cron.run_limit` ends it.
    pub has_former_runner: watch::Receiver<bool>,
    /// Tells the task that secrets were changed.
    pub nudge: Arc<Notify>,
    /// Stops the foreman.
    pub stopping: CancellationToken,
}

/// What the task remembers between two looks.
#[derive(Debug, Default)]
struct Memory {
    asked_for: Option<DeployId>,
    draining_since: Option<Instant>,
}

/// Follows the stored secrets until the foreman stops.
pub async fn rotate_secrets(rotation: Rotation, status: watch::Sender<RotationStatus>) {
    let mut memory = Memory::default();
    loop {
        let wait = match rotation.look(&mut memory, &status).await {
            Ok(wait) => {
                status.send_modify(|status| status.trouble = None);
                wait
            }
            Err(trouble) => {
                tracing::warn!(trouble, "A step of the rotation of secrets failed; trying again");
                status.send_modify(|status| status.trouble = Some(trouble));
                Some(RETRY_AFTER)
            }
        };
        let nudged = rotation.nudge.notified();
        match wait {
            Some(time) => drop(tokio::time::timeout(time, nudged).await),
            None => nudged.await,
        }
    }
}

impl Rotation {
    /// Does one step; returns how long to wait for the next look, `None` when all is done.
    async fn look(
        &self,
        memory: &mut Memory,
        status: &watch::Sender<RotationStatus>,
    ) -> Result<Option<Duration>, String> {
        let secrets = self.vault.load().map_err(|error| chain(&error))?;
        let Some(secrets) = secrets else { return Ok(None) };
        if !secrets.are_in_use(&self.at_start) {
            tracing::info!("The secrets were changed; stopping to begin with the new ones");
            self.stopping.cancel();
            return Ok(Some(POLL_INTERVAL));
        }
        let open = secrets.open();
        let seen = self.see(memory);
        let step = next(open, seen);
        let is_over = step == Step::Rest;
        status.send_modify(|status| {
            status.is_over = is_over;
            doing(step, open).clone_into(&mut status.doing);
        });
        if !is_over && step != Step::Wait {
            tracing::info!(event = "secrets.step", step = doing(step, open), "A rotation goes on");
        }
        self.act(step, secrets, memory).await?;
        Ok((!is_over).then_some(POLL_INTERVAL))
    }

    fn see(&self, memory: &mut Memory) -> Seen {
        let snapshot = self.deploys.engine.snapshots().borrow().clone();
        let release = snapshot.fleet.serving_release();
        let has_newest_settings =
            release.is_some_and(|release| release.settings == self.deploys.settings);
        let is_deploying = snapshot.fleet.deploy.is_some() || snapshot.fleet.queued.is_some();
        let is_settled = has_newest_settings && !is_deploying;
        let since = match memory.draining_since.filter(|_| is_settled) {
            Some(since) => since,
            None => Instant::now(),
        };
        memory.draining_since = is_settled.then_some(since);
        Seen {
            has_release: release.is_some(),
            has_newest_settings,
            is_deploying,
            is_drained: !*self.has_former_runner.borrow()
                && (is_idle(&snapshot) || since.elapsed() > self.drain_timeout),
        }
    }

    async fn act(
        &self,
        step: Step,
        mut secrets: Secrets,
        memory: &mut Memory,
    ) -> Result<(), String> {
        match step {
            Step::Wait | Step::Rest => return Ok(()),
            Step::AdoptPassword => {
                self.set_passwords(&secrets).await?;
                secrets.adopt_password();
            }
            Step::AdoptTokens => {
                self.check_balancer(&secrets).await?;
                self.store.revoke_agents().await.map_err(|error| chain(&error))?;
                secrets.adopt_tokens();
            }
            Step::Deploy => return self.deploy(memory).await,
            Step::NoteDeployed => secrets.pending.is_deploy_due = false,
            Step::VoidFormerPassword => {
                secrets.pending.database_password_former = None;
                self.set_passwords(&secrets).await?;
            }
        }
        self.vault.store(&secrets).map_err(|error| chain(&error))
    }

    async fn set_passwords(&self, secrets: &Secrets) -> Result<(), String> {
        match &self.account {
            Some(account) => account.take(secrets.database_passwords()).await,
            None => Ok(()),
        }
    }

    async fn check_balancer(&self, secrets: &Secrets) -> Result<(), String> {
        let Some(token) = secrets.pending.balancer_token.clone() else { return Ok(()) };
        let balancer = Balancer { token, ..self.balancer.clone() };
        let answer = balancer.status().await;
        answer.map(drop).ok_or_else(|| "the balancer does not take its new token yet".to_owned())
    }

    async fn deploy(&self, memory: &mut Memory) -> Result<(), String> {
        if let Some(id) = memory.asked_for.take() {
            tokio::time::sleep(DEPLOY_AGAIN_AFTER).await;
            return Err(format!("deploy {id} did not settle; `flotilla releases` tells more"));
        }
        let (id, ..) = self.deploys.again(AUTHOR).await.map_err(|failure| failure.message)?;
        memory.asked_for = Some(id);
        Ok(())
    }
}

/// Whether the balancer knows of no request in the colour that does not serve.
fn is_idle(snapshot: &Snapshot) -> bool {
    let idle = snapshot.fleet.serving.other();
    snapshot.balancer.as_ref().is_some_and(|status| status.in_flight(idle) == 0)
}

const fn doing(step: Step, open: Open) -> &'static str {
    match step {
        Step::AdoptPassword => "Letting the database take the new password too",
        Step::AdoptTokens => "Replacing the tokens",
        Step::Deploy => "Deploying what serves once more",
        Step::NoteDeployed => "All instances have the new secrets",
        Step::VoidFormerPassword => "Making the former password void",
        Step::Wait if open.is_deploy_due => "Waiting for the deploy to settle",
        Step::Wait => "Waiting for the last requests and scheduled events with the former password",
        Step::Rest => "Nothing is left to do",
    }
}

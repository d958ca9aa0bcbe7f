//! From what people ask for to what the engine takes: names become revisions, once.

use std::sync::Arc;

use flotilla_core::api::{DeployRequest, RollbackRequest};
use flotilla_core::deploy::Cause;
use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_core::fleet::{Accepted, Release};
use flotilla_core::id::{DeployId, Revision};
use tokio::sync::Mutex;

use crate::engine::{CallOff, CalledOff, Engine, Order};
use crate::imported;
use crate::repository::{Repository, RepositoryError};
use crate::store::Store;

/// How far back a release is looked for.
const HISTORY_MAX: u32 = 1_000;

/// Makes deploys out of requests.
#[derive(Debug, Clone)]
pub struct Deploys {
    /// Where revisions are.
    pub repository: Arc<Repository>,
    /// Where the history is.
    pub store: Store,
    /// What carries them out.
    pub engine: Engine,
    /// The branch that is deployed when none is named.
    pub branch: String,
    /// The digest of the settings that new releases run with.
    pub settings: String,
    /// Held while the branch is moved or followed, so that each move is one deploy.
    pub branch_moves: Arc<Mutex<()>>,
}

type Started = (DeployId, Revision, Accepted);

impl Deploys {
    /// Starts a deploy of a revision that is named in any way git knows.
    ///
    /// # Errors
    /// There is no such revision, it is no WordPress, or the fleet refuses.
    pub async fn deploy(&self, request: &DeployRequest) -> Result<Started, Failure> {
        let name = request.revision.as_deref().unwrap_or(&self.branch);
        let revision = self.resolve(name).await?;
        let order = Order {
            cause: Cause::Command,
            author: request.author.clone(),
            is_forced: request.is_forced,
            waits: request.waits,
            ..self.order(&revision).await?
        };
        self.start(order).await
    }

    /// Calls off the deploy under way; `None` when there is none.
    ///
    /// # Errors
    /// The fleet refuses.
    pub async fn call_off(&self, request: &RollbackRequest) -> Result<CalledOff, Failure> {
        if request.to.is_some() {
            return Ok(None);
        }
        let author = request.author.clone();
        self.engine.call_off(CallOff { author, is_forced: request.is_forced }).await
    }

    /// Starts a deploy of the release that served before this one, or of a named one that settled
    /// once.
    ///
    /// # Errors
    /// There is none, or the fleet refuses.
    pub async fn roll_back(&self, request: &RollbackRequest) -> Result<Started, Failure> {
        let revision = match &request.to {
            Some(name) => self.resolve(name).await?,
            None => self.previous().await?,
        };
        let order = Order {
            cause: Cause::Rollback,
            author: request.author.clone(),
            is_forced: request.is_forced,
            waits: false,
            ..self.order(&revision).await?
        };
        self.start(order).await
    }

    /// Starts the deploy of a revision that was pushed, captured or installed.
    ///
    /// # Errors
    /// It is no WordPress, or the fleet refuses.
    pub async fn push(&self, revision: &Revision, cause: Cause) -> Result<Started, Failure> {
        let author = self.author(revision).await;
        let order = Order { cause, author, waits: true, ..self.order(revision).await? };
        self.start(order).await
    }

    /// Puts a push that is not deployed into the history: whoever pushed saw git succeed and learns
    /// of it nowhere else.
    ///
    /// # Errors
    /// The foreman is stopping.
    pub async fn refuse_push(
        &self,
        revision: &Revision,
        failure: &Failure,
    ) -> Result<DeployId, Failure> {
        let order = Order {
            release: Release {
                revision: revision.clone(),
                db_version: None,
                settings: self.settings.clone(),
            },
            subject: self.subject(revision).await.unwrap_or_default(),
            cause: Cause::Push,
            author: self.author(revision).await,
            is_forced: false,
            waits: true,
        };
        self.engine.refuse(order, failure.message.clone()).await
    }

    /// Whether a revision is what serves.
    #[must_use]
    pub fn is_serving(&self, revision: &Revision) -> bool {
        self.serving().as_ref() == Some(revision)
    }

    /// Returns the revision that serves; `None` before the first release.
    #[must_use]
    pub fn serving(&self) -> Option<Revision> {
        let snapshot = self.engine.snapshots().borrow().clone();
        snapshot.fleet.serving_release().map(|release| release.revision.clone())
    }

    /// Whether a deploy is under way or waits.
    #[must_use]
    pub fn is_deploying(&self) -> bool {
        let snapshot = self.engine.snapshots().borrow().clone();
        snapshot.fleet.deploy.is_some() || snapshot.fleet.queued.is_some()
    }

    async fn author(&self, revision: &Revision) -> String {
        self.repository.author(revision).await.unwrap_or_else(|_| "unknown".to_owned())
    }

    /// Starts the deploy of what serves once more, with the settings as they are now.
    ///
    /// # Errors
    /// Nothing serves yet, or the fleet refuses.
    pub async fn again(&self, author: &str) -> Result<Started, Failure> {
        let Some(serving) = self.serving() else {
            return Err(Failure::new(ErrorKind::Refused, "no release serves yet"));
        };
        let order = Order {
            author: author.to_owned(),
            is_forced: true,
            waits: true,
            ..self.order(&serving).await?
        };
        self.start(order).await
    }

    /// Returns the first line of a commit's message.
    pub async fn subject(&self, revision: &Revision) -> Option<String> {
        self.repository.subject(revision).await.ok()
    }

    async fn start(&self, order: Order) -> Result<Started, Failure> {
        let revision = order.release.revision.clone();
        let (id, accepted) = self.engine.deploy(order).await?;
        Ok((id, revision, accepted))
    }

    async fn resolve(&self, name: &str) -> Result<Revision, Failure> {
        self.repository.resolve(name).await.map_err(|error| {
            Failure::new(ErrorKind::Usage, chain(&error))
                .with_hint("`flotilla releases` lists what was deployed; push new commits with `git push` first")
        })
    }

    async fn order(&self, revision: &Revision) -> Result<Order, Failure> {
        let versions = self.repository.versions(revision).await.map_err(|error| match error {
            RepositoryError::NotWordPress { .. } => Failure::new(ErrorKind::Refused, chain(&error))
                .with_hint("a revision must hold a whole WordPress, with wp-includes/ at its top"),
            _ => Failure::new(ErrorKind::Unavailable, chain(&error)),
        })?;
        self.check_configuration(revision).await?;
        let subject = self.subject(revision).await.unwrap_or_default();
        Ok(Order {
            release: Release {
                revision: revision.clone(),
                db_version: versions.db_version,
                settings: self.settings.clone(),
            },
            subject,
            cause: Cause::Command,
            author: String::new(),
            is_forced: false,
            waits: false,
        })
    }

    /// Refuses a revision with a `wp-config.php`: WordPress would take it instead of the fleet's.
    async fn check_configuration(&self, revision: &Revision) -> Result<(), Failure> {
        let unavailable =
            |error: &dyn std::error::Error| Failure::new(ErrorKind::Unavailable, chain(error));
        let file = self.repository.git().read_file(revision, imported::FILE_NAME).await;
        let Some(bytes) = file.map_err(|error| unavailable(&error))? else { return Ok(()) };
        let reading = flotilla_core::wp_config::read(&String::from_utf8_lossy(&bytes));
        let mut message = format!(
            "revision `{}` has a `wp-config.php`, which would stand in for the fleet's own",
            revision.short()
        );
        for line in imported::lines(&reading.notes) {
            message.push_str("\n  ");
            message.push_str(&line);
        }
        let mut hint =
            "take it out with `git rm --cached wp-config.php` and commit that".to_owned();
        if !reading.taken.is_empty() {
            hint.push_str("; what is the site's own goes into flotilla.toml:\n");
            hint.push_str(&reading.toml());
        }
        Err(Failure::new(ErrorKind::Refused, message).with_hint(hint))
    }

    /// Finds the newest release that settled and is not the one that serves.
    async fn previous(&self) -> Result<Revision, Failure> {
        let serving = self.serving();
        let history = self
            .store
            .deploys(HISTORY_MAX)
            .await
            .map_err(|error| Failure::new(ErrorKind::Unavailable, chain(&error)))?;
        history
            .into_iter()
            .filter(|record| record.outcome.as_ref().is_some_and(|outcome| outcome.is_settled()))
            .map(|record| record.release.revision)
            .find(|revision| Some(revision) != serving.as_ref())
            .ok_or_else(|| {
                Failure::new(ErrorKind::Refused, "there is no earlier release to go back to")
                    .with_hint("`flotilla releases` lists all; `flotilla deploy REVISION` deploys any commit")
            })
    }
}

//! The way of a capture: into the branch, into a deploy, and to the word what became of it.

use flotilla_core::api::Verdict;
use flotilla_core::capture::{CaptureNumber, CaptureRecord, CaptureState};
use flotilla_core::config::CaptureMode;
use flotilla_core::deploy::{Cause, Outcome};
use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_core::id::Revision;

use super::{Workshop, WorkshopError};
use crate::capture::CaptureError;
use crate::clock;
use crate::pushes::SEEN;
use crate::repository::Author;
use crate::store::{CaptureNote, StoreError};

/// How many of the newest deploys are looked at for what became of one.
const DEPLOYS_MAX: u32 = 50;

/// How the deploy of a revision goes.
enum Fate {
    /// Nobody has asked for it.
    None,
    /// It waits or is under way.
    UnderWay,
    /// It went into service; whatever came after that is somebody's wish.
    Served,
    /// It ended without the revision in service.
    Failed(String),
}

impl Workshop {
    /// Goes on with the captures that are on their way; returns whether there is one that nobody has to
    /// decide about.
    pub(super) async fn bring_on(&self) -> Result<bool, WorkshopError> {
        let Some(serving) = self.deploys.serving() else { return Ok(false) };
        let mut newest = None;
        for record in self.open().await? {
            if !self.is_in(&record.revision, &serving).await? {
                newest = newest.or(Some(record));
            } else if !self.deploys.is_deploying() {
                // A release that is still being verified may yet be swapped back.
                self.end(record.number, CaptureState::Deployed, "").await?;
            }
        }
        // A capture holds those before it.
        let Some(record) = newest.filter(|one| one.state == CaptureState::PendingReview) else {
            return Ok(false);
        };
        let wait = self.reason_to_wait(&record, &serving).await?;
        self.note_reason(record.number, &wait).await;
        if wait.is_empty() {
            self.bring(&record).await?;
        }
        Ok(wait.is_empty())
    }

    /// Says why a capture is not deployed by itself; empty when it is.
    async fn reason_to_wait(
        &self,
        record: &CaptureRecord,
        serving: &Revision,
    ) -> Result<String, WorkshopError> {
        if self.store.capture_note(record.number).await?.is_approved {
            return Ok(String::new());
        }
        if let Some(alarm) = record.alarms.first() {
            return Ok(format!("it has to be looked at: {alarm}"));
        }
        if self.options.mode == CaptureMode::Review {
            return Ok(
                "changes are approved before they reach the site (`capture.mode`)".to_owned()
            );
        }
        let branch = &self.deploys.branch;
        let Ok(tip) = self.deploys.repository.resolve(branch).await else {
            return Ok(String::new());
        };
        let is_known = self.is_in(&tip, serving).await?
            || self.is_in(&tip, &record.revision).await?
            || self.is_in(&record.revision, &tip).await?;
        if is_known || self.deploys.is_deploying() {
            return Ok(String::new());
        }
        Ok(format!(
            "branch `{branch}` has commits that do not serve (not deployed yet, failed, or rolled back); \
             to bring this to the site brings them too"
        ))
    }

    /// Takes a capture into the branch and has it deployed, once.
    async fn bring(&self, record: &CaptureRecord) -> Result<(), WorkshopError> {
        let _alone = self.deploys.branch_moves.lock().await;
        let brought = match self.captures.bring_in(record.number).await {
            Ok(brought) => brought.revision().clone(),
            Err(error @ CaptureError::Conflict { .. }) => {
                let failure = error.failure();
                let hint = failure.hint.as_deref().unwrap_or_default();
                let reason = format!("{}; {hint}", failure.message);
                return Ok(self.end(record.number, CaptureState::Failed, &reason).await?);
            }
            Err(error) => return Err(error.into()),
        };
        match self.fate(&brought, record).await? {
            Fate::UnderWay => Ok(()),
            Fate::Served => Ok(self.end(record.number, CaptureState::Deployed, "").await?),
            Fate::Failed(reason) => {
                Ok(self.end(record.number, CaptureState::Failed, &reason).await?)
            }
            Fate::None => self.deploy(record.number, &brought).await,
        }
    }

    async fn deploy(
        &self,
        number: CaptureNumber,
        revision: &Revision,
    ) -> Result<(), WorkshopError> {
        match self.deploys.push(revision, Cause::Capture).await {
            Ok((deploy, ..)) => {
                self.store.set_fact(SEEN, revision.as_str().to_owned()).await?;
                tracing::info!(deploy = deploy.0, capture = number.0, "A capture starts a deploy");
                Ok(())
            }
            Err(failure) if failure.kind == ErrorKind::Refused => {
                self.store.set_fact(SEEN, revision.as_str().to_owned()).await?;
                Ok(self.end(number, CaptureState::Failed, &failure.message).await?)
            }
            Err(failure) => {
                tracing::warn!(
                    capture = number.0,
                    reason = failure.message,
                    "A capture cannot be deployed now"
                );
                Ok(())
            }
        }
    }

    async fn fate(&self, revision: &Revision, record: &CaptureRecord) -> Result<Fate, StoreError> {
        let deploys = self.store.deploys(DEPLOYS_MAX).await?;
        let last = deploys
            .into_iter()
            .find(|one| one.release.revision == *revision && one.requested_at >= record.created_at);
        Ok(match last.map(|deploy| deploy.outcome) {
            Some(None) => Fate::UnderWay,
            Some(Some(Outcome::Failed { reason } | Outcome::SwappedBack { reason })) => {
                Fate::Failed(reason)
            }
            Some(Some(Outcome::Settled { .. })) => Fate::Served,
            // When another deploy took its place, it is asked for again.
            Some(Some(Outcome::Superseded { .. })) | None => Fate::None,
        })
    }

    async fn end(
        &self,
        number: CaptureNumber,
        state: CaptureState,
        reason: &str,
    ) -> Result<(), StoreError> {
        let note = CaptureNote { reason: reason.to_owned(), is_approved: false };
        self.store.note_capture(number, note).await?;
        self.store.set_capture_state(number, state).await?;
        if state == CaptureState::Failed {
            tracing::warn!(capture = number.0, reason, "A capture did not reach the site");
        }
        Ok(())
    }

    /// Does what somebody decided about a capture.
    pub(super) async fn decide(
        &self,
        verdict: Verdict,
        number: CaptureNumber,
        author: &Author,
    ) -> Result<(), Failure> {
        let unavailable = |error: StoreError| Failure::new(ErrorKind::Unavailable, chain(&error));
        let record = self.store.capture(number).await.map_err(unavailable)?;
        let record = record.ok_or_else(|| CaptureError::NoSuchCapture(number).failure())?;
        match verdict {
            Verdict::Approve => self.approve(&record).await,
            Verdict::Revert => self.revert(&record, author).await,
        }
    }

    async fn approve(&self, record: &CaptureRecord) -> Result<(), Failure> {
        let number = record.number;
        if record.state != CaptureState::PendingReview {
            let state = record.state.as_str();
            return Err(Failure::new(
                ErrorKind::Refused,
                format!("capture {number} is {state}, and waits for nobody"),
            ));
        }
        let note = CaptureNote { reason: String::new(), is_approved: true };
        let noted = self.store.note_capture(number, note).await;
        noted.map_err(|error| Failure::new(ErrorKind::Unavailable, chain(&error)))
    }

    async fn revert(&self, record: &CaptureRecord, author: &Author) -> Result<(), Failure> {
        let number = record.number;
        if record.state == CaptureState::Reverted {
            return Ok(());
        }
        let _alone = self.deploys.branch_moves.lock().await;
        match self.captures.revert(number, author, clock::now()).await {
            Ok(revision) => {
                self.deploys.push(&revision, Cause::Capture).await?;
                let seen = self.store.set_fact(SEEN, revision.as_str().to_owned()).await;
                seen.map_err(|error| Failure::new(ErrorKind::Unavailable, chain(&error)))
            }
            Err(CaptureError::NotBroughtIn { .. }) => self.discard(record).await,
            Err(error) => Err(error.failure()),
        }
    }

    /// Gives up a capture that is in no branch; the commit stays, the workshop leaves it.
    async fn discard(&self, record: &CaptureRecord) -> Result<(), Failure> {
        let unavailable =
            |error: &dyn std::error::Error| Failure::new(ErrorKind::Unavailable, chain(error));
        for later in self.open().await.map_err(|error| unavailable(&error))? {
            let continues = self.is_in(&record.revision, &later.revision).await;
            if later.number > record.number && continues.map_err(|error| unavailable(&error))? {
                let message =
                    format!("capture {} goes on from capture {}", later.number, record.number);
                let hint = format!("undo capture {} first", later.number);
                return Err(Failure::new(ErrorKind::Refused, message).with_hint(hint));
            }
        }
        let ended = self.end(record.number, CaptureState::Reverted, "").await;
        ended.map_err(|error| unavailable(&error))
    }
}

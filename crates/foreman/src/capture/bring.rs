//! Takes captures into the branch, and undoes them there.

use flotilla_core::capture::{CaptureNumber, CaptureRecord, CaptureState};
use flotilla_core::id::{Millis, Revision};

use super::Captures;
use super::error::CaptureError;
use super::join::{self, Joined};
use crate::repository::{Author, NewCommit, RepositoryError};

/// How often the branch may move while a commit is made.
const ATTEMPTS_MAX: u32 = 5;

/// What a capture became in the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BroughtIn {
    /// The branch had it already.
    Already(Revision),
    /// The branch goes on with the capture's own commit.
    Forward(Revision),
    /// The branch had moved; this commit continues both.
    Merged(Revision),
}

impl BroughtIn {
    /// Returns where the branch is now.
    #[must_use]
    pub const fn revision(&self) -> &Revision {
        match self {
            Self::Already(revision) | Self::Forward(revision) | Self::Merged(revision) => revision,
        }
    }
}

impl Captures {
    /// Takes a capture into the branch. When the branch moved meanwhile and both changed different
    /// files, a merge has both.
    ///
    /// # Errors
    /// Both changed the same files; then the capture is also a branch `capture-N` that people can
    /// merge, and its state is failed. Or somebody pushes all the time, or git failed.
    pub async fn bring_in(&self, number: CaptureNumber) -> Result<BroughtIn, CaptureError> {
        let _alone = self.scanner.lock().await;
        let record = self.record_of(number).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let tip = self.tip().await?;
            let brought = self.continue_branch(&record, tip.as_ref()).await?;
            if matches!(brought, BroughtIn::Already(_)) {
                return Ok(brought);
            }
            match self.move_branch(tip.as_ref(), brought.revision()).await {
                Err(RepositoryError::Moved { .. }) if attempt < ATTEMPTS_MAX => {}
                moved => return Ok(moved.map(|()| brought)?),
            }
        }
    }

    /// Makes a commit on the branch that undoes a capture, and returns where the branch is then. The
    /// workshop is not touched: it follows like the fleet. May be repeated.
    ///
    /// # Errors
    /// Files of the capture changed since, the branch does not have it, or git failed.
    pub async fn revert(
        &self,
        number: CaptureNumber,
        author: &Author,
        time: Millis,
    ) -> Result<Revision, CaptureError> {
        let _alone = self.scanner.lock().await;
        let record = self.record_of(number).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let tip = self.tip_with(&record).await?;
            let (from, to) = (&record.revision, &record.parent);
            let joined = join::join(self.git(), from, to, &tip).await?;
            let joined = joined.map_err(|paths| CaptureError::ChangedSince { number, paths })?;
            let mut undone = tip.clone();
            if !joined.is_empty() {
                undone = self.undo(&record, author, time, &tip, &joined).await?;
                match self.move_branch(Some(&tip), &undone).await {
                    Err(RepositoryError::Moved { .. }) if attempt < ATTEMPTS_MAX => continue,
                    moved => moved?,
                }
            }
            self.store.set_capture_state(number, CaptureState::Reverted).await?;
            return Ok(undone);
        }
    }

    /// Makes what the branch becomes with the capture.
    async fn continue_branch(
        &self,
        record: &CaptureRecord,
        tip: Option<&Revision>,
    ) -> Result<BroughtIn, CaptureError> {
        let (git, capture) = (self.git(), &record.revision);
        let Some(tip) = tip else { return Ok(BroughtIn::Forward(capture.clone())) };
        if git.is_ancestor(capture, tip).await? {
            return Ok(BroughtIn::Already(tip.clone()));
        }
        if git.is_ancestor(tip, capture).await? {
            return Ok(BroughtIn::Forward(capture.clone()));
        }
        // Lines that share nothing differ from what the workshop held before.
        let base = git.merge_base(tip, capture).await?.unwrap_or_else(|| record.parent.clone());
        let joined = match join::join(git, &base, capture, tip).await? {
            Ok(joined) => joined,
            Err(paths) => return Err(self.conflict(record, paths).await?),
        };
        let commit = NewCommit {
            message: format!("Merge capture {}: {}", record.number, record.subject()),
            author: self.author_of(capture).await?,
            time: record.created_at,
            parent: Some(tip.clone()),
        };
        self.clear_stale_lock(join::MERGING).await;
        Ok(BroughtIn::Merged(join::commit(git, &joined, &commit, Some(capture)).await?))
    }

    async fn undo(
        &self,
        record: &CaptureRecord,
        author: &Author,
        time: Millis,
        tip: &Revision,
        joined: &Joined,
    ) -> Result<Revision, CaptureError> {
        let (number, revision) = (record.number, &record.revision);
        let commit = NewCommit {
            message: format!(
                "Revert \"{}\"\n\nThis undoes capture {number}, commit {revision}.",
                record.subject()
            ),
            author: author.clone(),
            time,
            parent: Some(tip.clone()),
        };
        self.clear_stale_lock(join::MERGING).await;
        Ok(join::commit(self.git(), joined, &commit, None).await?)
    }

    /// Keeps a capture where people can get it, and says with what it conflicts.
    async fn conflict(
        &self,
        record: &CaptureRecord,
        paths: Vec<Vec<u8>>,
    ) -> Result<CaptureError, CaptureError> {
        let kept = format!("capture-{}", record.number);
        let name = format!("refs/heads/{kept}");
        self.clear_stale_lock(&name).await;
        self.git().command("update-ref").args([&name, record.revision.as_str()]).run().await?;
        self.store.set_capture_state(record.number, CaptureState::Failed).await?;
        let branch = self.options.branch.clone();
        Ok(CaptureError::Conflict { number: record.number, branch, kept, paths })
    }

    async fn move_branch(
        &self,
        from: Option<&Revision>,
        to: &Revision,
    ) -> Result<(), RepositoryError> {
        self.clear_stale_lock(&format!("refs/heads/{}", self.options.branch)).await;
        self.repository.move_branch(&self.options.branch, from, to).await
    }

    async fn tip(&self) -> Result<Option<Revision>, CaptureError> {
        Ok(self.git().resolve(&format!("refs/heads/{}", self.options.branch)).await?)
    }

    async fn tip_with(&self, record: &CaptureRecord) -> Result<Revision, CaptureError> {
        if let Some(tip) = self.tip().await?
            && self.git().is_ancestor(&record.revision, &tip).await?
        {
            return Ok(tip);
        }
        let branch = self.options.branch.clone();
        Err(CaptureError::NotBroughtIn { number: record.number, branch })
    }

    async fn author_of(&self, revision: &Revision) -> Result<Author, CaptureError> {
        let commit = self.repository.commit(revision).await?;
        Ok(Author { name: commit.author_name, email: commit.author_email })
    }

    async fn record_of(&self, number: CaptureNumber) -> Result<CaptureRecord, CaptureError> {
        self.store.capture(number).await?.ok_or(CaptureError::NoSuchCapture(number))
    }
}

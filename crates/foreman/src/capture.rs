//! Capture: what people change in the workshop becomes commits.
//!
//! The workshop's directory, compared with the revision that it was checked out at, is the only truth.
//! [`Captures::look`] tells when changes have come to rest, [`Captures::take`] makes one commit of
//! them, [`Captures::bring_in`] takes it into the branch, [`Captures::revert`] undoes it. A capture is
//! taken when the worktree's mark names its commit, which is one step; killed before, the changes still
//! lie in the workshop, and killed after, they are a commit.
//!
//! It decides neither what is said of a capture nor when files are at rest (`flotilla_core::capture`),
//! and it does not deploy.

mod bring;
mod compare;
mod error;
mod facts;
mod feed;
mod join;
mod listing;
mod locks;
mod recover;
mod scanner;
mod take;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::capture::rest::Limits;
use flotilla_core::id::{Millis, Revision};
use flotilla_core::storage::UPLOADS;
use flotilla_host::git::worktree::{CheckedOut, Held};
use flotilla_host::git::{Git, Keep, Worktree};
use tokio::sync::{Mutex, MutexGuard};

use crate::repository::captured::stays_out;
use crate::repository::{Author, Repository};
use crate::store::Store;

pub use bring::BroughtIn;
pub use error::CaptureError;
pub use scanner::{Look, Scanner};

/// The references of captures: `refs/flotilla/captures/7`. They are never moved.
pub const REFERENCES: &str = "refs/flotilla/captures";

/// Where captures are made, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The workshop's worktree. Nobody else may check it out.
    pub worktree: Worktree,
    /// The branch that captures go to.
    pub branch: String,
    /// The file that remembers what was seen; it may be lost.
    pub state: PathBuf,
    /// How long is waited for what.
    pub limits: Limits,
    /// How old the lock of a git that was killed must be before it is removed.
    pub lock_age: Duration,
}

impl Options {
    /// Names what has to be named; the rest is usual.
    #[must_use]
    pub fn new(worktree: Worktree, branch: String, state: PathBuf) -> Self {
        let lock_age = Duration::from_secs(10);
        Self { worktree, branch, state, limits: Limits::default(), lock_age }
    }
}

/// What becomes of files that change while they are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restless {
    /// Nothing is captured.
    Refuse,
    /// They stay as the revision before had them, and an alarm names them. For what a person asks for
    /// when something never holds still.
    LeaveOut,
}

/// What a capture is made with.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who changed the files.
    pub author: Author,
    /// The present time.
    pub time: Millis,
    /// Paths that were seen below `wp-content/uploads`; programs among them are an alarm.
    pub uploads: Vec<Vec<u8>>,
    /// What becomes of files that change meanwhile.
    pub restless: Restless,
}

impl Request {
    /// Captures in nobody's name.
    #[must_use]
    pub fn at(time: Millis) -> Self {
        let author = Author { name: "workshop".to_owned(), email: "workshop@localhost".to_owned() };
        Self { author, time, uploads: Vec::new(), restless: Restless::Refuse }
    }
}

/// Makes captures of one workshop. One piece of work at a time, over all processes.
#[derive(Debug)]
pub struct Captures {
    options: Options,
    repository: Arc<Repository>,
    store: Store,
    scanner: Mutex<Scanner>,
}

impl Captures {
    /// Prepares to capture, and finishes what a killed one had begun.
    ///
    /// # Errors
    /// The repository or the store failed, or somebody else works on the workshop.
    pub async fn open(
        options: Options,
        repository: Arc<Repository>,
        store: Store,
    ) -> Result<Self, CaptureError> {
        let tree = options.worktree.tree().to_owned();
        let scanner = Mutex::new(Scanner::new(tree, options.state.clone(), options.limits));
        let captures = Self { options, repository, store, scanner };
        captures.clear_crash_reports().await;
        let held = captures.hold().await?;
        captures.recover(&held).await?;
        Ok(captures)
    }

    /// Looks whether there is something to capture, and whether it has come to rest. To be called
    /// about as often as the settle time.
    ///
    /// # Errors
    /// The workshop holds no revision, somebody else works on it, or a file cannot be read.
    pub async fn look(&self) -> Result<Look, CaptureError> {
        let mut scanner = self.scanner.lock().await;
        let _held = self.hold().await?;
        let base = self.base().await?;
        scanner.look(self.git(), &base).await
    }

    /// Brings the workshop to a revision. Who may change files must be kept away meanwhile: what is
    /// changed after the check for changes is undone.
    ///
    /// # Errors
    /// There are changes in no commit, somebody else works on the workshop, or git failed.
    pub async fn check_out(&self, revision: &Revision) -> Result<CheckedOut, CaptureError> {
        let mut scanner = self.scanner.lock().await;
        let held = self.hold().await?;
        self.recover(&held).await?;
        if let Some(base) = self.options.worktree.checked_out().await {
            self.refuse_changes(&mut scanner, &base).await?;
        }
        drop(held);
        let keep = Keep::directories([UPLOADS]).and_matching(is_kept);
        Ok(self.options.worktree.checkout(revision, &keep).await?)
    }

    async fn refuse_changes(
        &self,
        scanner: &mut MutexGuard<'_, Scanner>,
        base: &Revision,
    ) -> Result<(), CaptureError> {
        let listing = scanner.listing(self.git(), base).await?;
        let walked = scanner.walk(&listing).await?;
        let compared = scanner.compare(&walked, &listing).await?;
        if compared.is_empty() {
            return Ok(());
        }
        let paths = compared.paths(error::PATHS_MAX);
        Err(CaptureError::Uncaptured { paths, count: compared.count() })
    }

    /// Keeps check-outs and other processes away.
    async fn hold(&self) -> Result<Held, CaptureError> {
        let held = self.options.worktree.try_hold().await?;
        held.ok_or_else(|| CaptureError::Busy(self.options.worktree.tree().to_owned()))
    }

    /// Returns what the workshop holds but for changes.
    async fn base(&self) -> Result<Revision, CaptureError> {
        let worktree = &self.options.worktree;
        let base = worktree.checked_out().await;
        base.ok_or_else(|| CaptureError::NotCheckedOut(worktree.tree().to_owned()))
    }

    fn git(&self) -> &Git {
        self.repository.git()
    }
}

/// Whether a check-out leaves a path alone: what is never captured, but for its own leftovers.
fn is_kept(path: &[u8]) -> bool {
    stays_out(path) && !path.ends_with(b".flotilla-new")
}

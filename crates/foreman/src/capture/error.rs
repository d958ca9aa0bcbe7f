//! Why something was not captured, merged or undone, and the way out.

use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::capture::{CaptureNumber, shown};
use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_host::git::GitError;

use crate::repository::RepositoryError;
use crate::store::StoreError;

/// Says what the capture could not do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The workshop holds no revision as a whole.
    #[error("the workshop `{}` holds no revision", .0.display())]
    NotCheckedOut(PathBuf),
    /// Somebody else works on the workshop.
    #[error("the workshop `{}` is being checked out or captured", .0.display())]
    Busy(PathBuf),
    /// An update is under way.
    #[error("an update is under way: `{}` changed {} s ago", shown(path), age.as_secs())]
    Unfinished {
        /// The file that tells.
        path: Vec<u8>,
        /// How long ago it changed.
        age: Duration,
    },
    /// Files changed while they were read.
    #[error("{count} files changed while they were captured: {}", list(paths))]
    Restless {
        /// The first of them.
        paths: Vec<Vec<u8>>,
        /// How many there are.
        count: usize,
    },
    /// A file is larger than any code.
    #[error("`{}` is larger than {} MiB", path.display(), limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What a file may have, in bytes.
        limit: u64,
    },
    /// A file cannot be read.
    #[error("could not read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The workshop has changes that are in no commit.
    #[error("{count} changes in the workshop are in no commit: {}", list(paths))]
    Uncaptured {
        /// The first of them.
        paths: Vec<Vec<u8>>,
        /// How many there are.
        count: usize,
    },
    /// Both sides changed the same files.
    #[error("capture {number} and branch `{branch}` both changed {}", list(paths))]
    Conflict {
        /// The capture.
        number: CaptureNumber,
        /// The branch.
        branch: String,
        /// The branch that the capture is kept as.
        kept: String,
        /// The files.
        paths: Vec<Vec<u8>>,
    },
    /// What a capture did was changed since.
    #[error("capture {number} cannot be undone: {} changed since", list(paths))]
    ChangedSince {
        /// The capture.
        number: CaptureNumber,
        /// The files.
        paths: Vec<Vec<u8>>,
    },
    /// There is no such capture.
    #[error("there is no capture {0}")]
    NoSuchCapture(CaptureNumber),
    /// The branch does not have the capture.
    #[error("capture {number} is not in branch `{branch}`")]
    NotBroughtIn {
        /// The capture.
        number: CaptureNumber,
        /// The branch.
        branch: String,
    },
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CaptureError {
    /// Returns it as it reaches people, with the way out.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (kind, hint) = match self {
            Self::NotCheckedOut(_) => (
                ErrorKind::Unavailable,
                "it follows the fleet by itself; try again in a moment".to_owned(),
            ),
            Self::Busy(_) => (ErrorKind::Unavailable, "try again in a moment".to_owned()),
            Self::Unfinished { .. } => (
                ErrorKind::Unavailable,
                "wait for the update to end; when none is under way, delete the file".to_owned(),
            ),
            Self::Restless { .. } => (
                ErrorKind::Unavailable,
                "try again when nothing writes them; logs and caches belong below \
                 wp-content/uploads or wp-content/cache"
                    .to_owned(),
            ),
            Self::TooLarge { .. } => (
                ErrorKind::Refused,
                "move it below wp-content/uploads or delete it; no code is that large".to_owned(),
            ),
            Self::Uncaptured { .. } => {
                (ErrorKind::Refused, "capture them first; a check-out would undo them".to_owned())
            }
            Self::Conflict { branch, kept, .. } => (
                ErrorKind::Refused,
                format!(
                    "nothing is lost: `git fetch`, `git merge origin/{kept}` into `{branch}`, choose, \
                     and push"
                ),
            ),
            Self::ChangedSince { .. } => (
                ErrorKind::Refused,
                "undo the later changes of these files first, or change them by hand".to_owned(),
            ),
            Self::NoSuchCapture(_) => {
                (ErrorKind::Usage, "`flotilla captures` lists them".to_owned())
            }
            Self::NotBroughtIn { .. } => {
                (ErrorKind::Refused, "there is nothing to undo in the branch".to_owned())
            }
            Self::Repository(RepositoryError::Moved { .. }) => {
                (ErrorKind::Unavailable, "somebody pushes just now; try again".to_owned())
            }
            Self::File { .. } | Self::Repository(_) | Self::Git(_) | Self::Store(_) => {
                return Failure::new(ErrorKind::Unavailable, chain(self));
            }
        };
        Failure::new(kind, chain(self)).with_hint(hint)
    }

    /// Whether it passes by itself.
    #[must_use]
    pub const fn is_of_the_moment(&self) -> bool {
        matches!(
            self,
            Self::NotCheckedOut(_)
                | Self::Busy(_)
                | Self::Unfinished { .. }
                | Self::Restless { .. }
                | Self::Uncaptured { .. }
                | Self::Repository(RepositoryError::Moved { .. })
        )
    }

    pub(super) fn file(path: PathBuf) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path, source }
    }
}

impl From<tokio::task::JoinError> for CaptureError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Git(error.into())
    }
}

impl From<flotilla_host::command::CommandError> for CaptureError {
    fn from(error: flotilla_host::command::CommandError) -> Self {
        Self::Git(error.into())
    }
}

/// Names the first paths of a list.
fn list(paths: &[Vec<u8>]) -> String {
    let named = paths.iter().take(PATHS_MAX).map(|path| format!("`{}`", shown(path)));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if paths.len() > PATHS_MAX {
        text.push_str(", …");
    }
    text
}

/// How many paths a message names.
pub(super) const PATHS_MAX: usize = 10;

//! Why an operation on a file failed, and the number that a program sees for it.

use std::io;

use fuser::Errno;

use crate::path::NameError;
use crate::store::StoreError;

/// Says why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// An ordinary answer: there is no such file, it exists already, and so on.
    #[error("refused with error {0:?}")]
    Plain(Errno),
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This machine's disk.
    #[error("cannot {action} in the media directory's own files{}", hint(source))]
    Local {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::StorageFull {
        ": the disk is full; free some space, or lower `media.cache_size`"
    } else {
        ""
    }
}

impl Fault {
    /// Returns what the kernel is told.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Self::Plain(errno) => *errno,
            Self::Store(StoreError::NotFound(_)) => Errno::ENOENT,
            Self::Store(StoreError::Changed(_)) => Errno::from_i32(nix::libc::ESTALE),
            Self::Store(_) => Errno::EIO,
            Self::Local { source, .. } => source.raw_os_error().map_or(Errno::EIO, Errno::from_i32),
        }
    }

    /// Returns whether somebody should know.
    pub(crate) fn is_noteworthy(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Store(error) => {
                !matches!(error, StoreError::NotFound(_) | StoreError::Changed(_))
            }
            Self::Local { .. } => true,
        }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Plain(errno)
    }
}

impl From<NameError> for Fault {
    fn from(error: NameError) -> Self {
        Self::Plain(match error {
            NameError::TooLong => Errno::ENAMETOOLONG,
            NameError::NotText => Errno::EILSEQ,
            NameError::Reserved => Errno::EPERM,
        })
    }
}

/// Names what was done with a local file when it fails.
pub(crate) fn local(action: &'static str) -> impl FnOnce(io::Error) -> Fault {
    move |source| Fault::Local { action, source }
}

pub(crate) fn stale() -> Fault {
    Fault::Plain(Errno::from_i32(nix::libc::ESTALE))
}

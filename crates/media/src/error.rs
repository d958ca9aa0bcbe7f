//! Why a mount cannot be made or kept.

use std::io;
use std::path::PathBuf;

use flotilla_host::room::RoomError;

use crate::store::StoreError;

/// Says why a mount cannot be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// There is no FUSE on this machine.
    #[error(
        "cannot open `/dev/fuse`; load the kernel module `fuse`, or give the container the device"
    )]
    Device(#[source] io::Error),
    /// The kernel refuses the mount.
    #[error("cannot mount the media directory at `{path}`")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel does not give a place of its own.
    #[error(transparent)]
    Namespace(#[from] RoomError),
    /// The kernel and we did not come to terms.
    #[error("cannot talk to the kernel about the media directory")]
    Session(#[source] io::Error),
    /// The daemon cannot be started.
    #[error("cannot run the media daemon `{program}`")]
    Daemon {
        /// Its program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon died, and this kernel cannot give its work to another one.
    #[error(
        "the media daemon died, and this kernel cannot hand its open files over (Linux 6.9 can); the \
         slots must be made anew"
    )]
    NoTakeover,
    /// Somebody has unmounted it or has aborted the connection.
    #[error("the media directory was unmounted by somebody else")]
    Gone,
    /// Something of ours went wrong badly enough to begin anew.
    #[error("a task of the media daemon panicked")]
    Panicked,
    /// A local file is in the way.
    #[error("cannot use the media directory's own files in `{path}`: {reason}")]
    Files {
        /// Where they are.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The bucket cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

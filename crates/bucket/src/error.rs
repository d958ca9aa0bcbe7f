//! Why a store does not run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use crate::index::IndexError;

/// Says why a store does not run.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Its address would be open to other machines.
    #[error("the store would listen on `{0}`, which other machines can reach, but it has no TLS")]
    OpenAddress(SocketAddr),
    /// Its address is taken.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The name of its bucket is none that S3 clients accept.
    #[error(
        "`{0}` is no name for a bucket: it takes 3 to 63 lower-case letters, digits, dots and hyphens"
    )]
    BucketName(String),
    /// Its directory cannot be used.
    #[error("cannot use the directory `{path}`")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has its directory.
    #[error("another store runs in `{path}`")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Its index cannot be used.
    #[error("cannot use the index `{path}`")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: IndexError,
    },
    /// It stopped by itself, because its disk or its index failed.
    #[error("the store in `{path}` has stopped because its index failed; its log says why")]
    Broken {
        /// The directory.
        path: PathBuf,
    },
}

//! What a store is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a store is started with.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; loopback only, because it has no TLS. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Where it keeps everything; made when it is not there.
    pub directory: PathBuf,
    /// Names the one pair of keys that opens it.
    pub access_key: String,
    /// The secret half of the pair.
    pub secret_key: String,
    /// The one bucket that it has.
    pub bucket: String,
    /// Its limits.
    pub limits: Limits,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Options")
            .field("listen", &self.listen)
            .field("directory", &self.directory)
            .field("access_key", &self.access_key)
            .field("bucket", &self.bucket)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The limits of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel.
    pub connections_max: usize,
    /// How long a request head may take, and how long an idle connection is kept.
    pub head_timeout: Duration,
    /// How long a body may stand still, in either direction.
    pub body_idle_timeout: Duration,
    /// The largest object that is taken in one request; S3's own limit is 5 GiB.
    pub put_bytes_max: u64,
    /// What the disk must have left after an upload, so that deleting goes on when it is full.
    pub free_bytes_min: u64,
    /// How long an upload in parts may stay unfinished.
    pub upload_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            head_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(60),
            put_bytes_max: 5 * 1024 * 1024 * 1024,
            free_bytes_min: 64 * 1024 * 1024,
            upload_age_max: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

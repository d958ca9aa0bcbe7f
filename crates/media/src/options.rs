//! What a mount is told: where its bucket is, where it may keep files, and whose they look like.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The bucket and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreOptions {
    /// The server's address, such as `http://127.0.0.1:9000`; `None` is AWS itself.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// What every key begins with; empty, or with a slash at its end.
    pub prefix: String,
    /// The keys; `None` asks the environment, the profile, or the machine's role, in that order.
    pub credentials: Option<Credentials>,
    /// Certificates, in PEM, that may have signed the server's besides those that the machine trusts.
    #[serde(default)]
    pub certificates: Option<String>,
}

/// A pair of keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Says who asks.
    pub access_key_id: String,
    /// Signs the requests.
    pub secret_access_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Whose files are, as `stat` shows them. Objects have no owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permission bits of a file that nobody changed, such as `0o644`.
    pub file_mode: u16,
    /// The permission bits of a directory that nobody changed, such as `0o755`.
    pub directory_mode: u16,
}

/// What a media daemon is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The bucket.
    pub store: StoreOptions,
    /// A directory of its own for the cache and for files that are being written.
    pub directory: PathBuf,
    /// How much of the disk the cache may take, in bytes.
    pub cache_bytes_max: u64,
    /// Whose the files are.
    pub owner: Owner,
    /// How long a name and its size may be remembered. Opening a file always asks the bucket.
    pub staleness: Duration,
}

impl Options {
    pub(crate) fn cache_directory(&self) -> PathBuf {
        self.directory.join("cache")
    }

    pub(crate) fn staging_directory(&self) -> PathBuf {
        self.directory.join("staging")
    }

    /// Returns the file that lists the directories whose `.htaccess` denies everything, one a
    /// line, relative to the mount; it is replaced as a whole when that changes.
    #[must_use]
    pub fn private_directories_file(&self) -> PathBuf {
        self.directory.join("private-directories")
    }
}

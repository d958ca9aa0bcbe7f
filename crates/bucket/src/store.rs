//! A directory with a bucket in it: the files, the index, and the lock that keeps others out.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::statvfs::statvfs;
use tokio_util::sync::CancellationToken;

use crate::auth::Credentials;
use crate::blobs::Blobs;
use crate::error::BucketError;
use crate::fault::Fault;
use crate::index::{Index, prepare, recover};
use crate::options::{Limits, Options};

/// What requests work on.
#[derive(Debug)]
pub(crate) struct Store {
    /// The name of the bucket.
    pub(crate) bucket: String,
    /// Who may use it.
    pub(crate) credentials: Credentials,
    /// Its limits.
    pub(crate) limits: Limits,
    /// Its files.
    pub(crate) blobs: Arc<Blobs>,
    /// Its index.
    pub(crate) index: Index,
    directory: PathBuf,
    /// Held as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store, or makes it; clears away what a process that died has left.
    ///
    /// `stopping` is cancelled when the index fails. The thread ends when the store is dropped.
    ///
    /// # Errors
    /// The directory is in use, or cannot be used.
    pub(crate) fn open(
        options: &Options,
        stopping: CancellationToken,
    ) -> Result<(Self, JoinHandle<()>), BucketError> {
        check_bucket_name(&options.bucket)?;
        let path = &options.directory;
        let wrong = |source| BucketError::Directory { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
        let lock = lock(path)?;
        let blobs = Arc::new(Blobs::open(path).map_err(wrong)?);
        let file = path.join("index.db");
        let open_index = || {
            let mut connection = prepare(&file, &options.bucket)?;
            let removed = recover(&mut connection, &blobs)?;
            if removed > 0 {
                tracing::info!(removed, "Files of unfinished work were cleared away");
            }
            drop(connection);
            Index::start(&file, Arc::clone(&blobs), stopping)
        };
        let (index, thread) =
            open_index().map_err(|source| BucketError::Index { path: file.clone(), source })?;
        let store = Self {
            bucket: options.bucket.clone(),
            credentials: Credentials {
                access_key: options.access_key.clone(),
                secret_key: options.secret_key.clone(),
            },
            limits: options.limits.clone(),
            blobs,
            index,
            directory: path.clone(),
            _lock: lock,
        };
        Ok((store, thread))
    }

    /// Checks that the disk has room for so many bytes, and some to spare.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), Fault> {
        let disk = statvfs(&self.directory)
            .map_err(|error| Fault::of_disk("ask for free space", &io::Error::from(error)))?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        if free >= bytes.saturating_add(self.limits.free_bytes_min) {
            return Ok(());
        }
        tracing::error!(free, bytes, "The disk of the store has no room for an upload");
        Err(Fault::full())
    }
}

/// Keeps other processes out of the directory.
fn lock(directory: &Path) -> Result<File, BucketError> {
    let wrong = |source| BucketError::Directory { path: directory.to_owned(), source };
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(directory.join("lock")).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BucketError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(wrong(source)),
    }
}

fn check_bucket_name(name: &str) -> Result<(), BucketError> {
    let is_inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    let is_outer = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = name.as_bytes();
    let is_name = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| is_inner(*byte))
        && is_outer(bytes.first())
        && is_outer(bytes.last());
    if is_name { Ok(()) } else { Err(BucketError::BucketName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::check_bucket_name;

    #[test]
    fn names_of_buckets_are_those_of_s3() {
        for name in ["media", "a-b.c1", &"a".repeat(63)] {
            assert!(check_bucket_name(name).is_ok(), "{name}");
        }
        for name in ["", "ab", "Media", "-media", "media.", "a/b", "../x", &"a".repeat(64)] {
            assert!(check_bucket_name(name).is_err(), "{name}");
        }
    }
}

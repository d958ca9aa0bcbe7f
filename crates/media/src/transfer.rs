//! Bringing a directory of media into a bucket, and looking whether a bucket holds what it should.

mod import;
mod verify;

use std::io;
use std::path::PathBuf;

use crate::store::StoreError;

pub use import::{Import, ImportReport, import};
pub use verify::{VerifyReport, verify};

/// How many files are under way at once.
const FILES_AT_ONCE: usize = 4;
/// How many problems a report names; the rest are counted.
const PROBLEMS_MAX: usize = 1000;

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Files that are done.
    pub files: u64,
    /// All files.
    pub files_total: u64,
    /// Bytes that are done.
    pub bytes: u64,
    /// All bytes.
    pub bytes_total: u64,
}

/// A file with which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its name, relative to the media directory.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

/// Says why a transfer ended early. It can be begun again: what is done is not done anew.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A local file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Problems, the first of them by name.
#[derive(Debug, Default)]
struct Problems {
    named: Vec<Problem>,
    count: u64,
}

impl Problems {
    fn add(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.count += 1;
        if self.named.len() < PROBLEMS_MAX {
            self.named.push(Problem { name: name.into(), reason: reason.into() });
        }
    }
}

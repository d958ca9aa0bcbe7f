//! Bringing a directory of media into a bucket.

use std::fs::{self, File, Metadata as FileMetadata};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use super::{FILES_AT_ONCE, Problem, Problems, Progress, TransferError};
use crate::cache::blocking;
use crate::fault::Fault;
use crate::path::MediaPath;
use crate::store::{Metadata, Store, StoreError, Wanted, hexadecimal};
use crate::upload::{Content, Uploader};

/// How much of a file is read at once for its digest, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// What is imported, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The directory; its entries become entries of the media directory.
    pub directory: PathBuf,
    /// Whether a file that has the same size and time in the bucket is read to make sure.
    pub compares_content: bool,
    /// The permission bits of files and directories that need not be remembered.
    pub file_mode: u16,
    /// See `file_mode`.
    pub directory_mode: u16,
}

/// What an import has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportReport {
    /// Files that were stored.
    pub stored: u64,
    /// Files that were there already.
    pub skipped: u64,
    /// Bytes that were stored.
    pub bytes: u64,
    /// How many files were left out.
    pub left_out: u64,
    /// The first of them.
    pub problems: Vec<Problem>,
}

enum Outcome {
    Stored(u64),
    Skipped(u64),
}

struct Found {
    path: MediaPath,
    local: PathBuf,
    metadata: FileMetadata,
}

/// Imports a directory. It can be stopped and begun again; what is there already is not sent again.
///
/// # Errors
/// A file cannot be read or the bucket does not take it. Links and names that cannot be stored are
/// left out and reported.
pub async fn import(
    store: &Store,
    import: &Import,
    mut progress: impl FnMut(Progress),
) -> Result<ImportReport, TransferError> {
    let mut problems = Problems::default();
    let (directories, files) = walk(store, import, &mut problems)?;
    let mut report = ImportReport::default();
    let mut done = Progress {
        files_total: count(files.len()),
        bytes_total: files.iter().map(|file| file.metadata.len()).sum(),
        ..Progress::default()
    };
    progress(done);
    for directory in &directories {
        store_directory(store, directory, import.directory_mode).await?;
    }
    let uploader = Uploader::new(store.clone());
    let transfers = files.iter().map(|file| import_file(store, &uploader, import, file));
    let transfers: Vec<_> = transfers.collect();
    let mut transfers = stream::iter(transfers).buffer_unordered(FILES_AT_ONCE);
    while let Some(outcome) = transfers.next().await {
        done.files += 1;
        match outcome? {
            Outcome::Stored(bytes) => {
                report.stored += 1;
                report.bytes += bytes;
                done.bytes += bytes;
            }
            Outcome::Skipped(bytes) => {
                report.skipped += 1;
                done.bytes += bytes;
            }
        }
        progress(done);
    }
    (report.left_out, report.problems) = (problems.count, problems.named);
    Ok(report)
}

/// Finds directories and files, each directory before what is in it.
fn walk(
    store: &Store,
    import: &Import,
    problems: &mut Problems,
) -> Result<(Vec<Found>, Vec<Found>), TransferError> {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    let mut open = vec![(MediaPath::root(), import.directory.clone())];
    while let Some((directory, local)) = open.pop() {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TransferError::Read { path, source }
        };
        for entry in fs::read_dir(&local).map_err(failed(&local))? {
            let local = entry.map_err(failed(&local))?.path();
            let metadata = fs::symlink_metadata(&local).map_err(failed(&local))?;
            let name = local.file_name().unwrap_or_default();
            let Ok(path) = directory.child(name, store.prefix_bytes()) else {
                problems.add(local.display().to_string(), "its name cannot be stored in a bucket");
                continue;
            };
            if metadata.is_dir() {
                open.push((path.clone(), local.clone()));
                directories.push(Found { path, local, metadata });
            } else if metadata.is_file() {
                files.push(Found { path, local, metadata });
            } else {
                problems.add(path.as_str(), "it is neither a file nor a directory");
            }
        }
    }
    Ok((directories, files))
}

async fn store_directory(store: &Store, found: &Found, usual: u16) -> Result<(), StoreError> {
    let metadata = described(found, usual);
    let key = found.path.inside();
    let kind = "application/x-directory";
    match store.put(&key, Bytes::new(), &metadata, kind, &Wanted::Absent).await {
        Ok(_) | Err(StoreError::Changed(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn import_file(
    store: &Store,
    uploader: &Uploader,
    import: &Import,
    found: &Found,
) -> Result<Outcome, TransferError> {
    let size = found.metadata.len();
    let mut metadata = described(found, import.file_mode);
    let there = store.head(found.path.as_str()).await?;
    let seems_same = there
        .as_ref()
        .is_some_and(|object| object.size == size && object.metadata.modified == metadata.modified);
    if seems_same && !import.compares_content {
        return Ok(Outcome::Skipped(size));
    }
    let failed = |source| TransferError::Read { path: found.local.clone(), source };
    let local = found.local.clone();
    let (file, digest) = blocking(move || {
        let file = File::open(local)?;
        let digest = digest(&file)?;
        Ok((file, digest))
    })
    .await
    .map_err(failed)?;
    if seems_same && there.is_some_and(|object| object.metadata.sha256.as_ref() == Some(&digest)) {
        return Ok(Outcome::Skipped(size));
    }
    metadata.sha256 = Some(digest);
    let content = Arc::new(LocalFile { file, size });
    match uploader.put(content, &found.path, &metadata, &Wanted::Anything).await {
        Ok(_) => Ok(Outcome::Stored(size)),
        Err(Fault::Store(error)) => Err(error.into()),
        Err(Fault::Local { source, .. }) => Err(failed(source)),
        Err(Fault::Plain(errno)) => Err(failed(io::Error::from_raw_os_error(errno.code()))),
    }
}

fn described(found: &Found, usual: u16) -> Metadata {
    let mode = found.metadata.permissions().mode() & 0o7777;
    Metadata {
        modified: found.metadata.modified().ok(),
        mode: u16::try_from(mode).ok().filter(|mode| *mode != usual),
        ..Metadata::default()
    }
}

fn digest(file: &File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let length = file.read_at(&mut piece, offset)?;
        if length == 0 {
            return Ok(hexadecimal(&digest.finalize()));
        }
        digest.update(piece.get(..length).unwrap_or_default());
        offset += count(length);
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A file that stays as it is while it is stored; when it does not, what is read is too short or the
/// digest is wrong, and `verify` tells.
struct LocalFile {
    file: File,
    size: u64,
}

impl Content for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut data = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut data, offset)?;
        Ok(Bytes::from(data))
    }
}

//! What the workshop has that its revision has not. Reads only files that were touched since they were
//! read last. Everything here blocks.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read};
use std::path::Path;

use flotilla_host::git::directories;
use flotilla_host::git::index::{Entry, Index, Stat};
use flotilla_host::git::object::{BlobHash, ObjectId};
use flotilla_host::git::tree::{Content, Found, FoundKind, Tree};

use super::error::CaptureError;
use super::listing::Listing;
use super::walk::Walked;
use crate::repository::import::{FILE_BYTES_MAX, parent};

/// How many bytes of a file are in memory at a time.
pub(super) const PIECE_BYTES: usize = 256 * 1024;

/// What became of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// A file or link.
    File {
        /// Git's mode.
        mode: u32,
        /// What it held when it was read.
        object: ObjectId,
    },
    /// It is gone.
    Gone,
}

/// How the workshop differs from its revision.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// What became of which path.
    pub(super) changes: Vec<(Vec<u8>, Became)>,
    /// The new list of empty directories, when it is another one; empty when there are none.
    pub(super) directories: Option<Vec<u8>>,
    /// Changed files that could have changed again unseen.
    pub(super) fresh: Vec<Vec<u8>>,
    /// How many files were read.
    pub(super) files_read: usize,
}

impl Compared {
    /// Whether there is nothing to capture.
    pub(super) const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.directories.is_none()
    }

    /// Returns the first paths that changed.
    pub(super) fn paths(&self, max: usize) -> Vec<Vec<u8>> {
        self.changes.iter().take(max).map(|(path, _)| path.clone()).collect()
    }

    /// Returns how many paths changed.
    pub(super) fn count(&self) -> usize {
        self.changes.len() + usize::from(self.directories.is_some())
    }
}

/// Compares, and brings what is remembered of files up to date.
pub(super) fn compare(
    directory: &Path,
    walked: &Walked,
    listing: &Listing,
    remembered: &mut Index,
) -> Result<Compared, CaptureError> {
    let mut tree = Tree::open(directory).map_err(CaptureError::file(directory.to_owned()))?;
    let mut compared = Compared::default();
    let mut fresh_memory = Index::new();
    let mut held: HashSet<&[u8]> = HashSet::with_capacity(walked.found.len());
    for one in walked.found.iter().filter(|one| !one.is_skipped) {
        let Some(mode) = one.mode() else { continue };
        let stat = one.stat();
        let known = remembered.remove(&one.path).filter(|entry| entry.stat.is_same(&stat));
        let object = match known {
            Some(entry) => entry.object,
            None => match read(&mut tree, one)? {
                Some(object) => {
                    compared.files_read += 1;
                    object
                }
                // It went away; the next look sees it.
                None => continue,
            },
        };
        held.insert(&one.path);
        let is_fresh = walked.is_fresh(&stat);
        let is_same =
            listing.get(&one.path).is_some_and(|blob| (blob.mode, blob.object) == (mode, object));
        if !is_same {
            compared.changes.push((one.path.clone(), Became::File { mode, object }));
            if is_fresh {
                compared.fresh.push(one.path.clone());
            }
        }
        // What could change unseen is read again.
        let stat = if is_fresh { Stat::default() } else { stat };
        let entry = Entry { stat, mode, object, is_skipped: false };
        fresh_memory.insert(one.path.clone(), entry);
    }
    let gone = listing.files().map(|(path, _)| path).filter(|path| !held.contains(path));
    compared.changes.extend(gone.map(|path| (path.to_vec(), Became::Gone)));
    compare_directories(walked, listing, &mut compared);
    *remembered = fresh_memory;
    Ok(compared)
}

/// Compares empty directories, and the places of other repositories, which look like them.
fn compare_directories(walked: &Walked, listing: &Listing, compared: &mut Compared) {
    let mut filled: HashSet<&[u8]> = HashSet::new();
    let mut half: HashSet<&[u8]> = HashSet::new();
    let mut found: BTreeSet<&[u8]> = BTreeSet::new();
    for one in &walked.found {
        let above = parent(&one.path);
        if one.is_skipped {
            half.insert(above);
            continue;
        }
        if one.kind == FoundKind::Directory {
            found.insert(&one.path);
        }
        if one.kind != FoundKind::Other {
            filled.insert(above);
        }
    }
    for path in &listing.repositories {
        if !found.contains(path.as_slice()) || filled.contains(path.as_slice()) {
            compared.changes.push((path.clone(), Became::Gone));
        }
    }
    let is_empty = |path: &&&[u8]| {
        // A directory with nothing but what stays out counts as the revision counts it.
        let counts = !half.contains(**path) || listing.empty.contains(**path);
        !filled.contains(**path) && counts && !listing.repositories.contains(**path)
    };
    let empty: Vec<&[u8]> = found.iter().filter(is_empty).copied().collect();
    if !empty.iter().copied().eq(listing.empty.iter().map(Vec::as_slice)) {
        compared.directories = Some(directories::encode(empty));
    }
}

/// Reads a file for its blob's name; `None` when it went away or is another kind of thing by now.
fn read(tree: &mut Tree, found: &Found) -> Result<Option<ObjectId>, CaptureError> {
    let path = tree.full_path(&found.path);
    if found.size() > FILE_BYTES_MAX {
        return Err(CaptureError::TooLarge { path, limit: FILE_BYTES_MAX });
    }
    let content = match tree.open_content(&found.path) {
        Err(error) if is_gone(&error) => return Ok(None),
        content => content.map_err(CaptureError::file(path.clone()))?,
    };
    let (mut file, size) = match content {
        Content::Link(target) => return Ok(Some(ObjectId::of_blob(&target))),
        Content::File(file, size) => (file, size),
    };
    let mut hash = BlobHash::new(size);
    let mut piece = vec![0; usize::try_from(size).unwrap_or(PIECE_BYTES).clamp(1, PIECE_BYTES)];
    loop {
        let count = file.read(&mut piece).map_err(CaptureError::file(path.clone()))?;
        if count == 0 {
            return Ok(Some(hash.finish()));
        }
        hash.update(piece.get(..count).unwrap_or_default());
    }
}

/// Whether an error only says that somebody was quicker.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

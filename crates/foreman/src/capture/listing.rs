//! What a revision holds of all that is captured.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use flotilla_core::id::Revision;
use flotilla_host::git::object::ObjectId;
use flotilla_host::git::{Blob, Git, GitError, directories};

use crate::repository::captured::stays_out;

/// The files of a revision, without those that stay out of captures.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) revision: Revision,
    files: BTreeMap<Vec<u8>, Blob>,
    /// Where it names other repositories; a checkout makes empty directories of them.
    pub(super) repositories: BTreeSet<Vec<u8>>,
    /// The directories that are empty after a checkout.
    pub(super) empty: BTreeSet<Vec<u8>>,
    /// All that the list of empty directories names, whether it is so or not.
    pub(super) listed: BTreeSet<Vec<u8>>,
    objects: HashSet<ObjectId>,
}

impl Listing {
    /// Reads the tree of a revision.
    pub(super) async fn read(git: &Git, revision: &Revision) -> Result<Self, GitError> {
        let mut listing = Self {
            revision: revision.clone(),
            files: BTreeMap::new(),
            repositories: BTreeSet::new(),
            empty: BTreeSet::new(),
            listed: BTreeSet::new(),
            objects: HashSet::new(),
        };
        let mut has_list = false;
        for entry in git.tree(revision).await? {
            has_list |= entry.path == directories::FILE_NAME.as_bytes();
            if is_out(&entry.path) {
                continue;
            }
            if entry.is_repository() {
                listing.repositories.insert(entry.path);
            } else {
                listing.objects.insert(entry.object);
                let blob = Blob { mode: entry.mode, object: entry.object };
                listing.files.insert(entry.path, blob);
            }
        }
        if has_list {
            let list = git.read_file(revision, directories::FILE_NAME).await?.unwrap_or_default();
            listing.listed = directories::decode(&list).into_iter().collect();
        }
        listing.empty = listing.empty_of(&listing.listed);
        Ok(listing)
    }

    /// Returns the file at a path.
    pub(super) fn get(&self, path: &[u8]) -> Option<Blob> {
        self.files.get(path).copied()
    }

    /// Returns all files, ordered by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&[u8], Blob)> {
        self.files.iter().map(|(path, blob)| (path.as_slice(), *blob))
    }

    /// Returns the files below a directory, whose path ends with a `/`.
    pub(super) fn below<'a>(
        &'a self,
        directory: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Blob)> {
        let range = self.files.range(directory.to_vec()..);
        let below = range.take_while(move |(path, _)| path.starts_with(directory));
        below.map(|(path, blob)| (path.as_slice(), *blob))
    }

    /// Whether there are files below a directory, whose path has no `/` at the end.
    pub(super) fn has_below(&self, directory: &[u8]) -> bool {
        self.below(&[directory, b"/"].concat()).next().is_some()
    }

    /// Returns the list of empty directories as the tree has it.
    pub(super) fn encoded_list(&self) -> Vec<u8> {
        directories::encode(self.listed.iter().map(Vec::as_slice))
    }

    /// Whether the repository has these bytes already.
    pub(super) fn has_object(&self, object: &ObjectId) -> bool {
        self.objects.contains(object)
    }

    /// Of these directories, returns those that a checkout leaves empty.
    fn empty_of(&self, listed: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
        let is_empty = |path: &&Vec<u8>| {
            let inside = [path.as_slice(), b"/"].concat();
            let mut deeper = listed.range(inside.clone()..);
            !is_out(path)
                && !prefixes(path).any(|prefix| self.files.contains_key(prefix))
                && !deeper.next().is_some_and(|other| other.starts_with(&inside))
                && !self.has_below(path)
        };
        listed.iter().filter(is_empty).cloned().collect()
    }
}

/// Whether the path, or a directory above it, stays out of captures.
pub(super) fn is_out(path: &[u8]) -> bool {
    prefixes(path).any(stays_out)
}

/// Returns `a`, `a/b` and `a/b/c` for `a/b/c`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).filter_map(|end| path.get(..end))
}

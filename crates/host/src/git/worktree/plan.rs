//! Compares a directory with a revision and says what would make them the same. Writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Depth, Difference, DifferenceKind, Keep};
use crate::git::index::{Entry, Index, Stat};
use crate::git::object::ObjectId;
use crate::git::tree::{Found, FoundKind, Tree};
use crate::git::{FILE_BYTES_MAX, GitError, TreeEntry, directories};

/// Files up to this size are read to see whether they need to be written at all.
const COMPARE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One file of a revision.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedFile {
    mode: u32,
    pub(super) object: ObjectId,
}

impl WantedFile {
    pub(super) const fn is_link(&self) -> bool {
        self.mode == 0o120_000
    }

    /// Returns the permissions that the file shall have.
    pub(super) const fn permissions(&self) -> u32 {
        if self.mode == 0o100_755 { 0o755 } else { 0o644 }
    }

    /// Whether type and permissions are right; the permissions of a link say nothing.
    fn looks_like(&self, found: &Found) -> bool {
        match found.kind {
            FoundKind::Link => self.is_link(),
            FoundKind::File { .. } => {
                !self.is_link() && found.stat.st_mode & 0o7777 == self.permissions()
            }
            FoundKind::Directory | FoundKind::Other => false,
        }
    }

    pub(super) const fn entry(&self, stat: Stat) -> Entry {
        Entry { stat, mode: self.mode, object: self.object, is_skipped: false }
    }
}

/// All that a directory shall hold.
#[derive(Debug)]
pub(super) struct Wanted {
    files: BTreeMap<Vec<u8>, WantedFile>,
    /// Files of the revision that do not belong in the directory.
    skipped: Index,
    directories: BTreeSet<Vec<u8>>,
    keep: Keep,
}

impl Wanted {
    pub(super) fn new(entries: Vec<TreeEntry>, empty: Vec<Vec<u8>>, keep: Keep) -> Self {
        let mut wanted = Self {
            files: BTreeMap::new(),
            skipped: Index::new(),
            directories: BTreeSet::new(),
            keep,
        };
        for entry in entries {
            let file = WantedFile { mode: entry.mode, object: entry.object };
            let is_kept = prefixes(&entry.path).any(|prefix| wanted.keep.is_kept(prefix));
            let is_skipped = is_kept || entry.path == directories::FILE_NAME.as_bytes();
            if is_skipped || entry.is_repository() {
                if !is_skipped {
                    wanted.add_directory(&entry.path);
                }
                let entry_of_index = Entry { is_skipped: true, ..file.entry(Stat::default()) };
                wanted.skipped.insert(entry.path, entry_of_index);
            } else {
                wanted.add_parents(&entry.path);
                wanted.files.insert(entry.path, file);
            }
        }
        for path in empty.into_iter().chain(wanted.keep.directories.clone()) {
            wanted.add_directory(&path);
        }
        wanted
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Vec<u8>, &WantedFile)> {
        self.files.iter()
    }

    /// Adds a directory, unless the revision has a file in its way.
    fn add_directory(&mut self, path: &[u8]) {
        if !prefixes(path).any(|prefix| self.files.contains_key(prefix)) {
            self.add_parents(path);
            self.directories.insert(path.to_vec());
        }
    }

    fn add_parents(&mut self, path: &[u8]) {
        for prefix in prefixes(path).filter(|prefix| prefix.len() < path.len()) {
            if !self.directories.contains(prefix) {
                self.directories.insert(prefix.to_vec());
            }
        }
    }
}

/// One file that is to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) path: Vec<u8>,
    pub(super) file: WantedFile,
    pub(super) time: i64,
}

/// What makes a directory hold a revision, in the order in which it is done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Children before parents; by whether it is a directory.
    pub(super) removals: Vec<(Vec<u8>, bool)>,
    /// Parents before children.
    pub(super) directories: Vec<Vec<u8>>,
    /// Files that are right but for their time.
    pub(super) touches: Vec<Write>,
    pub(super) writes: Vec<Write>,
    /// Whether a path comes, goes, or leads elsewhere.
    pub(super) has_other_paths: bool,
    /// The index of the result, as far as it is known without the writes.
    pub(super) index: Index,
}

impl Plan {
    /// Returns the blobs of the writes, in their order.
    pub(super) fn objects(&self) -> impl Iterator<Item = ObjectId> {
        self.writes.iter().map(|write| write.file.object)
    }
}

/// Compares the directory with what is wanted.
pub(super) fn plan(
    tree: &Path,
    mut index: Index,
    mut wanted: Wanted,
    times: &HashMap<Vec<u8>, i64>,
) -> Result<Plan, GitError> {
    let mut tree = Tree::open(tree).map_err(GitError::file("open", tree))?;
    let found = walk(&tree, &wanted.keep)?;
    for one in found.iter().filter(|one| one.is_skipped) {
        wanted.add_parents(&one.path);
    }
    let latest = times.values().max().copied().unwrap_or_default();
    let mut plan = Plan {
        removals: Vec::new(),
        directories: Vec::new(),
        touches: Vec::new(),
        writes: Vec::new(),
        has_other_paths: false,
        index: std::mem::take(&mut wanted.skipped),
    };
    let mut rewritten = 0_usize;
    for one in found {
        if one.is_skipped {
            wanted.directories.remove(&one.path);
            continue;
        }
        if one.kind == FoundKind::Directory {
            if !wanted.directories.contains(&one.path) {
                plan.removals.push((one.path, true));
            } else if one.stat.st_mode & 0o7777 == 0o755 {
                wanted.directories.remove(&one.path);
            }
            continue;
        }
        let Some(file) = wanted.files.get(&one.path).copied() else {
            plan.removals.push((one.path, false));
            continue;
        };
        let held = index.remove(&one.path);
        if !holds(&mut tree, &one, &file, held.as_ref(), Depth::Quick) {
            rewritten += usize::from(matches!(one.kind, FoundKind::File { .. }) && !file.is_link());
            continue;
        }
        wanted.files.remove(&one.path);
        let time = times.get(&one.path).copied().unwrap_or(latest);
        if one.stat.st_mtime == time && one.stat.st_mtime_nsec == 0 {
            plan.index.insert(one.path, file.entry(Stat::of(&one.stat)));
        } else {
            plan.touches.push(Write { path: one.path, file, time });
        }
    }
    plan.removals.reverse();
    plan.directories = wanted.directories.into_iter().collect();
    plan.writes = wanted
        .files
        .into_iter()
        .map(|(path, file)| {
            let time = times.get(&path).copied().unwrap_or(latest);
            Write { path, file, time }
        })
        .collect();
    plan.has_other_paths =
        !plan.removals.is_empty() || !plan.directories.is_empty() || plan.writes.len() != rewritten;
    Ok(plan)
}

/// Lists how the directory differs from what is wanted.
pub(super) fn differences(
    tree: &Path,
    index: &Index,
    wanted: &Wanted,
    depth: Depth,
) -> Result<Vec<Difference>, GitError> {
    let mut tree = Tree::open(tree).map_err(GitError::file("open", tree))?;
    let found = walk(&tree, &wanted.keep)?;
    let mut missing: BTreeSet<&Vec<u8>> = wanted.files.keys().chain(&wanted.directories).collect();
    let mut above_kept = BTreeSet::new();
    for one in found.iter().filter(|one| one.is_skipped) {
        above_kept.extend(prefixes(&one.path));
    }
    let mut differences = Vec::new();
    for one in &found {
        missing.remove(&one.path);
        if above_kept.contains(&one.path[..]) {
            continue;
        }
        let kind = if one.kind == FoundKind::Directory {
            let is_wanted = wanted.directories.contains(&one.path);
            let as_file = wanted.files.contains_key(&one.path);
            match (is_wanted, as_file) {
                (true, _) => None,
                (_, true) => Some(DifferenceKind::Changed),
                _ => Some(DifferenceKind::Extra),
            }
        } else if wanted.directories.contains(&one.path) {
            Some(DifferenceKind::Changed)
        } else if let Some(file) = wanted.files.get(&one.path) {
            let is_held = holds(&mut tree, one, file, index.get(&one.path), depth);
            (!is_held).then_some(DifferenceKind::Changed)
        } else {
            Some(DifferenceKind::Extra)
        };
        differences.extend(kind.map(|kind| difference(&one.path, kind)));
    }
    differences.extend(missing.iter().map(|path| difference(path, DifferenceKind::Missing)));
    differences.sort();
    Ok(differences)
}

/// Whether a file is what the revision wants there, but for its time.
fn holds(
    tree: &mut Tree,
    found: &Found,
    file: &WantedFile,
    held: Option<&Entry>,
    depth: Depth,
) -> bool {
    if !file.looks_like(found) {
        return false;
    }
    let is_untouched = held.is_some_and(|held| {
        held.object == file.object && held.stat.is_same(&Stat::of(&found.stat))
    });
    if is_untouched && depth == Depth::Quick {
        return true;
    }
    let bytes_max = if depth == Depth::Full { FILE_BYTES_MAX } else { COMPARE_BYTES_MAX };
    // A file that cannot be read is not what is wanted.
    tree.read(&found.path, bytes_max).is_ok_and(|bytes| ObjectId::of_blob(&bytes) == file.object)
}

fn walk(tree: &Tree, keep: &Keep) -> Result<Vec<Found>, GitError> {
    tree.walk(&|path| keep.is_kept(path)).map_err(GitError::file("walk", tree.full_path(b"")))
}

fn difference(path: &[u8], kind: DifferenceKind) -> Difference {
    Difference { path: PathBuf::from(OsStr::from_bytes(path)), kind }
}

/// Returns `a`, `a/b` and `a/b/c` for `a/b/c`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).filter_map(|end| path.get(..end))
}

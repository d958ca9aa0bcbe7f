//! Carries out a plan on the disk, and notes last what the directory holds then.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flotilla_core::id::Revision;
use tokio::sync::mpsc;

use super::plan::{Plan, Write};
use super::{CheckedOut, INDEX, MARK};
use crate::git::GitError;
use crate::git::index::{self, Stat};
use crate::git::tree::{Owner, Tree, make_root};

/// A part of the blobs that are written, in the order of the plan.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes of the current blob.
    Bytes(Vec<u8>),
    /// The end of the current blob.
    End,
}

/// A plan with all it takes to carry it out.
#[derive(Debug)]
pub(super) struct Job {
    /// Held until the end, so that two checkouts take turns.
    pub(super) lock: File,
    pub(super) plan: Plan,
    pub(super) private: PathBuf,
    pub(super) tree: PathBuf,
    pub(super) revision: Revision,
    /// Whom the files are given to.
    pub(super) owner: Option<Owner>,
}

impl Job {
    /// Carries the plan out. Stops when the sender of the blobs is gone.
    pub(super) fn run(self, mut blobs: mpsc::Receiver<Piece>) -> Result<CheckedOut, GitError> {
        let Self { lock, plan, private, tree: path, revision, owner } = self;
        let mut tree = Tree::open(&path).map_err(GitError::file("open", &path))?;
        tree.give_to(owner).map_err(GitError::file("give away", &path))?;
        let mut done =
            CheckedOut { has_other_paths: plan.has_other_paths, ..CheckedOut::default() };
        for (path, is_directory) in &plan.removals {
            tree.remove(path, *is_directory)
                .map_err(GitError::file("remove", tree.full_path(path)))?;
            done.removed.push(relative(path));
        }
        for path in &plan.directories {
            tree.make_directory(path).map_err(GitError::file("create", tree.full_path(path)))?;
        }
        let mut index = plan.index;
        for Write { path, file, time } in plan.touches {
            let stat =
                tree.touch(&path, time).map_err(GitError::file("touch", tree.full_path(&path)))?;
            index.insert(path, file.entry(Stat::of(&stat)));
        }
        for write in plan.writes {
            let is_whole = begin(&mut tree, &write, &mut blobs)
                .map_err(GitError::file("write", tree.full_path(&write.path)))?;
            if !is_whole {
                return Err(GitError::Interrupted(path));
            }
            let stat = tree
                .place(&write.path, write.time)
                .map_err(GitError::file("write", tree.full_path(&write.path)))?;
            done.written.push(relative(&write.path));
            index.insert(write.path, write.file.entry(Stat::of(&stat)));
        }
        note(&private, &path, &index::write(&index), &revision)?;
        drop(lock);
        Ok(done)
    }
}

/// Makes the directories, and waits until no other checkout is at work.
pub(super) fn lock(private: &Path, tree: &Path) -> Result<File, GitError> {
    let (lock, path) = open_lock(private, tree)?;
    lock.lock().map_err(GitError::file("lock", &path))?;
    Ok(lock)
}

/// Makes the directories and takes the lock, unless somebody has it.
pub(super) fn try_lock(private: &Path, tree: &Path) -> Result<Option<File>, GitError> {
    let (lock, path) = open_lock(private, tree)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(GitError::file("lock", path)(error)),
    }
}

fn open_lock(private: &Path, tree: &Path) -> Result<(File, PathBuf), GitError> {
    make_root(tree).map_err(GitError::file("create", tree))?;
    std::fs::create_dir_all(private).map_err(GitError::file("create", private))?;
    let path = private.join("flotilla.lock");
    let lock = File::create(&path).map_err(GitError::file("create", &path))?;
    Ok((lock, path))
}

/// Writes what git and we remember of the directory's revision; the mark last, on the disk for good.
pub(super) fn note_commit(private: &Path, revision: &Revision) -> Result<(), GitError> {
    for name in ["HEAD", MARK] {
        let (path, new) = (private.join(name), private.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(revision.as_str().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(private)?.sync_all()
        };
        write().map_err(GitError::file("write", &path))?;
    }
    Ok(())
}

/// Writes a file under a name of its own; returns false when its bytes stop coming.
fn begin(tree: &mut Tree, write: &Write, blobs: &mut mpsc::Receiver<Piece>) -> io::Result<bool> {
    if write.file.is_link() {
        let mut target = Vec::new();
        loop {
            match blobs.blocking_recv() {
                Some(Piece::Bytes(bytes)) => target.extend(bytes),
                Some(Piece::End) => break,
                None => return Ok(false),
            }
        }
        tree.begin_link(&write.path, &target)?;
        return Ok(true);
    }
    let mut file = tree.begin_file(&write.path, write.file.permissions())?;
    loop {
        match blobs.blocking_recv() {
            Some(Piece::Bytes(bytes)) => file.write_all(&bytes)?,
            Some(Piece::End) => return Ok(true),
            None => return Ok(false),
        }
    }
}

/// Writes git's private files of the worktree, the mark of a whole checkout last.
fn note(private: &Path, tree: &Path, index: &[u8], revision: &Revision) -> Result<(), GitError> {
    let link = tree.join(".git");
    let files: [(&str, &[u8]); 6] = [
        ("commondir", b"../..\n"),
        ("gitdir", link.as_os_str().as_bytes()),
        ("locked", b"kept by flotilla\n"),
        (INDEX, index),
        ("HEAD", revision.as_str().as_bytes()),
        (MARK, revision.as_str().as_bytes()),
    ];
    for (name, bytes) in files {
        let (path, new) = (private.join(name), private.join(format!("{name}.new")));
        std::fs::write(&new, bytes).map_err(GitError::file("write", &new))?;
        std::fs::rename(&new, &path).map_err(GitError::file("write", &path))?;
    }
    Ok(())
}

fn relative(path: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}

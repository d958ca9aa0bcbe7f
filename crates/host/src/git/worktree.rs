//! The files of one revision in a directory: made in place, byte by byte, and checked.
//!
//! The directory holds no `.git` of any kind. Git's private files of the worktree are at
//! `worktrees/<name>` of the repository, with a detached `HEAD` and an index, so that
//! `git --git-dir=…/worktrees/blue --work-tree=… status` works for a person who looks.
//!
//! A checkout trusts nothing but what it sees: it compares the directory with the revision, using
//! the index only to know which files need not be read. So it heals what an earlier one that was
//! killed left behind, and what anybody changed since. Each file is replaced in one step.

mod apply;
mod plan;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_core::id::Revision;
use tokio::sync::mpsc;

use self::apply::Piece;
use self::plan::{Plan, Wanted};
use super::index::{self, Index};
use super::objects::Blobs;
use super::tree::Owner;
use super::{Git, GitError, directories};

/// The name of git's index below the private directory.
const INDEX: &str = "index";
/// The name of the mark of a whole checkout.
const MARK: &str = "checked-out";
/// How many pieces of blobs wait for the disk at a time.
const PIECES_MAX: usize = 8;

type Matcher = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What in the directory is none of the checkout's business: mount points, caches, uploads.
#[derive(Clone, Default)]
pub struct Keep {
    directories: Vec<Vec<u8>>,
    matcher: Option<Matcher>,
}

impl Keep {
    /// Keeps these directories and makes those that are missing; paths are from the root of the tree.
    #[must_use]
    pub fn directories<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let bytes = |path: P| path.as_ref().as_os_str().as_bytes().to_vec();
        Self { directories: paths.into_iter().map(bytes).collect(), matcher: None }
    }

    /// Also keeps everything whose path the function says yes to, with all below it.
    #[must_use]
    pub fn and_matching(mut self, matcher: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        self.matcher = Some(Arc::new(matcher));
        self
    }

    fn is_kept(&self, path: &[u8]) -> bool {
        self.directories.iter().any(|kept| kept == path)
            || self.matcher.as_ref().is_some_and(|matches| matches(path))
    }
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Keep")
            .field("directories", &self.directories)
            .finish_non_exhaustive()
    }
}

/// What a checkout had to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// The files that were written, as paths from the root of the tree.
    pub written: Vec<PathBuf>,
    /// The files and directories that were removed.
    pub removed: Vec<PathBuf>,
    /// Whether a path came, went, or leads elsewhere; false when files only have other bytes.
    pub has_other_paths: bool,
}

/// How closely a tree is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Files whose size, times and inode are as the checkout left them are not read.
    Quick,
    /// Every byte is read.
    Full,
}

/// How something in a directory differs from the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// The revision has it, the directory does not.
    Missing,
    /// The directory has it, the revision does not.
    Extra,
    /// Both have it, with other bytes, mode or type.
    Changed,
}

/// One path at which a directory differs from the revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The path from the root of the tree.
    pub path: PathBuf,
    /// How it differs.
    pub kind: DifferenceKind,
}

/// Keeps checkouts of a worktree away while it lives.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

/// A directory that holds the files of one revision of a repository.
#[derive(Debug, Clone)]
pub struct Worktree {
    git: Git,
    name: String,
    tree: PathBuf,
    owner: Option<Owner>,
}

impl Worktree {
    /// Names a worktree; nothing is touched. The name is that of a directory: `blue`, `workshop`.
    pub fn new(git: Git, name: impl Into<String>, tree: impl Into<PathBuf>) -> Self {
        Self { git, name: name.into(), tree: tree.into(), owner: None }
    }

    /// Has checkouts give what they make to a user, which only root can; somebody else may then change
    /// the files.
    #[must_use]
    pub fn owned_by(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }

    /// Returns the directory with the files.
    #[must_use]
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Returns git's private directory of this worktree, which `--git-dir` takes.
    #[must_use]
    pub fn private_directory(&self) -> PathBuf {
        self.git.directory().join("worktrees").join(&self.name)
    }

    /// Returns the revision that the last checkout completed; `None` while one is under way, or
    /// after it was killed.
    pub async fn checked_out(&self) -> Option<Revision> {
        let mark = tokio::fs::read_to_string(self.mark()).await.ok()?;
        mark.trim().parse().ok()
    }

    /// Makes the directory hold the revision and nothing else but what is kept.
    ///
    /// Times of modification depend on the revision alone. Interrupted at any point, also by a kill
    /// of the program, another checkout makes it right. Two at the same time take turns.
    pub async fn checkout(&self, to: &Revision, keep: &Keep) -> Result<CheckedOut, GitError> {
        let wanted = self.wanted(to, keep).await?;
        let lock = self.lock().await?;
        let mark = self.mark();
        let before = self.checked_out().await;
        let index = self.index().await;
        let times = self.times(before.as_ref(), to, &wanted, &index).await?;
        remove_if_there(&mark).await?;
        let plan = self.plan(wanted, times, index).await?;

        let mut blobs = Blobs::new(&self.git, plan.objects())?;
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        let job = apply::Job {
            lock,
            plan,
            private: self.private_directory(),
            tree: self.tree.clone(),
            revision: to.clone(),
            owner: self.owner,
        };
        let count = job.plan.writes.len();
        let applied = tokio::task::spawn_blocking(move || job.run(receiver));
        let sent = send_blobs(&mut blobs, count, sender).await;
        let applied = applied.await?;
        // When the disk fails, the sender only sees that nobody listens any more.
        match (sent, applied) {
            (Err(error), Err(GitError::Interrupted(_))) => Err(error),
            (_, Err(error)) => Err(error),
            (_, Ok(done)) => Ok(done),
        }
    }

    /// Compares the directory with a revision; an empty list means that they are the same.
    pub async fn verify(
        &self,
        revision: &Revision,
        keep: &Keep,
        depth: Depth,
    ) -> Result<Vec<Difference>, GitError> {
        let wanted = self.wanted(revision, keep).await?;
        let (tree, index) = (self.tree.clone(), self.index().await);
        let compare = move || plan::differences(&tree, &index, &wanted, depth);
        let compared = tokio::task::spawn_blocking(compare).await;
        compared?
    }

    /// Keeps checkouts away for as long as the returned value lives; `None` when one is under way.
    pub async fn try_hold(&self) -> Result<Option<Held>, GitError> {
        let (private, tree) = (self.private_directory(), self.tree.clone());
        let held = tokio::task::spawn_blocking(move || apply::try_lock(&private, &tree)).await;
        Ok(held??.map(|lock| Held { _lock: lock }))
    }

    /// Notes that the directory holds another revision by now, because somebody made a commit of what
    /// is in it. One step: whoever is killed on the way has noted it or not. Touches no file.
    pub async fn note_commit(&self, _held: &Held, revision: &Revision) -> Result<(), GitError> {
        let (private, revision) = (self.private_directory(), revision.clone());
        let noted =
            tokio::task::spawn_blocking(move || apply::note_commit(&private, &revision)).await;
        noted?
    }

    fn mark(&self) -> PathBuf {
        self.private_directory().join(MARK)
    }

    async fn wanted(&self, revision: &Revision, keep: &Keep) -> Result<Wanted, GitError> {
        let entries = self.git.tree(revision).await?;
        let unsafe_path = entries.iter().find(|entry| !directories::is_inside(&entry.path));
        if let Some(entry) = unsafe_path {
            return Err(GitError::UnsafePath {
                revision: revision.clone(),
                path: String::from_utf8_lossy(&entry.path).into_owned(),
            });
        }
        let list = self.git.read_file(revision, directories::FILE_NAME).await?;
        let empty = list.map(|list| directories::decode(&list)).unwrap_or_default();
        Ok(Wanted::new(entries, empty, keep.clone()))
    }

    /// Works out the times of modification: from those that are in the directory already when the
    /// revision continues the one there, else from the whole history.
    async fn times(
        &self,
        before: Option<&Revision>,
        to: &Revision,
        wanted: &Wanted,
        index: &Index,
    ) -> Result<HashMap<Vec<u8>, i64>, GitError> {
        if let Some(before) = before
            && self.git.continues(before, to).await?
        {
            let mut times = self.git.touched(&format!("{before}..{to}")).await?;
            let is_whole = wanted.files().all(|(path, file)| {
                let held = index.get(path).filter(|held| held.object == file.object);
                let held = held.map(|held| i64::from(held.stat.modified_seconds()));
                let time = times.get(path).copied().or(held);
                time.map(|time| times.insert(path.clone(), time)).is_some()
            });
            if is_whole {
                return Ok(times);
            }
        }
        self.git.touched(to.as_str()).await
    }

    /// Reads what the last checkout noted; nothing when there was none or its notes are damaged.
    async fn index(&self) -> Index {
        let bytes = tokio::fs::read(self.private_directory().join(INDEX)).await;
        bytes.ok().and_then(|bytes| index::read(&bytes)).unwrap_or_default()
    }

    async fn lock(&self) -> Result<File, GitError> {
        let (private, tree) = (self.private_directory(), self.tree.clone());
        let locked = tokio::task::spawn_blocking(move || apply::lock(&private, &tree)).await;
        locked?
    }

    async fn plan(
        &self,
        wanted: Wanted,
        times: HashMap<Vec<u8>, i64>,
        index: Index,
    ) -> Result<Plan, GitError> {
        let tree = self.tree.clone();
        let make = move || plan::plan(&tree, index, wanted, &times);
        let planned = tokio::task::spawn_blocking(make).await;
        planned?
    }
}

async fn send_blobs(
    blobs: &mut Blobs,
    count: usize,
    sender: mpsc::Sender<Piece>,
) -> Result<(), GitError> {
    for _ in 0..count {
        blobs.next().await?;
        while let Some(bytes) = blobs.piece().await? {
            if sender.send(Piece::Bytes(bytes)).await.is_err() {
                return Ok(());
            }
        }
        if sender.send(Piece::End).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn remove_if_there(path: &Path) -> Result<(), GitError> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(GitError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

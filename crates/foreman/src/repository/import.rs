//! Turns a directory into a commit: one walk, one `git fast-import`, every byte as it is.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_core::id::Revision;
use flotilla_host::git::object::ObjectId;
use flotilla_host::git::tree::{FoundKind, Tree};
use flotilla_host::git::{Git, GitError, TreeEntry, directories};
use tokio::sync::mpsc;

use super::captured::stays_out;
use super::fast_import::{Existing, FastImport, heading, modify, modify_bytes};
use super::{NewCommit, RepositoryError};

/// The largest file that is taken in.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How many files wait for git at a time.
const WAITING_MAX: usize = 4;

/// Makes the commit and returns it; nothing refers to it yet.
pub(super) async fn commit(
    git: &Git,
    directory: &Path,
    commit: &NewCommit,
    known: &[TreeEntry],
) -> Result<Revision, RepositoryError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut import = FastImport::start(git, Existing::Replace)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let reference = format!("refs/flotilla/import/{}-{number}", std::process::id());
    let mut heading = heading(commit, &reference);
    heading.extend(b"deleteall\n");
    let known = known.iter().map(|entry| entry.object).collect();
    let directory = directory.to_owned();
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let walk = tokio::task::spawn_blocking(move || send_directory(&directory, &known, &sender));
    let mut is_heard = import.send(&heading).await;
    while is_heard && let Some(bytes) = receiver.recv().await {
        is_heard = import.send(&bytes).await;
    }
    drop(receiver);
    // When a file cannot be read, git misses its `done` and leaves nothing behind.
    walk.await.map_err(GitError::from)??;
    let revision = import.finish().await?;
    git.pin(&revision).await?;
    git.command("update-ref").args(["-d", &reference]).run().await?;
    Ok(revision)
}

/// Reads the directory and sends it in the form that fast-import takes. Blocks.
fn send_directory(
    directory: &Path,
    known: &HashSet<ObjectId>,
    sender: &mpsc::Sender<Vec<u8>>,
) -> Result<(), RepositoryError> {
    let file_error = |path: PathBuf| move |source| RepositoryError::File { path, source };
    let mut tree = Tree::open(directory).map_err(file_error(directory.to_owned()))?;
    let found = tree.walk(&stays_out).map_err(file_error(directory.to_owned()))?;
    let mut filled = HashSet::new();
    let mut is_empty = true;
    for one in found.iter().filter(|one| !one.is_skipped) {
        let Some(mode) = one.mode() else {
            if one.kind == FoundKind::Directory {
                filled.insert(parent(&one.path));
            }
            continue;
        };
        let bytes = match tree.read(&one.path, FILE_BYTES_MAX) {
            // It went away since the walk.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(file_error(tree.full_path(&one.path)))?,
        };
        filled.insert(parent(&one.path));
        is_empty = false;
        if sender.blocking_send(file_modify(mode, &one.path, &bytes, known)).is_err() {
            // Git has ended; it is asked why.
            return Ok(());
        }
    }
    if is_empty {
        return Err(RepositoryError::Empty(directory.to_owned()));
    }
    let is_empty = |path: &Vec<u8>| !filled.contains(path.as_slice());
    let kept = found.iter().filter(|one| !one.is_skipped && one.kind == FoundKind::Directory);
    let empty = kept.map(|one| &one.path).filter(|path| is_empty(path)).map(Vec::as_slice);
    let list = directories::encode(empty);
    if !list.is_empty() {
        let path = directories::FILE_NAME.as_bytes();
        // The receiver is gone only when git has ended, and then git is asked why.
        drop(sender.blocking_send(file_modify(0o100_644, path, &list, known)));
    }
    Ok(())
}

/// Writes one file as a command of fast-import; bytes that git has already are only named.
fn file_modify(mode: u32, path: &[u8], bytes: &[u8], known: &HashSet<ObjectId>) -> Vec<u8> {
    let object = ObjectId::of_blob(bytes);
    if known.contains(&object) {
        modify(mode, path, object)
    } else {
        modify_bytes(mode, path, bytes)
    }
}

/// Returns the directory that has a path.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

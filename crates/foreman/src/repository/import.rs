//! Turns a directory into a commit: one walk, one `git fast-import`, every byte as it is.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flotilla_core::id::Revision;
use flotilla_host::git::object::ObjectId;
use flotilla_host::git::tree::{FoundKind, Tree};
use flotilla_host::git::{Git, GitError, TreeEntry, directories};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::captured::stays_out;
use super::{NewCommit, RepositoryError};

/// How long it may take; the code of a large site is some hundred megabytes.
const TIME_LIMIT: Duration = Duration::from_secs(600);
/// The largest file that is taken in.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
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
    let mut running = git
        .command("fast-import")
        .args(["--quiet", "--done", "--force", "--date-format=raw"])
        .open_stdin()
        .time_limit(TIME_LIMIT)
        .start()?;
    let Some(mut stdin) = running.take_stdin() else {
        return Err(GitError::Output("git fast-import").into());
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let reference = format!("refs/flotilla/import/{}-{number}", std::process::id());
    let heading = heading(commit, &reference);
    let known = known.iter().map(|entry| entry.object).collect();
    let directory = directory.to_owned();
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let walk = tokio::task::spawn_blocking(move || send_directory(&directory, &known, &sender));
    let fed = tokio::time::timeout(TIME_LIMIT, async {
        stdin.write_all(&heading).await?;
        while let Some(bytes) = receiver.recv().await {
            stdin.write_all(&bytes).await?;
        }
        io::Result::Ok(())
    })
    .await;
    drop(receiver);
    // When a file cannot be read, git misses its `done` and leaves nothing behind.
    let walked = walk.await.map_err(GitError::from)?;
    if walked.is_ok() && matches!(fed, Ok(Ok(()))) {
        let end = b"get-mark :1\ndone\n";
        // A git that has ended says why when it is waited for.
        drop(stdin.write_all(end).await);
    }
    drop(stdin);
    let mut printed = Vec::new();
    while running.read(&mut printed).await? > 0 {}
    let finished = running.finish().await;
    walked?;
    finished?;
    let printed = String::from_utf8_lossy(&printed);
    let revision: Revision = printed.trim().parse().map_err(GitError::from)?;
    git.pin(&revision).await?;
    git.command("update-ref").args(["-d", &reference]).run().await?;
    Ok(revision)
}

fn heading(commit: &NewCommit, reference: &str) -> Vec<u8> {
    let clean = |text: &str| text.replace(['<', '>', '\n', '\0'], " ").trim().to_owned();
    let (name, email) = (clean(&commit.author.name), clean(&commit.author.email));
    let seconds = commit.time.0 / 1_000;
    let message = commit.message.replace('\0', " ");
    let mut text = format!(
        "commit {reference}\nmark :1\nauthor {name} <{email}> {seconds} +0000\n\
         committer flotilla <flotilla@localhost> {seconds} +0000\ndata {}\n{message}\n",
        message.len(),
    );
    if let Some(parent) = &commit.parent {
        text.push_str("from ");
        text.push_str(parent.as_str());
        text.push('\n');
    }
    text.push_str("deleteall\n");
    text.into_bytes()
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
        let mode = match one.kind {
            FoundKind::Other => continue,
            FoundKind::Directory => {
                filled.insert(parent(&one.path));
                continue;
            }
            FoundKind::File { is_executable: true } => "100755",
            FoundKind::File { is_executable: false } => "100644",
            FoundKind::Link => "120000",
        };
        let bytes = match tree.read(&one.path, FILE_BYTES_MAX) {
            // It went away since the walk.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(file_error(tree.full_path(&one.path)))?,
        };
        filled.insert(parent(&one.path));
        is_empty = false;
        if sender.blocking_send(file_modify(mode, &one.path, bytes, known)).is_err() {
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
        drop(sender.blocking_send(file_modify("100644", path, list, known)));
    }
    Ok(())
}

/// Writes one file as a command of fast-import; bytes that git has already are only named.
fn file_modify(mode: &str, path: &[u8], bytes: Vec<u8>, known: &HashSet<ObjectId>) -> Vec<u8> {
    let object = ObjectId::of_blob(&bytes);
    let is_known = known.contains(&object);
    let mut command = if is_known {
        format!("M {mode} {object} ").into_bytes()
    } else {
        format!("M {mode} inline ").into_bytes()
    };
    quote(path, &mut command);
    if !is_known {
        command.extend(format!("\ndata {}\n", bytes.len()).bytes());
        command.extend(bytes);
    }
    command.push(b'\n');
    command
}

/// Quotes a path the way C quotes a string.
fn quote(path: &[u8], into: &mut Vec<u8>) {
    into.push(b'"');
    for byte in path {
        match byte {
            b'"' | b'\\' | b'\n' | 0..0x20 | 0x7f.. => into.extend(format!("\\{byte:03o}").bytes()),
            byte => into.push(*byte),
        }
    }
    into.push(b'"');
}

fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

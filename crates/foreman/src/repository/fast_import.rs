//! `git fast-import`: takes commits as a stream, every byte as it is. No index, no attributes, no
//! ignore rules, no line endings.

use std::time::Duration;

use flotilla_core::id::Revision;
use flotilla_host::command::Running;
use flotilla_host::git::object::ObjectId;
use flotilla_host::git::{Git, GitError};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::time::Instant;

use super::NewCommit;

/// How long it may take; the code of a large site is some hundred megabytes.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(600);

/// What becomes of a reference that is there and leads elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is moved.
    Replace,
    /// It stays, and the import fails.
    Keep,
}

/// One commit on its way into a repository. Dropped before its end, it leaves nothing behind that
/// anything refers to.
#[derive(Debug)]
pub(crate) struct FastImport {
    running: Running,
    stdin: ChildStdin,
    deadline: Instant,
}

impl FastImport {
    /// Starts git. What it writes is on the disk for good before a reference leads to it.
    pub(crate) fn start(git: &Git, existing: Existing) -> Result<Self, GitError> {
        let mut command =
            git.command("fast-import").args(["--quiet", "--done", "--date-format=raw"]);
        if existing == Existing::Replace {
            command = command.arg("--force");
        }
        let mut running = command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "core.fsync")
            .env("GIT_CONFIG_VALUE_0", "committed,reference")
            .open_stdin()
            .time_limit(TIME_LIMIT)
            .start()?;
        let stdin = running.take_stdin().ok_or(GitError::Output("git fast-import"))?;
        Ok(Self { running, stdin, deadline: Instant::now() + TIME_LIMIT })
    }

    /// Sends a part of the stream; false when git takes no more, and [`Self::finish`] tells why.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout_at(self.deadline, self.stdin.write_all(bytes)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Ends the stream and returns the commit with the mark 1.
    pub(crate) async fn finish(mut self) -> Result<Revision, GitError> {
        self.send(b"get-mark :1\ndone\n").await;
        drop(self.stdin);
        let mut printed = Vec::new();
        while self.running.read(&mut printed).await? > 0 {}
        self.running.finish().await?;
        Ok(String::from_utf8_lossy(&printed).trim().parse()?)
    }
}

/// Begins a commit on a reference, which is made or moved when the stream ends.
pub(crate) fn heading(commit: &NewCommit, reference: &str) -> Vec<u8> {
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
    text.into_bytes()
}

/// Names the tree that the commit has.
pub(crate) fn whole_tree(tree: ObjectId) -> Vec<u8> {
    format!("M 040000 {tree} \"\"\n").into_bytes()
}

/// Gives a path a blob that the repository has.
pub(crate) fn modify(mode: u32, path: &[u8], object: ObjectId) -> Vec<u8> {
    let mut command = format!("M {mode:06o} {object} ").into_bytes();
    quote(path, &mut command);
    command.push(b'\n');
    command
}

/// Gives a path bytes, of which so many must follow, and then a line's end.
pub(crate) fn modify_inline(mode: u32, path: &[u8], size: u64) -> Vec<u8> {
    let mut command = format!("M {mode:06o} inline ").into_bytes();
    quote(path, &mut command);
    command.extend(format!("\ndata {size}\n").bytes());
    command
}

/// Gives a path these bytes.
pub(crate) fn modify_bytes(mode: u32, path: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut command = modify_inline(mode, path, bytes.len() as u64);
    command.extend(bytes);
    command.push(b'\n');
    command
}

/// Takes a path away.
pub(crate) fn delete(path: &[u8]) -> Vec<u8> {
    let mut command = b"D ".to_vec();
    quote(path, &mut command);
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

//! Trees and blobs, read from one long-lived `git cat-file` in pieces of bounded size.

use flotilla_core::id::Revision;

use super::object::ObjectId;
use super::{FILE_BYTES_MAX, Git, GitError};
use crate::command::Running;

/// The bytes of a blob that are in memory at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The path from the root of the tree; not necessarily UTF-8.
    pub path: Vec<u8>,
    /// Git's mode: 0o100644, 0o100755, 0o120000 (symbolic link) or 0o160000 (another repository).
    pub mode: u32,
    /// The blob.
    pub object: ObjectId,
}

impl TreeEntry {
    /// Whether it is a symbolic link.
    #[must_use]
    pub const fn is_link(&self) -> bool {
        self.mode == 0o120_000
    }

    /// Whether it stands for a repository of its own, which has no bytes here.
    #[must_use]
    pub const fn is_repository(&self) -> bool {
        self.mode == 0o160_000
    }
}

impl Git {
    /// Returns all files of a revision, ordered by the bytes of their paths.
    pub async fn tree(&self, revision: &Revision) -> Result<Vec<TreeEntry>, GitError> {
        let arguments = ["-r", "-z", "--full-tree", revision.as_str()];
        let output = self.command("ls-tree").args(arguments).run().await?;
        let lines = output.stdout.split(|byte| *byte == 0).filter(|line| !line.is_empty());
        let entries = lines.map(|line| parse_entry(line).ok_or(GitError::Output("git ls-tree")));
        entries.collect()
    }

    /// Returns the bytes of one file of a revision; `None` when there is no such file.
    pub async fn read_file(
        &self,
        revision: &Revision,
        path: &str,
    ) -> Result<Option<Vec<u8>>, GitError> {
        let mut blobs = Blobs::of_names(self, format!("{revision}:{path}\n"))?;
        let Some(size) = blobs.next_or_missing().await? else { return Ok(None) };
        if size > FILE_BYTES_MAX {
            return Err(GitError::Output("git cat-file"));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = blobs.piece().await? {
            bytes.extend(piece);
        }
        Ok(Some(bytes))
    }
}

/// The contents of blobs, one after another in the order they were asked for.
#[derive(Debug)]
pub struct Blobs {
    running: Running,
    buffer: Vec<u8>,
    /// What is left of the current blob.
    left: u64,
    is_newline_due: bool,
}

impl Blobs {
    /// Begins to read these blobs.
    pub fn new(git: &Git, objects: impl IntoIterator<Item = ObjectId>) -> Result<Self, GitError> {
        use std::fmt::Write as _;
        let mut names = String::new();
        for object in objects {
            // Writing to a string does not fail.
            let _: std::fmt::Result = writeln!(names, "{object}");
        }
        Self::of_names(git, names)
    }

    fn of_names(git: &Git, names: String) -> Result<Self, GitError> {
        let command = git.command("cat-file").args(["--batch", "--buffer"]).stdin(names);
        let running = command.start()?;
        Ok(Self { running, buffer: Vec::new(), left: 0, is_newline_due: false })
    }

    /// Goes to the next blob and returns its size.
    pub async fn next(&mut self) -> Result<u64, GitError> {
        self.next_or_missing()
            .await?
            .ok_or_else(|| GitError::MissingObject("of the checkout".to_owned()))
    }

    async fn next_or_missing(&mut self) -> Result<Option<u64>, GitError> {
        while self.piece().await?.is_some() {}
        let line = loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                break std::mem::replace(&mut self.buffer, rest);
            }
            if self.running.read(&mut self.buffer).await? == 0 {
                return Err(GitError::Output("git cat-file"));
            }
        };
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.ends_with(" missing\n") {
            return Ok(None);
        }
        let mut words = line.split_ascii_whitespace().skip(1);
        let is_blob = words.next() == Some("blob");
        let size = words.next().and_then(|size| size.parse().ok());
        let size = size.filter(|_| is_blob).ok_or(GitError::Output("git cat-file"))?;
        self.left = size;
        self.is_newline_due = true;
        Ok(Some(size))
    }

    /// Returns the next bytes of the current blob; `None` at its end.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, GitError> {
        if self.left == 0 {
            if self.is_newline_due {
                self.fill(1).await?;
                self.buffer.drain(..1);
                self.is_newline_due = false;
            }
            return Ok(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        self.fill(wanted).await?;
        let rest = self.buffer.split_off(wanted);
        let piece = std::mem::replace(&mut self.buffer, rest);
        self.left -= wanted as u64;
        Ok(Some(piece))
    }

    async fn fill(&mut self, count: usize) -> Result<(), GitError> {
        while self.buffer.len() < count {
            if self.running.read(&mut self.buffer).await? == 0 {
                return Err(GitError::Output("git cat-file"));
            }
        }
        Ok(())
    }
}

fn parse_entry(line: &[u8]) -> Option<TreeEntry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (meta, path) = line.split_at_checked(tab)?;
    let mut words = meta.split(|byte| *byte == b' ');
    let mode = u32::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 8).ok()?;
    let object = ObjectId::from_hex(words.nth(1)?)?;
    // Older programs wrote group-writable files; git counts them as plain ones.
    let mode = if mode == 0o100_664 { 0o100_644 } else { mode };
    Some(TreeEntry { path: path.get(1..)?.to_vec(), mode, object })
}

//! Commits: what they say, what they change, and when each file was last touched.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use flotilla_core::id::Revision;

use super::{Git, GitError};

const FORMAT: &str = "--format=%H%x00%P%x00%ct%x00%an%x00%ae%x00%s%x00%b%x00";
const FIELDS: usize = 7;

/// A commit as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub revision: Revision,
    /// Its parents, the first one being the line it continues.
    pub parents: Vec<Revision>,
    /// When it was committed, in seconds since 1970.
    pub time_seconds: i64,
    /// Who wrote it.
    pub author_name: String,
    /// The author's address.
    pub author_email: String,
    /// The first line of its message.
    pub subject: String,
    /// The rest of its message.
    pub body: String,
}

/// How a path differs between two revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the newer one has it.
    Added,
    /// Both have it, with other bytes, another mode or another type.
    Modified,
    /// Only the older one has it.
    Removed,
}

/// One path that differs between two revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path from the root of the tree; not necessarily UTF-8.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
}

impl Git {
    /// Returns a commit; `None` when the repository lacks it.
    pub async fn commit(&self, revision: &Revision) -> Result<Option<Commit>, GitError> {
        if !self.has_commit(revision).await? {
            return Ok(None);
        }
        Ok(self.commits(revision, 1).await?.pop())
    }

    /// Returns the commits that a revision continues, newest first, along first parents.
    pub async fn commits(&self, from: &Revision, max: usize) -> Result<Vec<Commit>, GitError> {
        self.commits_touching(from, None, max).await
    }

    /// Returns those of the commits that changed a path, or all.
    pub async fn commits_touching(
        &self,
        from: &Revision,
        path: Option<&str>,
        max: usize,
    ) -> Result<Vec<Commit>, GitError> {
        let output = self
            .command("log")
            .args(["--first-parent", "--no-color", "--no-patch", FORMAT])
            .arg(format!("--max-count={max}"))
            .args([from.as_str(), "--"])
            .args(path)
            .run()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let fields: Vec<&str> = text.split('\0').collect();
        fields
            .chunks_exact(FIELDS)
            .map(|fields| parse_commit(fields).ok_or(GitError::Output("git log")))
            .collect()
    }

    /// Returns when a revision was committed, in seconds since 1970.
    pub async fn commit_time(&self, revision: &Revision) -> Result<i64, GitError> {
        let commit = self.commits(revision, 1).await?.pop();
        commit.map(|commit| commit.time_seconds).ok_or(GitError::Output("git log"))
    }

    /// Whether `older` is `newer` or in its history.
    pub async fn is_ancestor(&self, older: &Revision, newer: &Revision) -> Result<bool, GitError> {
        let arguments = ["--is-ancestor", older.as_str(), newer.as_str()];
        let output = self.command("merge-base").args(arguments).run_unchecked().await?;
        Ok(output.status.success())
    }

    /// Whether going from `newer` along first parents comes through `older`.
    pub(super) async fn continues(
        &self,
        older: &Revision,
        newer: &Revision,
    ) -> Result<bool, GitError> {
        if older == newer {
            return Ok(true);
        }
        let output = self
            .command("rev-list")
            .args(["--first-parent", "--parents", &format!("{older}..{newer}"), "--"])
            .run_unchecked()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let oldest = text.lines().last().unwrap_or_default();
        Ok(oldest.split(' ').nth(1) == Some(older.as_str()))
    }

    /// Returns the paths that differ between two revisions.
    pub async fn changes(&self, from: &Revision, to: &Revision) -> Result<Vec<Change>, GitError> {
        let output = self
            .command("diff-tree")
            .args(["-r", "-z", "--raw", "--no-renames", from.as_str(), to.as_str()])
            .run()
            .await?;
        let mut tokens = output.stdout.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        while let Some(meta) = tokens.next().filter(|meta| !meta.is_empty()) {
            let path = tokens.next().ok_or(GitError::Output("git diff-tree"))?;
            let kind = match meta.last() {
                Some(b'A') => ChangeKind::Added,
                Some(b'D') => ChangeKind::Removed,
                _ => ChangeKind::Modified,
            };
            changes.push(Change { path: OsString::from_vec(path.to_vec()).into(), kind });
        }
        Ok(changes)
    }

    /// Returns for each path the time of the commit that last changed it, along first parents.
    ///
    /// This is what files get as their time of modification: it depends on the revision alone, so it
    /// is the same on every instance, and a deploy changes it only for files that it changes.
    pub(super) async fn touched(&self, range: &str) -> Result<HashMap<Vec<u8>, i64>, GitError> {
        let mut running = self
            .command("log")
            .args(["--first-parent", "-m", "--raw", "-r", "-z", "--no-renames", "--no-abbrev"])
            .args(["--no-color", "--format=%ct", range, "--"])
            .start()?;
        let mut parser = TouchedParser::default();
        let mut buffer = Vec::new();
        while running.read(&mut buffer).await? > 0 {
            let end = buffer.iter().rposition(|byte| *byte == 0).map_or(0, |last| last + 1);
            for token in buffer.get(..end).unwrap_or_default().split(|byte| *byte == 0) {
                parser.take(token)?;
            }
            buffer.drain(..end);
        }
        running.finish().await?;
        Ok(parser.touched)
    }
}

/// Reads `git log --raw -z`: a time for each commit, then pairs of description and path.
#[derive(Debug, Default)]
struct TouchedParser {
    touched: HashMap<Vec<u8>, i64>,
    time: i64,
    is_path_next: bool,
}

impl TouchedParser {
    fn take(&mut self, token: &[u8]) -> Result<(), GitError> {
        if self.is_path_next {
            // An empty token is the end of a piece of output, and no path is empty.
            if !token.is_empty() {
                self.touched.entry(token.to_vec()).or_insert(self.time);
                self.is_path_next = false;
            }
            return Ok(());
        }
        let token = token.trim_ascii();
        if token.first() == Some(&b':') {
            self.is_path_next = true;
        } else if !token.is_empty() {
            let text = std::str::from_utf8(token).ok();
            let time = text.and_then(|text| text.parse().ok());
            self.time = time.ok_or(GitError::Output("git log"))?;
        }
        Ok(())
    }
}

fn parse_commit(fields: &[&str]) -> Option<Commit> {
    let [revision, parents, time, name, email, subject, body] = fields else { return None };
    Some(Commit {
        revision: revision.trim().parse().ok()?,
        parents: parents.split(' ').filter_map(|parent| parent.parse().ok()).collect(),
        time_seconds: time.parse().ok()?,
        author_name: (*name).to_owned(),
        author_email: (*email).to_owned(),
        subject: (*subject).to_owned(),
        body: body.trim_end().to_owned(),
    })
}

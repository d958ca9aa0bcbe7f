//! What differs between two revisions, by path and blob: what a merge and a message are made of.

use flotilla_core::id::Revision;

use super::object::ObjectId;
use super::{Git, GitError};

/// A file as a tree names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Git's mode; see [`super::TreeEntry::mode`].
    pub mode: u32,
    /// The blob.
    pub object: ObjectId,
}

/// One path that differs between two revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The path from the root of the tree; not necessarily UTF-8.
    pub path: Vec<u8>,
    /// What the older one has there.
    pub before: Option<Blob>,
    /// What the newer one has there.
    pub after: Option<Blob>,
}

impl Git {
    /// Returns how the trees of two revisions differ, ordered by path.
    pub async fn deltas(&self, from: &Revision, to: &Revision) -> Result<Vec<Delta>, GitError> {
        let output = self
            .command("diff-tree")
            .args(["-r", "-z", "--raw", "--no-renames", "--no-abbrev", from.as_str(), to.as_str()])
            .run()
            .await?;
        let mut tokens = output.stdout.split(|byte| *byte == 0);
        let mut deltas = Vec::new();
        while let Some(meta) = tokens.next().filter(|meta| !meta.is_empty()) {
            let delta = tokens.next().and_then(|path| parse(meta, path));
            deltas.push(delta.ok_or(GitError::Output("git diff-tree"))?);
        }
        Ok(deltas)
    }

    /// Returns the newest commit that two revisions both continue; `None` when they share none.
    pub async fn merge_base(
        &self,
        one: &Revision,
        other: &Revision,
    ) -> Result<Option<Revision>, GitError> {
        let arguments = [one.as_str(), other.as_str()];
        let output = self.command("merge-base").args(arguments).run_unchecked().await?;
        if !output.status.success() {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&output.stdout).trim().parse()?))
    }

    /// Returns the name of a revision's tree.
    pub async fn tree_id(&self, revision: &Revision) -> Result<ObjectId, GitError> {
        let tree = format!("{revision}^{{tree}}");
        let output = self.command("rev-parse").args(["--verify", &tree]).run().await?;
        ObjectId::from_hex(output.stdout.trim_ascii()).ok_or(GitError::Output("git rev-parse"))
    }
}

/// Reads `:100644 100755 <id> <id> M` and a path.
fn parse(meta: &[u8], path: &[u8]) -> Option<Delta> {
    let mut words = meta.strip_prefix(b":")?.split(|byte| *byte == b' ');
    let mut mode = || u32::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 8).ok();
    let (before, after) = (mode()?, mode()?);
    let mut object = || ObjectId::from_hex(words.next()?);
    let (old, new) = (object()?, object()?);
    let blob = |mode, object| (mode != 0).then_some(Blob { mode, object });
    Some(Delta { path: path.to_vec(), before: blob(before, old), after: blob(after, new) })
}

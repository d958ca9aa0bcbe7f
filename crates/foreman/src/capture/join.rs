//! Two lines of commits become one: which files are taken from where, and the commit that does it.

use std::collections::BTreeSet;

use flotilla_core::capture::Part;
use flotilla_core::capture::merge::{Changes, Side, merge};
use flotilla_core::id::Revision;
use flotilla_host::git::{Blob, Git, GitError, directories};

use super::error::CaptureError;
use super::facts::has;
use super::feed::list_command;
use super::listing::Listing;
use crate::repository::NewCommit;
use crate::repository::fast_import::{Existing, FastImport, delete, heading, modify};

/// The reference that commits are made on; nothing is read from it.
pub(super) const MERGING: &str = "refs/flotilla/merging";

/// What brings the changes of one side to the other.
#[derive(Debug)]
pub(super) struct Joined {
    changes: Changes<Blob>,
    /// The list of empty directories, when it becomes another one.
    directories: Option<Vec<u8>>,
}

impl Joined {
    /// Whether the other side has it all.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.directories.is_none()
    }
}

/// Works out what has to change in `onto` to have what changed from `base` to `ours` as well; else the
/// paths at which the two conflict.
pub(super) async fn join(
    git: &Git,
    base: &Revision,
    ours: &Revision,
    onto: &Revision,
) -> Result<Result<Joined, Vec<Vec<u8>>>, CaptureError> {
    let held = Listing::read(git, base).await?;
    let (mine, other) = (Listing::read(git, ours).await?, Listing::read(git, onto).await?);
    let our_side = side(git, &held, &mine).await?;
    let their_side = side(git, &held, &other).await?;
    let changes = match merge(&our_side, &their_side) {
        Ok(changes) => changes,
        Err(paths) => return Ok(Err(paths.into_iter().collect())),
    };
    let directories = join_directories(&changes, &held, &mine, &other);
    Ok(Ok(Joined { changes, directories }))
}

/// Makes the commit; `merged` is what it continues beside its parent.
pub(super) async fn commit(
    git: &Git,
    joined: &Joined,
    commit: &NewCommit,
    merged: Option<&Revision>,
) -> Result<Revision, GitError> {
    let mut import = FastImport::start(git, Existing::Replace)?;
    let mut stream = heading(commit, MERGING);
    if let Some(merged) = merged {
        stream.extend(format!("merge {merged}\n").bytes());
    }
    let gone = joined.changes.iter().filter(|(_, became)| became.is_none());
    for (path, _) in gone {
        stream.extend(delete(path));
    }
    for (path, became) in &joined.changes {
        if let Some(blob) = became {
            stream.extend(modify(blob.mode, path, blob.object));
        }
    }
    if let Some(list) = &joined.directories {
        stream.extend(list_command(list));
    }
    import.send(&stream).await;
    import.finish().await
}

async fn side(git: &Git, from: &Listing, to: &Listing) -> Result<Side<Blob>, GitError> {
    let deltas = git.deltas(&from.revision, &to.revision).await?;
    let mut side = Side::default();
    for delta in deltas {
        if delta.path == directories::FILE_NAME.as_bytes() {
            continue;
        }
        if delta.after.is_none() {
            let part = Part::of(&delta.path);
            let is_whole = part.is_package() && part.is_directory();
            if is_whole && !side.deleted.contains(&part.root) && !has(to, &part) {
                side.deleted.insert(part.root);
            }
        }
        side.changes.insert(delta.path, delta.after);
    }
    Ok(side)
}

/// Takes over which directories became empty or stopped to be, without those that have files now.
fn join_directories(
    changes: &Changes<Blob>,
    base: &Listing,
    ours: &Listing,
    onto: &Listing,
) -> Option<Vec<u8>> {
    let added = ours.listed.difference(&base.listed);
    let removed: BTreeSet<&Vec<u8>> = base.listed.difference(&ours.listed).collect();
    let all: BTreeSet<&Vec<u8>> =
        onto.listed.iter().chain(added).filter(|path| !removed.contains(path)).collect();
    let is_filled = |path: &&&Vec<u8>| {
        let inside = [path.as_slice(), b"/"].concat();
        let mut new = changes.range(inside.clone()..);
        let is_new = new
            .by_ref()
            .take_while(|(other, _)| other.starts_with(&inside))
            .any(|(_, became)| became.is_some());
        let is_left = |other: &[u8]| !matches!(changes.get(other), Some(None));
        is_new || onto.below(&inside).any(|(other, _)| is_left(other))
    };
    let kept: BTreeSet<Vec<u8>> =
        all.iter().filter(|path| !is_filled(path)).map(|path| (*path).clone()).collect();
    // A list that only names what has files by now does no harm; it is left as it is.
    let is_same = kept == onto.listed || kept == onto.empty;
    (!is_same).then(|| directories::encode(kept.iter().map(Vec::as_slice)))
}

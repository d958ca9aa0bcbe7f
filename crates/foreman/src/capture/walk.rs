//! One look at all files of the workshop, without reading any. Everything here blocks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use flotilla_core::capture::rest::Unfinished;
use flotilla_core::id::Millis;
use flotilla_host::git::index::Stat;
use flotilla_host::git::tree::{Found, FoundKind, Tree};
use sha1::{Digest, Sha1};

use super::error::CaptureError;
use super::listing::Listing;
use crate::clock;
use crate::repository::captured::stays_out;

/// Where WordPress unpacks updates, and keeps what they replace.
const UPGRADES: [&str; 2] = ["wp-content/upgrade", "wp-content/upgrade-temp-backup"];
const MAINTENANCE: &[u8] = b".maintenance";
/// The kernel's clock for files goes in steps of up to ten milliseconds: what changed so short a time
/// before a look may change again without showing.
const FRESH: Duration = Duration::from_millis(30);
/// A time so far in the future was not set by anybody who works now.
const FUTURE: Duration = Duration::from_secs(60);

/// What a look has seen.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) found: Vec<Found>,
    /// Differs when anything that is captured differs.
    pub(super) digest: [u8; 20],
    /// What tells of an update that is under way.
    pub(super) unfinished: Option<Unfinished>,
    /// When it began.
    began: Millis,
}

impl Walked {
    /// Whether a file changed so shortly before that it could have changed again unseen.
    pub(super) fn is_fresh(&self, stat: &Stat) -> bool {
        let changed = Millis(stat.changed_millis());
        self.began.since(changed) < FRESH && changed.since(self.began) < FUTURE
    }

    /// Returns the paths at which another look has seen something else.
    pub(super) fn differing(&self, other: &Self) -> Vec<Vec<u8>> {
        if self.digest == other.digest {
            return Vec::new();
        }
        let kept = |walked: &Self| -> BTreeMap<Vec<u8>, (FoundKind, Option<Stat>)> {
            let found = walked.found.iter().filter(|one| !one.is_skipped);
            found.map(|one| (one.path.clone(), (one.kind, stat_of(one)))).collect()
        };
        let (before, mut after) = (kept(self), kept(other));
        let mut paths = Vec::new();
        for (path, seen) in before {
            if after.remove(&path) != Some(seen) {
                paths.push(path);
            }
        }
        paths.extend(after.into_keys());
        paths
    }
}

/// The `stat` of what is captured with its content; those of directories change with what stays out.
fn stat_of(found: &Found) -> Option<Stat> {
    found.mode().map(|_| found.stat())
}

/// Looks at everything below the workshop's directory.
pub(super) fn walk(directory: &Path, listing: &Listing) -> Result<Walked, CaptureError> {
    let began = clock::now();
    let tree = Tree::open(directory).map_err(CaptureError::file(directory.to_owned()))?;
    let found = tree.walk(&stays_out).map_err(CaptureError::file(directory.to_owned()))?;
    let mut hash = Sha1::new();
    for one in found.iter().filter(|one| !one.is_skipped) {
        hash.update((one.path.len() as u64).to_be_bytes());
        hash.update(&one.path);
        let kind = match one.kind {
            FoundKind::Directory => 1,
            FoundKind::Other => 2,
            FoundKind::Link | FoundKind::File { .. } => one.mode().unwrap_or_default(),
        };
        hash.update(kind.to_be_bytes());
        if let Some(stat) = stat_of(one) {
            hash.update(stat.bytes());
        }
    }
    let unfinished = unfinished(directory, &found, listing, began);
    Ok(Walked { digest: hash.finalize().into(), found, unfinished, began })
}

/// Returns the youngest thing that tells of an update under way.
fn unfinished(
    directory: &Path,
    found: &[Found],
    listing: &Listing,
    now: Millis,
) -> Option<Unfinished> {
    let new = |one: &&Found| {
        one.path == MAINTENANCE
            || (one.mode().is_some() && is_arriving(&one.path) && listing.get(&one.path).is_none())
    };
    let mut seen: Vec<(Vec<u8>, u64)> = found
        .iter()
        .filter(new)
        .map(|one| (one.path.clone(), one.stat().changed_millis()))
        .collect();
    for upgrade in UPGRADES {
        // A directory that is not there, or that nobody may look into, tells nothing.
        let Ok(tree) = Tree::open(&directory.join(upgrade)) else { continue };
        let Ok(below) = tree.walk(&|_| false) else { continue };
        // WordPress keeps `upgrade-temp-backup/plugins` and the like when they are empty.
        let files = below.iter().filter(|one| one.kind != FoundKind::Directory);
        let newest = files.max_by_key(|one| one.stat().changed_millis());
        seen.extend(newest.map(|one| {
            let path = [upgrade.as_bytes(), b"/", &one.path].concat();
            (path, one.stat().changed_millis())
        }));
    }
    let newest = seen.into_iter().max_by_key(|(_, changed)| *changed)?;
    let changed = Millis(newest.1);
    let is_strange = changed.since(now) > FUTURE;
    let age = if is_strange { Duration::MAX } else { now.since(changed) };
    Some(Unfinished { path: newest.0, age })
}

/// Whether it is the name that rsync (`.name.Ab12Cd`) or an SFTP program gives a file on its way.
fn is_arriving(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    if name.ends_with(b".filepart") {
        return true;
    }
    let Some(name) = name.strip_prefix(b".") else { return false };
    let dot = name.iter().rposition(|byte| *byte == b'.');
    let end = dot.and_then(|at| name.get(at + 1..)).unwrap_or_default();
    // One in two hundred of rsync's names is missed, so that `.tool.config` is not taken for one.
    let is_drawn = end.iter().any(|byte| !byte.is_ascii_lowercase());
    dot != Some(0) && end.len() == 6 && is_drawn && end.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_their_way_are_known_by_their_names() {
        for path in ["a/.index.php.Xa12bC", ".x.y1B2c3", "a/big.zip.filepart"] {
            assert!(is_arriving(path.as_bytes()), "{path}");
        }
        for path in
            ["a/.htaccess", ".gitignore", "a/index.php", "a/b.abcdef", "..abcdef", ".a.abcdefg"]
        {
            assert!(!is_arriving(path.as_bytes()), "{path}");
        }
    }
}

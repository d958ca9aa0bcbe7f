//! The releases that the simulated site has in its repository, good ones and bad ones.

use flotilla_core::fleet::Release;
use flotilla_core::id::Revision;

use super::random::Random;

/// What is wrong with a revision, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    Good,
    /// Half of its responses are errors once it serves.
    Broken,
    /// No instance can prepare it.
    Unpreparable,
    /// Preparing it fails now and then, while there are faults.
    Flaky,
}

const REVISIONS: [(Quality, Option<u64>); 11] = [
    (Quality::Good, Some(1)),
    (Quality::Good, Some(1)),
    (Quality::Good, Some(1)),
    (Quality::Good, Some(2)),
    (Quality::Good, Some(2)),
    (Quality::Good, Some(3)),
    (Quality::Good, None),
    (Quality::Broken, Some(1)),
    (Quality::Broken, Some(3)),
    (Quality::Unpreparable, Some(2)),
    (Quality::Flaky, Some(2)),
];

pub(super) fn release(number: usize) -> Release {
    let revision = format!("{number:040x}").parse().expect("forty digits");
    Release { revision, db_version: REVISIONS[number].1, settings: String::new() }
}

pub(super) fn any_release(random: &mut Random) -> Release {
    let last = u64::try_from(REVISIONS.len()).expect("few") - 1;
    release(usize::try_from(random.between(0, last)).expect("few"))
}

pub(super) fn quality(revision: &Revision) -> Quality {
    REVISIONS[number(revision)].0
}

pub(super) fn db_version(revision: &Revision) -> Option<u64> {
    REVISIONS[number(revision)].1
}

fn number(revision: &Revision) -> usize {
    usize::from_str_radix(revision.as_str(), 16).expect("made by `release`")
}

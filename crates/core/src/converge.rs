//! What an agent does next: compare what it shall hold with what its slots hold.

use crate::id::{Generation, Revision};
use crate::report::Desired;
use crate::slot::{SlotName, Slots};

/// Says whether a desired state may replace the one the agent has seen last.
#[must_use]
pub fn is_news(seen: Generation, desired: &Desired) -> bool {
    desired.generation >= seen
}

/// Returns the slot to prepare next, and what to put there. The colour in service comes first;
/// nothing is left to do when `None`.
#[must_use]
pub fn next_slot(
    desired: &Desired,
    held: &Slots<Option<Revision>>,
) -> Option<(SlotName, Revision)> {
    [desired.serving, desired.serving.other()].into_iter().find_map(|slot| {
        let wanted = desired.revisions.get(slot).as_ref()?;
        (held.get(slot).as_ref() != Some(wanted)).then(|| (slot, wanted.clone()))
    })
}

//! What an agent does next: compare what it shall hold with what its slots hold.

use crate::id::{Generation, Revision};
use crate::report::Desired;
use crate::slot::{SlotName, Slots};

/// Says whether a desired state may replace the one the agent has seen last.
#[must_use]
pub fn is_news(seen: Generation, desired: &Desired) -> bool {
    desired.generation >= seen
}

/// Says whether a slot that was started with the settings `running` may stay as it is when `wanted`
/// were ordered. Only the `newest` can be had, so a slot that has these is never made anew.
#[must_use]
pub fn has_settings(wanted: &str, running: &str, newest: &str) -> bool {
    wanted.is_empty() || running == wanted || running == newest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_made_anew_only_for_settings_that_it_lacks_and_can_have() {
        for (wanted, running, newest, expected) in [
            ("", "old", "new", true),
            ("old", "old", "new", true),
            ("old", "new", "new", true),
            ("new", "old", "new", false),
            ("old", "", "new", false),
        ] {
            let holds = has_settings(wanted, running, newest);
            assert_eq!(holds, expected, "{wanted} {running} {newest}");
        }
    }
}

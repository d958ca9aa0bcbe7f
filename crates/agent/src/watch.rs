//! Watches how busy a slot's PHP is.

use std::time::Duration;

use flotilla_core::id::Generation;
use flotilla_core::report::{AgentReport, PhpWorkers};
use flotilla_core::slot::SlotName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::slot::Slot;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Looks every second how busy a slot's PHP is.
pub(crate) async fn watch_slot(
    slot: Slot,
    report: watch::Sender<AgentReport>,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        let generation = report.borrow().generation;
        let php = slot.server.workers().await;
        note_workers(&report, slot.name, generation, php);
    }
}

/// Puts a count of workers into the report, unless the report vouches for a later generation than
/// the one that the count was begun in.
fn note_workers(
    report: &watch::Sender<AgentReport>,
    slot: SlotName,
    begun_in: Generation,
    php: Option<PhpWorkers>,
) {
    report.send_if_modified(|report| {
        let now = &mut report.slots.get_mut(slot).php;
        report.generation == begun_in && std::mem::replace(now, php) != php
    });
}

#[cfg(test)]
mod tests {
    use flotilla_core::id::InstanceName;
    use flotilla_core::slot::Slots;

    use super::*;

    #[tokio::test]
    async fn a_count_that_was_begun_before_a_generation_does_not_speak_for_it() {
        let busy = |busy| Some(PhpWorkers { busy, max: 4 });
        let mut report = AgentReport {
            instance: InstanceName::numbered(1),
            generation: Generation(2),
            slots: Slots::default(),
        };
        report.slots.blue.php = busy(1);
        let (sender, receiver) = watch::channel(report);
        note_workers(&sender, SlotName::Blue, Generation(1), busy(0));
        assert_eq!(receiver.borrow().slots.blue.php, busy(1));
        note_workers(&sender, SlotName::Blue, Generation(2), busy(0));
        assert_eq!(receiver.borrow().slots.blue.php, busy(0));
    }
}

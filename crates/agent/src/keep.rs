//! Keeps a slot's processes alive, and watches how busy they are.

use std::sync::Arc;
use std::time::Duration;

use flotilla_core::id::Generation;
use flotilla_core::report::{AgentReport, PhpWorkers};
use flotilla_core::slot::SlotName;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::slot::Slot;

const KEEP_INTERVAL: Duration = Duration::from_millis(100);
const KEEP_BACK_OFF_MAX: Duration = Duration::from_secs(5);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a slot's processes again when they have died, but not while the slot is being changed:
/// whoever changes it holds the gate. What the gate guards is whether there is something to keep.
pub(crate) async fn keep_slot(slot: Slot, gate: Arc<Mutex<bool>>, stopping: CancellationToken) {
    let mut wait = KEEP_INTERVAL;
    let mut media_due = Instant::now();
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let Ok(is_kept) = gate.try_lock() else { continue };
        if !*is_kept {
            continue;
        }
        // The kernel writes a list of all mounts for this look, so it is not taken each time.
        let is_media_due = media_due <= Instant::now();
        if is_media_due {
            media_due = Instant::now() + WATCH_INTERVAL;
        }
        if is_media_due && slot.server.has_lost_media() {
            tracing::warn!(slot = slot.name.as_str(), "A slot has lost its media and starts anew");
            if let Err(error) = slot.server.unit.stop().await {
                tracing::error!(slot = slot.name.as_str(), %error, "A slot cannot be stopped");
            }
        }
        match slot.server.unit.start().await {
            Ok(was_started) => {
                wait = KEEP_INTERVAL;
                if was_started {
                    tracing::warn!(
                        slot = slot.name.as_str(),
                        "A slot's processes had died and were started anew"
                    );
                }
            }
            Err(error) => {
                tracing::error!(slot = slot.name.as_str(), %error, "A slot does not start");
                wait = (wait * 2).min(KEEP_BACK_OFF_MAX);
            }
        }
    }
}

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

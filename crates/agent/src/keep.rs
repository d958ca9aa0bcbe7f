//! Keeps a slot's processes alive, and watches how busy they are.

use std::sync::Arc;
use std::time::Duration;

use flotilla_core::report::AgentReport;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::slot::Slot;

const KEEP_INTERVAL: Duration = Duration::from_millis(100);
const KEEP_BACK_OFF_MAX: Duration = Duration::from_secs(5);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a slot's processes again when they have died, but not while the slot is being changed:
/// whoever changes it holds the gate. What the gate guards is whether there is something to keep.
pub(crate) async fn keep_slot(slot: Slot, gate: Arc<Mutex<bool>>, stopping: CancellationToken) {
    let mut wait = KEEP_INTERVAL;
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let Ok(is_kept) = gate.try_lock() else { continue };
        if !*is_kept {
            continue;
        }
        match slot.unit.start().await {
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
        let php = slot.workers().await;
        report.send_if_modified(|report| {
            let now = &mut report.slots.get_mut(slot.name).php;
            std::mem::replace(now, php) != php
        });
    }
}

//! Code of a slot that somebody changes from outside is restored: an instance holds what was released,
//! and nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::error::chain;
use flotilla_host::git::worktree::{Depth, Difference};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::prepare::forget_scripts;
use crate::slot::{Mark, Slot};

const INTERVAL: Duration = Duration::from_secs(30);
/// How many paths an alarm names.
const PATHS_MAX: usize = 10;

/// Looks again and again whether a slot holds its release, but not while it is being changed: whoever
/// does that holds the gate.
pub(crate) async fn restore_slot(slot: Slot, gate: Arc<Mutex<bool>>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let Ok(is_kept) = gate.try_lock() else { continue };
        let Some(mark) = slot.mark().filter(|_| *is_kept) else { continue };
        match slot.worktree().verify(&mark.revision, &slot.kept(), Depth::Quick).await {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => restore(&slot, &mark, &differences).await,
            Err(error) => {
                tracing::warn!(
                    slot = slot.name.as_str(),
                    error = chain(&error),
                    "A slot cannot be looked at"
                );
            }
        }
    }
}

async fn restore(slot: &Slot, mark: &Mark, differences: &[Difference]) {
    let named = differences.iter().take(PATHS_MAX);
    let paths: Vec<String> = named.map(|one| one.path.display().to_string()).collect();
    tracing::error!(
        event = "slot.drift",
        slot = slot.name.as_str(),
        count = differences.len(),
        paths = paths.join(", "),
        "Code of a slot was changed from outside, and is restored"
    );
    match slot.worktree().checkout(&mark.revision, &slot.kept()).await {
        Ok(changed) => {
            let touched = changed.written.into_iter().chain(changed.removed);
            forget_scripts(slot, &touched.collect::<Vec<PathBuf>>()).await;
        }
        Err(error) => {
            let error = chain(&error);
            tracing::error!(slot = slot.name.as_str(), error, "A slot cannot be restored");
        }
    }
}

//! A database upgrade that can be ended, and the look at the database after it.
//!
//! It decides nothing: until when it may run is the planner's word, and what follows from the
//! database's version too.

use std::time::Duration;

use flotilla_core::error::chain;
use flotilla_core::id::{Millis, Revision};
use flotilla_core::plan::Upgraded;
use tokio::sync::watch;

use crate::clock;
use crate::maintenance::Maintenance;

/// Upgrades the database with the code of a revision, for at most `limit` and until a point in time
/// that may change meanwhile. Comes back when nothing of the upgrade runs any more.
pub(crate) async fn upgrade(
    maintenance: &Maintenance,
    revision: &Revision,
    limit: Duration,
    until: watch::Receiver<Millis>,
) -> Upgraded {
    // Dropping the upgrade kills its processes.
    let outcome = tokio::select! {
        biased;
        () = wait_until(until) => Err("its time was up, and it was ended".to_owned()),
        outcome = maintenance.upgrade_database(revision, limit) => outcome.map_err(|error| chain(&error)),
    };
    let message = match outcome {
        Ok(version) => return Upgraded { outcome: Ok(()), database: Some(version) },
        Err(message) => message,
    };
    let database = match maintenance.database_version().await {
        Ok(version) => Some(version),
        Err(error) => {
            tracing::error!(error = chain(&error), "The database's version cannot be read");
            None
        }
    };
    tracing::warn!(message, database, "A database upgrade did not end well");
    Upgraded { outcome: Err(message), database }
}

/// Waits for a point in time that may come nearer.
async fn wait_until(mut until: watch::Receiver<Millis>) {
    loop {
        let left = until.borrow_and_update().since(clock::now());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            changed = until.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_that_comes_nearer_ends_the_wait() {
        let (sender, receiver) = watch::channel(Millis(u64::MAX));
        let waiting = wait_until(receiver);
        tokio::pin!(waiting);
        assert!(futures_pending(waiting.as_mut()).await);
        sender.send_replace(Millis(0));
        waiting.await;
    }

    async fn futures_pending(task: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = task => false,
            () = std::future::ready(()) => true,
        }
    }
}

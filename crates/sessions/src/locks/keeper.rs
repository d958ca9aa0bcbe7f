//! The task that renews leases and frees locks that are held too long.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::lease::{LeaseState, Renewal};
use super::{Held, Locks};
use crate::join::join_all;

/// How often it is looked what is due, while any lock is held.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

impl Locks {
    /// Keeps locks until it is told to stop, and then gives all back.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            loop {
                if self.is_idle() {
                    self.wake.notified().await;
                }
                sleep(LOOK_INTERVAL).await;
                self.expire().await;
                self.renew(LeaseState::is_due).await;
                self.owed.settle().await;
            }
        };
        stop.run_until_cancelled(work).await;
        let held: Vec<Held> = self.held().drain().map(|(_, held)| held).collect();
        for held in held {
            self.pass_on(held).await;
        }
    }

    /// Sees to all leases at once whenever a node is up again, empty or with what it had.
    pub(crate) async fn watch_returns(
        self: Arc<Self>,
        mut returns: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let watch = async {
            while returns.changed().await.is_ok() {
                self.renew(|_| true).await;
                self.owed.settle().await;
            }
        };
        stop.run_until_cancelled(watch).await;
    }

    fn is_idle(&self) -> bool {
        self.held().is_empty() && self.leases().is_empty() && self.owed.is_empty()
    }

    /// Frees locks whose holders have had them too long.
    async fn expire(&self) {
        let now = Instant::now();
        let expired: Vec<Held> = {
            let mut held = self.held();
            held.extract_if(|_, held| held.until.is_some_and(|until| until <= now))
                .map(|(_, held)| held)
                .collect()
        };
        for held in expired {
            self.counters.count(|counts| &counts.locks_expired);
            self.pass_on(held).await;
        }
    }

    /// Renews the leases of which `is_due` is true.
    async fn renew(&self, is_due: impl Fn(&LeaseState) -> bool + Send) {
        let leases: Vec<Arc<LeaseState>> = {
            let mut leases = self.leases();
            leases.retain(|lease| lease.strong_count() > 0);
            leases.iter().filter_map(Weak::upgrade).filter(|lease| is_due(lease)).collect()
        };
        let topology = self.copies.topology();
        let renew = |lease: Arc<LeaseState>| {
            let (topology, session) = (Arc::clone(&topology), self.session_of(lease.key()));
            async move { lease.renew(&topology, &session).await }
        };
        // All at once: one that waits for a hung node must not keep the others from a good one.
        for renewal in join_all(leases.into_iter().map(renew)).await {
            if renewal == Renewal::Lost {
                self.counters.count(|counts| &counts.locks_lost);
                tracing::warn!("The lock of a session was lost to another gateway");
            }
        }
    }
}

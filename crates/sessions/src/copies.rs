//! The copies of an item: read the newest, write all, mend those that lag.
//!
//! Every item is kept by two owners. A write is acknowledged when all owners that can be reached
//! have it, and one at least. A read asks all owners; the highest version wins, and an owner with an
//! older version or none is mended before the answer goes out. A deletion is a write of a tombstone,
//! so an owner that missed it cannot bring the item back.
//!
//! What depends on the present value (add, cas, incr …) is decided at the first owner that can be
//! reached, with the condition that its copy is still the one that was read; the others follow.
//! For a session this never meets a competitor, because whoever writes it holds its lock.

mod mend;
#[cfg(test)]
mod tests;
mod update;
mod view;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::VersionClock;
use crate::counters::Counters;
use crate::envelope::Envelope;
use crate::expiry::Lifetime;
use crate::store::{Answer, Condition, Request, StoreError};
use crate::topology::{Node, OWNERS_USUAL, Owners, Topology};

pub(crate) use mend::Missed;
pub(crate) use update::Change;

/// How long a client waits for any owner of its key to come back, when all are away.
const RETURN_WAIT_MAX: Duration = Duration::from_millis(300);

/// Says why an item could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopiesError {
    /// The list of nodes is empty.
    #[error("there are no session nodes")]
    NoNodes,
    /// None of the owners did what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others changed the item over and over.
    #[error("too many clients change this item at once")]
    Contended,
}

/// A value as a client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    /// Which write made it; clients know it as "cas unique".
    pub(crate) version: u64,
    /// What the client gave with it.
    pub(crate) flags: u32,
    /// What the client gave.
    pub(crate) data: Bytes,
    /// How long it lives from now on.
    pub(crate) lifetime: Lifetime,
}

/// What a client wants kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewValue<'a> {
    /// The client's flags.
    pub(crate) flags: u32,
    /// The client's bytes.
    pub(crate) data: &'a [u8],
    /// How long it lives.
    pub(crate) lifetime: Lifetime,
}

/// Reads and writes items with all of their copies.
#[derive(Debug)]
pub(crate) struct Copies {
    topology: ArcSwap<Topology>,
    clock: VersionClock,
    counters: Arc<Counters>,
    missed: Missed,
    /// Woken when a node is up again.
    returned: Notify,
}

impl Copies {
    /// Makes the copies of an empty list of nodes.
    pub(crate) fn new(gateway: u64, topology: Topology, counters: Arc<Counters>) -> Self {
        Self {
            topology: ArcSwap::from_pointee(topology),
            clock: VersionClock::new(gateway),
            counters,
            missed: Missed::default(),
            returned: Notify::new(),
        }
    }

    /// Returns the present topology.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topology.load_full()
    }

    /// Uses another topology from now on.
    pub(crate) fn set_topology(&self, topology: Topology) {
        self.topology.store(Arc::new(topology));
    }

    /// Begins to read an item; the owners are asked when this returns.
    pub(crate) fn read<'a>(
        &'a self,
        key: &'a [u8],
    ) -> impl Future<Output = Result<Option<Value>, CopiesError>> + Send + 'a {
        let begun = self.begin(key, Request::Fetch { key });
        async move {
            let view = self.finish(begun).await?;
            self.mend(key, &view, None).await;
            Ok(view.live())
        }
    }

    /// Reads an item and has it live for so long from now.
    pub(crate) async fn touch(
        &self,
        key: &[u8],
        lifetime: Lifetime,
    ) -> Result<Option<Value>, CopiesError> {
        let begun = self.begin(key, Request::Touch { key, lifetime });
        let view = self.finish(begun).await?;
        self.mend(key, &view, Some(lifetime)).await;
        Ok(view.live())
    }

    /// Writes an item, whatever is there.
    pub(crate) async fn write(&self, key: &[u8], new: NewValue<'_>) -> Result<u64, CopiesError> {
        let envelope =
            Envelope { version: self.clock.next(), flags: new.flags, is_tombstone: false };
        let head = envelope.encode();
        let request = Request::Write {
            key,
            head: &head,
            body: new.data,
            lifetime: new.lifetime,
            condition: Condition::Always,
        };
        let outcome = self.write_all(key, request).await;
        if let Err(CopiesError::Store(StoreError::Unreachable { .. })) = outcome
            && self.wait_returned(key).await
        {
            self.write_all(key, request).await?;
        } else {
            outcome?;
        }
        Ok(envelope.version)
    }

    async fn write_all(&self, key: &[u8], request: Request<'_>) -> Result<(), CopiesError> {
        let topology = self.topology.load_full();
        let owners = topology.owners(key, Instant::now());
        let answers: SmallVec<[Answer; OWNERS_USUAL]> =
            owners.iter().map(|owner| owner.ask(request)).collect();
        let (mut kept, mut failure) = (0_usize, CopiesError::NoNodes);
        for (owner, answer) in owners.iter().zip(answers) {
            match answer.await {
                Ok(_) => kept = kept.saturating_add(1),
                Err(error) => {
                    self.missed.add(owner, key);
                    failure = error.into();
                }
            }
        }
        if kept == 0 {
            return Err(failure);
        }
        if kept < owners.len() {
            self.counters.count(|counts| &counts.writes_with_a_copy_missing);
        }
        Self::remove_former(&topology, key, &owners);
        Ok(())
    }

    /// Forgets all items of all nodes.
    pub(crate) async fn flush(&self, delay: Duration) -> Result<(), CopiesError> {
        let topology = self.topology.load_full();
        let nodes = topology.all_nodes();
        let answers: Vec<Answer> =
            nodes.iter().map(|node| node.ask(Request::Flush { delay })).collect();
        let mut outcome = Err(CopiesError::NoNodes);
        for answer in answers {
            match answer.await {
                Ok(_) => outcome = Ok(()),
                Err(error) if outcome.is_err() => outcome = Err(error.into()),
                Err(_) => {}
            }
        }
        outcome
    }

    /// Removes the copies of former owners, once the present ones have the item.
    fn remove_former(topology: &Topology, key: &[u8], owners: &Owners<'_>) {
        if !topology.has_former() {
            return;
        }
        for node in topology.former_owners(key, owners) {
            // Not waited for: what is left there is older than any of the copies.
            drop(node.remove(key));
        }
    }

    /// Waits, within bounds, until an owner of a key is up.
    async fn wait_returned(&self, key: &[u8]) -> bool {
        let is_up = || {
            let topology = self.topology.load();
            topology.owners(key, Instant::now()).iter().any(|owner| owner.is_up())
        };
        let wait = async {
            loop {
                let returned = self.returned.notified();
                tokio::pin!(returned);
                returned.as_mut().enable();
                if is_up() {
                    return;
                }
                returned.await;
            }
        };
        timeout(RETURN_WAIT_MAX, wait).await.is_ok()
    }

    /// Whenever a node is up again, wakes who waits for one, and mends what it missed.
    pub(crate) async fn watch_returns(
        self: Arc<Self>,
        mut returns: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let watch = async {
            while returns.changed().await.is_ok() {
                self.returned.notify_waiters();
                self.mend_missed().await;
            }
        };
        stop.run_until_cancelled(watch).await;
    }

    async fn mend_missed(&self) {
        let topology = self.topology.load_full();
        for node in topology.nodes().filter(|node| node.is_up()) {
            for key in self.missed.take(node) {
                // When it fails, the next read or write of the item does it.
                drop(self.reconcile(&key).await);
            }
        }
    }
}

/// Owned handles of owners, so that a view outlives a change of the topology.
type OwnedOwners = SmallVec<[Node; OWNERS_USUAL]>;

//! Leases: locks against other gateways, kept at the nodes that own the session.
//!
//! A lease is a small item at *all* owners that can be reached, taken in one order by everybody; it
//! holds the id of the lease. Two gateways that see one common owner can therefore never both have
//! it. It lives for [`ITEM_SECONDS`] and is renewed while it is held: a gateway that dies frees it
//! by that.
//!
//! An owner that cannot be reached is left out, but not at once. While one is away, leases may be at
//! the other one only; and when the first comes back, and right then the second goes away, the
//! leases have to be put at the first before anybody may rely on it alone. So a lease is only taken
//! when owners that are away have been so for some time, and one that is up has been so, too
//! ([`Standing`]). That is under a second, once, when a node goes away.
//!
//! A node that was away may come back with a lease that has been given back meanwhile. Who gave it
//! back remembers that ([`Owed`]), and takes it away when the node is there again. When nobody does,
//! it ends by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::expiry::Lifetime;
use crate::join::join_all;
use crate::store::{Answer, Condition, Reply, Request, Standing, StoreError};
use crate::topology::{Node, Topology, is_same};

/// How long a node keeps a lease that is not renewed. Nodes count whole seconds, so one of these
/// may be nearly over when it begins.
const ITEM_SECONDS: u32 = 6;
/// How long after the last renewal was *asked for* a lease counts as held.
const VALID_FOR: Duration = Duration::from_millis(4500);
/// How long after the last renewal the next one is due.
const RENEW_AFTER: Duration = Duration::from_millis(1500);
/// How many returned leases are remembered for nodes that are away.
const OWED_MAX: usize = 4096;

/// A lease that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease(Arc<LeaseState>);

/// What a lease knows of itself; shared with the task that renews it.
#[derive(Debug)]
pub(super) struct LeaseState {
    key: Bytes,
    id: Vec<u8>,
    taken_at: Instant,
    inner: Mutex<Inner>,
    owed: Arc<Owed>,
}

#[derive(Debug)]
struct Inner {
    /// Where the lease is, or may be.
    places: Vec<Place>,
    asked_at: Instant,
    is_over: bool,
}

/// A node that has, or may have, a lease.
#[derive(Debug, Clone)]
struct Place {
    node: Node,
    /// Whether the node said so, rather than nothing.
    is_sure: bool,
}

/// What an attempt at a lease came to.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is ours.
    Taken(Lease),
    /// Another gateway has it, or may have it.
    Busy,
    /// None of the owners can be reached.
    Unreachable(StoreError),
}

/// Leases that are to be taken away from nodes which could not be reached.
#[derive(Debug, Default)]
pub(super) struct Owed(Mutex<Vec<Debt>>);

#[derive(Debug)]
struct Debt {
    node: Node,
    key: Bytes,
    id: Vec<u8>,
    until: Instant,
}

impl LeaseState {
    /// Makes a lease that is nowhere yet.
    pub(super) fn new(key: Bytes, id: Vec<u8>, owed: Arc<Owed>) -> Self {
        let now = Instant::now();
        let inner = Inner { places: Vec::new(), asked_at: now, is_over: false };
        Self { key, id, taken_at: now, inner: Mutex::new(inner), owed }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_valid(&self) -> bool {
        let inner = self.inner();
        !inner.is_over && inner.asked_at.elapsed() < VALID_FOR
    }

    /// Asks a node to keep the lease.
    fn put(&self, node: &Node) -> Answer {
        node.ask(Request::Write {
            key: &self.key,
            head: &self.id,
            body: &[],
            lifetime: Lifetime::Seconds(ITEM_SECONDS),
            condition: Condition::Absent,
        })
    }

    /// Asks a node to keep the lease, unless that is over; `None` when nothing is known of it.
    async fn place(&self, node: &Node) -> Option<Result<bool, StoreError>> {
        if !node.is_up() {
            return None;
        }
        let answer = {
            let mut inner = self.inner();
            if inner.is_over {
                return None;
            }
            inner.note(node, Some(false));
            self.put(node)
        };
        let answered = answer.await;
        let mut inner = self.inner();
        Some(match answered {
            Ok(Reply::Refused) => {
                inner.note(node, None);
                Ok(false)
            }
            Ok(_) => {
                inner.note(node, Some(true));
                Ok(true)
            }
            Err(error) => Err(error),
        })
    }

    /// Asks all nodes to forget the lease, once; later calls do nothing.
    fn give_back(&self) -> Vec<(Node, Answer)> {
        let mut inner = self.inner();
        let was_over = std::mem::replace(&mut inner.is_over, true);
        let places = std::mem::take(&mut inner.places);
        // After that time the item may be somebody else's.
        if was_over || inner.asked_at.elapsed() >= VALID_FOR {
            return Vec::new();
        }
        let mut answers = Vec::new();
        for Place { node, is_sure } in places {
            if is_sure && node.is_up() {
                let answer = node.remove(&self.key);
                answers.push((node, answer));
            } else {
                self.owed.add(node, self);
            }
        }
        answers
    }

    /// Renews the lease where it is, and puts it where it is missing: at nodes that came back empty,
    /// and at owners by a new list.
    pub(super) async fn renew(&self, topology: &Topology, session: &[u8]) -> Renewal {
        let asked_at = Instant::now();
        let nodes = {
            let inner = self.inner();
            if inner.is_over {
                return Renewal::Over;
            }
            let mut nodes: Vec<Node> =
                inner.places.iter().map(|place| place.node.clone()).collect();
            for owner in topology.owners(session, asked_at) {
                if !nodes.iter().any(|node| is_same(node, owner)) {
                    nodes.push(owner.clone());
                }
            }
            nodes
        };
        let found = join_all(nodes.iter().map(|node| self.renew_at(node))).await;
        let mut inner = self.inner();
        if inner.is_over {
            Renewal::Over
        } else if found.contains(&Some(true)) {
            inner.asked_at = asked_at;
            Renewal::Kept
        } else if !found.contains(&None) || asked_at.duration_since(inner.asked_at) >= VALID_FOR {
            inner.is_over = true;
            Renewal::Lost
        } else {
            Renewal::Unknown
        }
    }

    /// Returns whether a node has this lease, or another one; `None` when nothing is known.
    async fn renew_at(&self, node: &Node) -> Option<bool> {
        let lifetime = Lifetime::Seconds(ITEM_SECONDS);
        match node.ask(Request::Touch { key: &self.key, lifetime }).await {
            Ok(Reply::Found(item)) => {
                let is_ours = item.bytes == self.id;
                self.inner().note(node, is_ours.then_some(true));
                Some(is_ours)
            }
            Ok(_) => self.place(node).await?.ok(),
            Err(_) => {
                self.inner().doubt(node);
                None
            }
        }
    }

    /// Returns whether the lease is to be renewed now.
    pub(super) fn is_due(&self) -> bool {
        self.inner().asked_at.elapsed() >= RENEW_AFTER
    }

    /// Returns which lock it is for.
    pub(super) const fn key(&self) -> &Bytes {
        &self.key
    }
}

/// What a renewal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It is held on.
    Kept,
    /// Not all nodes could be reached, and no other has it; it is held until its time is over.
    Unknown,
    /// Another gateway has it.
    Lost,
    /// It was given back.
    Over,
}

impl Drop for LeaseState {
    fn drop(&mut self) {
        // The requests are under way; nobody is there to wait for the answers.
        drop(self.give_back());
    }
}

impl Inner {
    /// Takes note of what is known of a node: that it has the lease, that it may, or not.
    fn note(&mut self, node: &Node, has_it: Option<bool>) {
        self.places.retain(|place| !is_same(&place.node, node));
        if let Some(is_sure) = has_it {
            self.places.push(Place { node: node.clone(), is_sure });
        }
    }

    /// Takes note that a node which had the lease does not answer.
    fn doubt(&mut self, node: &Node) {
        if let Some(place) = self.places.iter_mut().find(|place| is_same(&place.node, node)) {
            place.is_sure = false;
        }
    }
}

impl Lease {
    /// Tries once to put a lease at all owners.
    pub(super) async fn try_take(
        topology: &Topology,
        session: &[u8],
        state: LeaseState,
    ) -> Attempt {
        let owners = topology.owners(session, Instant::now());
        let is = |wanted: Standing| owners.iter().any(|owner| owner.standing() == wanted);
        if !owners.iter().any(|owner| owner.is_up()) {
            let store = owners.first().map_or("no node", |owner| owner.name()).to_owned();
            return Attempt::Unreachable(StoreError::Unreachable { store });
        }
        if is(Standing::Leaving) || !is(Standing::Settled) {
            return Attempt::Busy;
        }
        // Whatever was put somewhere is taken away when this is dropped.
        let lease = Self(Arc::new(state));
        for owner in owners {
            match lease.0.place(owner).await {
                Some(Ok(true)) => {}
                // One that goes away meanwhile is waited for until it is gone.
                Some(Ok(false) | Err(_)) => return Attempt::Busy,
                None if owner.standing() == Standing::Gone => {}
                None => return Attempt::Busy,
            }
        }
        if lease.is_valid() { Attempt::Taken(lease) } else { Attempt::Busy }
    }

    /// Returns whether it is still held.
    pub(super) fn is_valid(&self) -> bool {
        self.0.is_valid()
    }

    /// Returns how long ago it was taken.
    pub(super) fn age(&self) -> Duration {
        self.0.taken_at.elapsed()
    }

    /// Returns a handle that does not keep it.
    pub(super) fn weak(&self) -> Weak<LeaseState> {
        Arc::downgrade(&self.0)
    }

    /// Gives it back, and waits until the nodes know.
    pub(super) async fn release(self) {
        for (node, answer) in self.0.give_back() {
            if answer.await.is_err() {
                self.0.owed.add(node, &self.0);
            }
        }
    }
}

impl Owed {
    fn add(&self, node: Node, lease: &LeaseState) {
        let mut debts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        debts.retain(|debt| debt.until > now);
        if debts.len() < OWED_MAX {
            let until = now + Duration::from_secs(u64::from(ITEM_SECONDS) * 10);
            debts.push(Debt { node, key: lease.key.clone(), id: lease.id.clone(), until });
        }
    }

    /// Returns whether nothing is to be taken away.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes away what nodes still have that are there again.
    pub(super) async fn settle(&self) {
        let now = Instant::now();
        let due: Vec<Debt> = {
            let mut debts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            debts.retain(|debt| debt.until > now);
            debts.extract_if(.., |debt| debt.node.is_up()).collect()
        };
        for debt in due {
            let is_settled = match debt.node.fetch(&debt.key).await {
                Ok(Reply::Found(item)) if item.bytes == debt.id => {
                    debt.node.remove(&debt.key).await.is_ok()
                }
                Ok(_) => true,
                Err(_) => false,
            };
            if !is_settled {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(debt);
            }
        }
    }
}

/// Returns whether any owner has a lease of a lock.
pub(super) async fn is_taken(topology: &Topology, session: &[u8], lock: &[u8]) -> bool {
    let owners = topology.owners(session, Instant::now());
    let answers: Vec<Answer> = owners.iter().map(|owner| owner.fetch(lock)).collect();
    let mut is_taken = false;
    for answer in answers {
        is_taken |= matches!(answer.await, Ok(Reply::Found(_)));
    }
    is_taken
}

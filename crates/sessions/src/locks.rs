//! Locks of sessions: one request of a visitor at a time, over the whole fleet.
//!
//! php-memcached takes a lock with `add <prefix>lock.<session> 0 <seconds> 1` and polls when it does
//! not get it, a few times, after which the page has an empty cart. Here the answer to `add` waits
//! until the lock is free, so nobody polls and nobody gives up early.
//!
//! Two stages. Clients of this gateway queue at a *gate*, first come, first served. Whoever is
//! through the gate takes the *lease* of the lock at its owner nodes, against other gateways (see
//! `lease.rs`), or finds that the client before has left it there. A lease is passed on in this way
//! for [`PASSING_ON_MAX`]; then it is given back, so that clients of other gateways have their turn.
//!
//! Everything is given back when it is dropped: a client that goes away, holding or waiting, leaves
//! nothing behind.

mod keeper;
mod lease;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex as Gate, Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use crate::copies::Copies;
use crate::counters::Counters;
use crate::expiry::Lifetime;
use crate::store::StoreError;

use lease::{Attempt, Lease, LeaseState, Owed};

/// How long a lease goes from client to client of one gateway while others wait for it.
const PASSING_ON_MAX: Duration = Duration::from_millis(500);
/// The pauses between two attempts at a lock that another gateway has.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);
/// How long a client waits for an owner of its lock to come back, when all are away.
const RETURN_WAIT_MAX: Duration = Duration::from_secs(1);
/// How many clients may wait for one lock.
const WAITERS_MAX: usize = 256;

/// A client's connection.
pub(crate) type ClientId = u64;

/// How a client fares that wants a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has it.
    Granted,
    /// It did not become free in time, or too many wait for it, or this client has it already.
    NotGranted,
    /// No owner of the lock can be reached.
    Failed(StoreError),
}

/// Grants locks to clients.
#[derive(Debug)]
pub(crate) struct Locks {
    copies: Arc<Copies>,
    counters: Arc<Counters>,
    /// What the keys of sessions begin with.
    session_prefix: Vec<u8>,
    lock_prefix: Vec<u8>,
    /// How long a client waits at most.
    wait_max: Duration,
    /// Makes the ids of this gateway's leases differ from those of all others.
    gateway: u64,
    sequence: AtomicU64,
    gates: Arc<Mutex<HashMap<Bytes, Entry>>>,
    held: Mutex<HashMap<Bytes, Held>>,
    leases: Mutex<Vec<Weak<LeaseState>>>,
    owed: Arc<Owed>,
    /// Woken when there is something to keep.
    wake: Notify,
}

/// A gate and how many are at it: one that holds the lock, and those that wait.
#[derive(Debug)]
struct Entry {
    gate: Arc<Gate<Slot>>,
    users: usize,
}

/// What is behind a gate.
#[derive(Debug, Default)]
struct Slot {
    lease: Option<Lease>,
    /// The lease was given back for the sake of others, who go first now.
    gives_way: bool,
}

/// A lock that a client holds. The gate is opened before the place at it is given up.
#[derive(Debug)]
struct Held {
    slot: OwnedMutexGuard<Slot>,
    place: Place,
    client: ClientId,
    /// When the client has had it too long.
    until: Option<Instant>,
}

/// A client's place at a gate; the gate goes when the last one leaves, with the lease behind it.
#[derive(Debug)]
struct Place {
    key: Bytes,
    gates: Arc<Mutex<HashMap<Bytes, Entry>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = gates.get_mut(&self.key) else { return };
        entry.users = entry.users.saturating_sub(1);
        let last = if entry.users == 0 { gates.remove(&self.key) } else { None };
        // Dropping a lease asks nodes, which the lock of the gates need not cover.
        drop(gates);
        drop(last);
    }
}

impl Locks {
    /// Makes the locks of a gateway. Sessions have keys that begin with `session_prefix`, and their
    /// locks the same with `lock.` after it.
    pub(crate) fn new(
        gateway: u64,
        copies: Arc<Copies>,
        counters: Arc<Counters>,
        session_prefix: &str,
        wait_max: Duration,
    ) -> Self {
        Self {
            copies,
            counters,
            session_prefix: session_prefix.as_bytes().to_vec(),
            lock_prefix: format!("{session_prefix}lock.").into_bytes(),
            wait_max,
            gateway,
            sequence: AtomicU64::new(0),
            gates: Arc::default(),
            held: Mutex::default(),
            leases: Mutex::default(),
            owed: Arc::default(),
            wake: Notify::new(),
        }
    }

    /// Returns whether a key is that of a lock.
    pub(crate) fn is_lock(&self, key: &[u8]) -> bool {
        key.starts_with(&self.lock_prefix)
    }

    /// Returns the key of the session that a lock is for; it decides where the lock is kept.
    fn session_of(&self, lock: &[u8]) -> Vec<u8> {
        let session = lock.strip_prefix(self.lock_prefix.as_slice()).unwrap_or(lock);
        [&self.session_prefix, session].concat()
    }

    /// Waits for a lock and takes it.
    ///
    /// `hold` is how long the client may have it; it waits no longer than that either.
    pub(crate) async fn acquire(&self, client: ClientId, key: &[u8], hold: Lifetime) -> Outcome {
        let key = Bytes::copy_from_slice(key);
        if self.is_held_by(client, &key) {
            return Outcome::NotGranted;
        }
        let hold = match hold {
            Lifetime::Forever => None,
            Lifetime::Seconds(seconds) => Some(Duration::from_secs(u64::from(seconds))),
        };
        let wait = hold.map_or(self.wait_max, |hold| hold.min(self.wait_max));
        let deadline = Instant::now() + wait;
        let Some((place, gate)) = self.enter(&key) else {
            self.counters.count(|counts| &counts.locks_timed_out);
            return Outcome::NotGranted;
        };
        let entered = timeout_at(deadline, gate.lock_owned()).await;
        let outcome = match entered {
            Ok(mut slot) => match self.lease(&key, &mut slot, deadline).await {
                Ok(true) => {
                    let until = hold.map(|hold| Instant::now() + hold);
                    self.held().insert(key, Held { slot, place, client, until });
                    self.wake.notify_one();
                    Outcome::Granted
                }
                Ok(false) => Outcome::NotGranted,
                Err(error) => Outcome::Failed(error),
            },
            Err(_) => Outcome::NotGranted,
        };
        self.counters.count(|counts| match outcome {
            Outcome::Granted => &counts.locks_granted,
            Outcome::NotGranted => &counts.locks_timed_out,
            Outcome::Failed(_) => &counts.failed_commands,
        });
        outcome
    }

    /// Frees a lock; returns whether the client had it.
    pub(crate) async fn release(&self, client: ClientId, key: &[u8]) -> bool {
        let held = {
            let mut held = self.held();
            let is_theirs = held.get(key).is_some_and(|held| held.client == client);
            if is_theirs { held.remove(key) } else { None }
        };
        let Some(held) = held else { return false };
        let had_it = held.slot.lease.as_ref().is_some_and(Lease::is_valid);
        self.pass_on(held).await;
        had_it
    }

    /// Frees a lock whose holder has gone away.
    pub(crate) async fn release_left(&self, client: ClientId, key: &[u8]) {
        if self.release(client, key).await {
            self.counters.count(|counts| &counts.locks_freed_by_disconnect);
        }
    }

    /// Returns whether anybody of the fleet has a lock.
    pub(crate) async fn is_taken(&self, key: &[u8]) -> bool {
        if self.held().contains_key(key) {
            return true;
        }
        let topology = self.copies.topology();
        lease::is_taken(&topology, &self.session_of(key), key).await
    }

    /// Returns whether a client may write a session: not when it took the session's lock and lost
    /// it, because then somebody else may have written meanwhile.
    pub(crate) fn may_write(&self, client: ClientId, locks: &[Bytes], session: &[u8]) -> bool {
        let is_of_session = |lock: &&Bytes| {
            let id = lock.strip_prefix(self.lock_prefix.as_slice());
            id.is_some() && id == session.strip_prefix(self.session_prefix.as_slice())
        };
        locks.iter().filter(is_of_session).all(|lock| {
            self.held().get(lock).is_some_and(|held| {
                held.client == client && held.slot.lease.as_ref().is_some_and(Lease::is_valid)
            })
        })
    }

    fn is_held_by(&self, client: ClientId, key: &Bytes) -> bool {
        self.held().get(key).is_some_and(|held| held.client == client)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Bytes, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place at the gate of a lock; `None` when too many are there.
    fn enter(&self, key: &Bytes) -> Option<(Place, Arc<Gate<Slot>>)> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let entry =
            gates.entry(key.clone()).or_insert_with(|| Entry { gate: Arc::default(), users: 0 });
        if entry.users > WAITERS_MAX {
            return None;
        }
        if entry.users > 0 {
            self.counters.count(|counts| &counts.locks_waited);
        }
        entry.users = entry.users.saturating_add(1);
        let place = Place { key: key.clone(), gates: Arc::clone(&self.gates) };
        Some((place, Arc::clone(&entry.gate)))
    }

    /// Sees to it that there is a lease behind the gate; returns whether there is one in time.
    async fn lease(
        &self,
        key: &Bytes,
        slot: &mut Slot,
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        if slot.lease.as_ref().is_some_and(Lease::is_valid) {
            return Ok(true);
        }
        slot.lease = None;
        let mut pause = PAUSE_MIN;
        if std::mem::take(&mut slot.gives_way) {
            sleep(PAUSE_MAX * 2).await;
        }
        let session = self.session_of(key);
        let give_up_at = deadline.min(Instant::now() + RETURN_WAIT_MAX);
        let mut is_first = true;
        loop {
            let topology = self.copies.topology();
            let failure = match Lease::try_take(&topology, &session, self.new_lease(key)).await {
                Attempt::Taken(lease) => {
                    self.leases().push(lease.weak());
                    slot.lease = Some(lease);
                    return Ok(true);
                }
                Attempt::Busy => None,
                Attempt::Unreachable(error) => Some(error),
            };
            if std::mem::take(&mut is_first) && failure.is_none() {
                self.counters.count(|counts| &counts.locks_waited);
            }
            let now = Instant::now();
            match failure {
                Some(error) if now >= give_up_at => return Err(error),
                _ if now >= deadline => return Ok(false),
                _ => {}
            }
            sleep(pause.min(deadline.duration_since(now))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn leases(&self) -> MutexGuard<'_, Vec<Weak<LeaseState>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_lease(&self, key: &Bytes) -> LeaseState {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let id = format!("flotilla {:016x} {number}", self.gateway);
        LeaseState::new(key.clone(), id.into_bytes(), Arc::clone(&self.owed))
    }

    /// Gives a lock to the next client at the gate, or back to the nodes.
    async fn pass_on(&self, mut held: Held) {
        let has_waiters = {
            let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            gates.get(&held.place.key).is_some_and(|entry| entry.users > 1)
        };
        let age = held.slot.lease.as_ref().map(Lease::age).unwrap_or_default();
        if has_waiters && age < PASSING_ON_MAX {
            return;
        }
        held.slot.gives_way = has_waiters;
        if let Some(lease) = held.slot.lease.take() {
            lease.release().await;
        }
    }
}

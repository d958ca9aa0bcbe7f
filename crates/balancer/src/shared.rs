//! What the threads share: the routes, the counts that must be global, and the word to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use flotilla_core::id::Token;
use flotilla_core::table::{BalancerStatus, Table, UpstreamStatus};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::metrics::LaneMetrics;
use crate::options::Options;
use crate::routes::{Release, Routes, UpstreamState};

/// The state that all threads see.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What the balancer was started with.
    pub(crate) options: Options,
    /// What the control interface takes.
    pub(crate) control_tokens: ArcSwap<Vec<Token>>,
    /// The present routes.
    routes: ArcSwap<Routes>,
    /// The version of the present routes; see [`Self::version`].
    version: AtomicU64,
    /// Tells those that wait for another table.
    changed: watch::Sender<u64>,
    /// Requests that wait for room on an upstream.
    pub(crate) queued: AtomicU64,
    /// Tells one of those that there is room.
    pub(crate) room: Notify,
    /// Requests that wait because of a hold.
    pub(crate) holding: AtomicU64,
    /// When the balancer started.
    origin: Instant,
    /// Cancelled when draining begins.
    pub(crate) draining: CancellationToken,
    /// When draining must be over.
    pub(crate) drain_deadline: Mutex<Option<Instant>>,
    /// Where requests are noted.
    pub(crate) access_log: AccessLog,
    /// The counts of each thread.
    pub(crate) metrics: Box<[Arc<LaneMetrics>]>,
    /// The workshop, when there is one.
    pub(crate) workshop: Option<Arc<UpstreamState>>,
    /// Upstreams of the table or still draining.
    known: Mutex<Vec<Arc<UpstreamState>>>,
    /// The release before the present one.
    previous: Mutex<Option<Arc<Release>>>,
}

impl Shared {
    /// Makes the state of a balancer that starts with these routes.
    pub(crate) fn new(options: Options, access_log: AccessLog, threads: usize) -> Self {
        let workshop = options.workshop.as_ref().and_then(UpstreamState::of_workshop);
        Self {
            workshop: workshop.map(Arc::new),
            control_tokens: ArcSwap::from_pointee(vec![options.control_token.clone()]),
            options,
            routes: ArcSwap::from_pointee(Routes::none()),
            version: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            queued: AtomicU64::new(0),
            room: Notify::new(),
            holding: AtomicU64::new(0),
            origin: Instant::now(),
            draining: CancellationToken::new(),
            drain_deadline: Mutex::new(None),
            access_log,
            metrics: (0..threads).map(|_| Arc::new(LaneMetrics::default())).collect(),
            known: Mutex::new(Vec::new()),
            previous: Mutex::new(None),
        }
    }

    /// Returns the version of the present routes.
    ///
    /// A thread that adds to `in_flight` and then reads an unchanged version knows that whoever
    /// publishes a newer table afterwards sees its request in the count: both sides write first and
    /// read second, in one total order.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Returns the present routes.
    ///
    /// Raises the version on behalf of a publisher that has swapped the routes but not yet told the
    /// version; otherwise another thread could use the old routes after this one used the new.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        let routes = self.routes.load_full();
        self.version.fetch_max(routes.table.version, Ordering::SeqCst);
        routes
    }

    /// Returns a receiver that sees each published version.
    pub(crate) fn watch_version(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts a table into service; the caller has made sure that it is newer, and that only one
    /// table is published at a time.
    pub(crate) fn publish(&self, table: Table, since_version: Option<u64>) {
        let before = self.routes();
        let version = table.version;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = Arc::new(Routes::new(table, &known, &before, since_version));
        self.routes.store(Arc::clone(&routes));
        self.version.fetch_max(version, Ordering::SeqCst);
        known.retain(|state| state.in_flight.load(Ordering::SeqCst) > 0);
        for state in &routes.upstreams {
            if !known.iter().any(|one| Arc::ptr_eq(one, state)) {
                known.push(Arc::clone(state));
            }
        }
        drop(known);
        let same = match (&before.release, &routes.release) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if !same {
            *self.previous.lock().unwrap_or_else(PoisonError::into_inner) = before.release.clone();
        }
        self.settle_health();
        self.changed.send_replace(version);
        self.room.notify_waiters();
    }

    /// Returns the version that brings, or brought, the release of the table into service.
    pub(crate) fn since_version_of(&self, table: &Table) -> u64 {
        let before = self.routes();
        let routes = Routes::new(table.clone(), &[], &before, None);
        routes.release.map_or(0, |release| release.since_version)
    }

    /// Decides anew whether health is to be ignored, and lets waiting requests look again.
    pub(crate) fn settle_health(&self) {
        let percent = self.options.health.fail_static_percent;
        if let Some(verdict) = self.routes().settle_fail_static(percent) {
            if verdict {
                tracing::warn!("Most upstreams look bad; health is ignored until fewer do");
            } else {
                tracing::info!("Health decides again which upstreams are used");
            }
        }
        if self.queued.load(Ordering::SeqCst) > 0 {
            self.room.notify_waiters();
        }
    }

    /// Tells one of those that wait for room on an upstream that there is some.
    pub(crate) fn tell_room(&self) {
        if self.queued.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }

    /// Returns what the foreman is told.
    pub(crate) fn status(&self) -> BalancerStatus {
        let routes = self.routes();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|state| {
            state.in_flight.load(Ordering::SeqCst) > 0
                || routes.upstreams.iter().any(|one| Arc::ptr_eq(one, state))
        });
        let mut upstreams: Vec<UpstreamStatus> = Vec::with_capacity(known.len());
        for state in known.iter() {
            add_status(&mut upstreams, state);
        }
        drop(known);
        let previous = self.previous.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let releases = routes.release.iter().chain(previous.iter());
        BalancerStatus {
            version: routes.table.version,
            upstreams,
            releases: releases.map(|release| release.status()).collect(),
            holding: self.holding.load(Ordering::SeqCst),
        }
    }

    /// Returns the milliseconds since the balancer started, counted from 1.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Notes that a request to an upstream failed without a response.
    pub(crate) fn note_failure(&self, upstream: &UpstreamState) {
        if upstream.note_failure(self.options.health.eject_after, self.millis()) {
            let (instance, slot) = (&upstream.instance, upstream.slot);
            tracing::warn!(%instance, %slot, "Requests to an upstream failed; leaving it out");
            self.settle_health();
        }
    }

    /// Lets ejected upstreams have requests again when their time is over.
    pub(crate) fn readmit_ejected(&self) {
        let for_millis = u64::try_from(self.options.health.eject_for.as_millis());
        let Some(by) = self.millis().checked_sub(for_millis.unwrap_or(u64::MAX)) else { return };
        let mut is_changed = false;
        for upstream in self.routes().upstreams.iter().chain(&self.workshop) {
            if upstream.was_ejected_by(by) {
                upstream.readmit();
                is_changed = true;
            }
        }
        if is_changed {
            self.settle_health();
        }
    }

    /// Begins to drain: threads stop accepting, and cut off what has not ended after `limit`.
    pub(crate) fn begin_drain(&self, limit: Duration) {
        let mut deadline = self.drain_deadline.lock().unwrap_or_else(PoisonError::into_inner);
        *deadline = Some(Instant::now() + limit);
        drop(deadline);
        self.draining.cancel();
    }

    /// Returns when draining must be over.
    pub(crate) fn drain_deadline(&self) -> Instant {
        let deadline = *self.drain_deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.unwrap_or_else(Instant::now)
    }
}

/// Adds one upstream; the same slot of an instance at another address counts with it.
fn add_status(upstreams: &mut Vec<UpstreamStatus>, state: &UpstreamState) {
    let in_flight = state.in_flight.load(Ordering::SeqCst);
    let same =
        upstreams.iter_mut().find(|one| one.slot == state.slot && one.instance == state.instance);
    match same {
        Some(one) => {
            one.in_flight += in_flight;
            one.healthy = state.is_usable();
        }
        None => upstreams.push(UpstreamStatus {
            instance: state.instance.clone(),
            slot: state.slot,
            in_flight,
            healthy: state.is_usable(),
        }),
    }
}

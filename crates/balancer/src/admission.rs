//! Waiting for an upstream: through a hold, and through the queue for room.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::choice::{Load, choose};
use crate::connection::Visitor;
use crate::exchange::Exchange;
use crate::lane::Lane;
use crate::lane_routes::{LaneRoutes, LaneUpstream};
use crate::metrics::count;
use crate::page::Page;
use crate::routes::Release;
use crate::worker_place::WorkerPlace;

/// How much further than pages what looks like a file may go: such requests occupy a worker for as
/// long as it takes to see that a file answers, and there may be none.
const FILE_BUSY_FACTOR: u64 = 2;

/// What a request needs of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A PHP worker, at once.
    Worker,
    /// Most likely only a file; a hold lets it pass.
    File,
    /// A PHP worker when the rest of its body has come; until then nginx collects it.
    Upload,
}

/// A request that an upstream was chosen for, counted as in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    lane: Rc<Lane>,
    /// The upstream.
    pub(crate) upstream: Rc<LaneUpstream>,
    /// The routes it was chosen from.
    pub(crate) routes: Rc<LaneRoutes>,
    /// Its place among those that may occupy a PHP worker.
    pub(crate) place: Rc<WorkerPlace>,
}

impl InFlight {
    /// Returns the release that the answer speaks for; the workshop speaks for none.
    pub(crate) fn release(&self) -> Option<&Arc<Release>> {
        let release = self.routes.routes.release.as_ref();
        release.filter(|_| !self.upstream.state.is_workshop())
    }
}

impl InFlight {
    /// Keeps the connection that the request ended on.
    pub(crate) fn keep(&self, mut exchange: Box<Exchange>) {
        exchange.is_reused = true;
        let idle_max = self.lane.shared.options.limits.idle_connections_per_upstream;
        self.upstream.keep(exchange, idle_max);
    }

    /// Returns what is cancelled when the balancer drains.
    pub(crate) fn draining(&self) -> CancellationToken {
        self.lane.shared.draining.clone()
    }

    /// Notes that the upstream failed.
    pub(crate) fn note_failure(&self) {
        self.lane.shared.note_failure(&self.upstream.state);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.state.in_flight.fetch_sub(1, Ordering::SeqCst);
        // The visitor's connection knows the place as well, and stays.
        self.place.give_back();
        self.lane.shared.tell_room();
    }
}

/// What one request brings to the choice.
#[derive(Debug)]
pub(crate) struct Applicant<'one> {
    /// The thread it is on.
    pub(crate) lane: &'one Rc<Lane>,
    /// Its connection.
    pub(crate) visitor: &'one Visitor,
    /// What it needs.
    pub(crate) need: Need,
    /// Whether it belongs to the workshop, as long as that answers.
    pub(crate) is_for_workshop: bool,
    /// Upstreams where it failed already.
    pub(crate) avoided: Vec<Rc<LaneUpstream>>,
    /// How long a hold stopped it.
    pub(crate) held: Duration,
    /// Since when it was held first.
    pub(crate) held_since: Option<Instant>,
}

enum Attempt {
    Taken(InFlight),
    Full,
    Outdated,
}

impl Applicant<'_> {
    /// Waits until an upstream can take the request; otherwise tells what to answer.
    pub(crate) async fn admit(&mut self) -> Result<InFlight, Page> {
        let lane = Rc::clone(self.lane);
        let shared = &lane.shared;
        let mut ticket = None;
        let mut deadline = None;
        loop {
            let routes = lane.routes();
            if routes.upstreams.is_empty() {
                return Err(Page::Unavailable);
            }
            if let (Some(limit), false) = (routes.routes.hold(), self.need == Need::File) {
                self.wait_for_release(routes.version(), limit).await?;
                continue;
            }
            // Only those that need a worker wait behind each other.
            let is_first = self.need != Need::Worker || shared.queued.load(Ordering::SeqCst) == 0;
            if ticket.is_none() && is_first {
                match self.attempt(&routes) {
                    Attempt::Taken(in_flight) => return Ok(in_flight),
                    Attempt::Outdated => continue,
                    Attempt::Full => {}
                }
            }
            if ticket.is_none() {
                let queue_max = shared.options.limits.queue_max;
                ticket = Some(Place::take(&shared.queued, queue_max).ok_or_else(|| {
                    count(&lane.metrics.queue_refused);
                    Page::Unavailable
                })?);
            }
            let mut room = pin!(shared.room.notified());
            room.as_mut().enable();
            match self.attempt(&routes) {
                Attempt::Taken(in_flight) => return Ok(in_flight),
                Attempt::Outdated => continue,
                Attempt::Full => {}
            }
            let until =
                *deadline.get_or_insert_with(|| Instant::now() + shared.options.timeouts.queue);
            if self.visitor.until(until, None, room).await.is_err() {
                count(&lane.metrics.queue_refused);
                return Err(Page::Unavailable);
            }
        }
    }

    /// Returns the workshop when the request belongs there and it answers.
    pub(crate) fn workshop(&self) -> Option<&Rc<LaneUpstream>> {
        let workshop = self.lane.workshop.as_ref().filter(|_| self.is_for_workshop)?;
        (workshop.state.is_usable() && !self.is_avoided(workshop)).then_some(workshop)
    }

    fn attempt(&self, routes: &Rc<LaneRoutes>) -> Attempt {
        let shared = &self.lane.shared;
        let in_flight_max = shared.options.limits.in_flight_max;
        let Some(upstream) = self.workshop().or_else(|| self.choose(routes)) else {
            return Attempt::Full;
        };
        let before = upstream.state.in_flight.fetch_add(1, Ordering::SeqCst);
        let place = WorkerPlace::new(Rc::clone(self.lane), Arc::clone(&upstream.state));
        let in_flight = InFlight {
            lane: Rc::clone(self.lane),
            upstream: Rc::clone(upstream),
            routes: Rc::clone(routes),
            place: Rc::new(place),
        };
        // Whoever published a newer table may have read the count before it rose; see
        // `Shared::version`.
        if shared.version() != routes.version() {
            return Attempt::Outdated;
        }
        let has_place =
            self.need == Need::Upload || in_flight.place.take_below(self.busy_max(upstream));
        if before >= in_flight_max || !has_place {
            return Attempt::Full;
        }
        Attempt::Taken(in_flight)
    }

    /// Chooses one of the fleet's upstreams; `None` when all that may be used are full.
    fn choose<'routes>(&self, routes: &'routes LaneRoutes) -> Option<&'routes Rc<LaneUpstream>> {
        let in_flight_max = self.lane.shared.options.limits.in_flight_max;
        let load = |index: usize| match routes.upstreams.get(index) {
            Some(upstream) => {
                let busy = upstream.state.busy.load(Ordering::Relaxed);
                let in_flight = upstream.state.in_flight.load(Ordering::Relaxed);
                Load {
                    is_usable: upstream.state.is_usable(),
                    is_avoided: self.is_avoided(upstream),
                    busy,
                    workers_max: upstream.state.workers_max(),
                    is_full: in_flight >= in_flight_max || busy >= self.busy_max(upstream),
                }
            }
            None => {
                Load { is_usable: false, is_avoided: true, busy: 0, workers_max: 1, is_full: true }
            }
        };
        let ignore_health = routes.routes.is_fail_static.load(Ordering::Relaxed);
        let mut random = self.lane.random.borrow_mut();
        let chosen = choose(routes.upstreams.len(), ignore_health, &mut random, load);
        chosen.and_then(|index| routes.upstreams.get(index))
    }

    fn is_avoided(&self, upstream: &LaneUpstream) -> bool {
        self.avoided.iter().any(|one| Arc::ptr_eq(&one.state, &upstream.state))
    }

    /// Returns how many requests may be busy on an upstream for this one to be let in.
    fn busy_max(&self, upstream: &LaneUpstream) -> u64 {
        let per_worker = u64::from(self.lane.shared.options.limits.busy_per_worker.max(1));
        let busy_max = u64::from(upstream.state.workers_max()) * per_worker;
        match self.need {
            Need::Worker => busy_max,
            Need::File => busy_max * FILE_BUSY_FACTOR,
            Need::Upload => u64::MAX,
        }
    }

    /// Waits until a newer table than the one with the hold is in service.
    async fn wait_for_release(&mut self, version: u64, limit: Duration) -> Result<(), Page> {
        let shared = &self.lane.shared;
        let refused = || {
            count(&self.lane.metrics.hold_refused);
            Page::Held
        };
        let holding_max = shared.options.limits.holding_max;
        let _place = Place::take(&shared.holding, holding_max).ok_or_else(refused)?;
        let since = *self.held_since.get_or_insert_with(Instant::now);
        let mut versions = shared.watch_version();
        let newer = versions.wait_for(|published| *published > version);
        let outcome = self.visitor.until(since + limit, None, newer).await;
        self.held = since.elapsed();
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(refused()),
        }
    }
}

/// A place in a bounded crowd, given back when dropped.
#[derive(Debug)]
struct Place<'one> {
    crowd: &'one AtomicU64,
}

impl<'one> Place<'one> {
    fn take(crowd: &'one AtomicU64, places: u64) -> Option<Self> {
        let place = Self { crowd };
        // When there was none left, dropping `place` gives back what was taken too much.
        (crowd.fetch_add(1, Ordering::SeqCst) < places).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.crowd.fetch_sub(1, Ordering::SeqCst);
    }
}

//! One serving thread: its own listeners, connections and upstream pools.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use crate::connection::serve;
use crate::lane_routes::{LaneRoutes, LaneUpstream};
use crate::metrics::{LaneMetrics, count};
use crate::random::Random;
use crate::retry_budget::RetryBudget;
use crate::shared::Shared;

/// How often idle upstream connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long accepting pauses when the system has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a shortage of this machine is logged while it lasts.
const SHORTAGE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What all threads share.
    pub(crate) shared: Arc<Shared>,
    /// The counts of this thread.
    pub(crate) metrics: Arc<LaneMetrics>,
    /// The random numbers of this thread.
    pub(crate) random: RefCell<Random>,
    /// The retries of this thread.
    pub(crate) budget: RefCell<RetryBudget>,
    /// Wakes each open connection.
    pub(crate) wakers: RefCell<HashMap<u64, Waker>>,
    routes: RefCell<Rc<LaneRoutes>>,
    /// The workshop, when there is one.
    pub(crate) workshop: Option<Rc<LaneUpstream>>,
    is_draining: Cell<bool>,
    upstream_sockets: Rc<()>,
    shortage_logged: Cell<Option<Instant>>,
}

/// Counts as an open connection to an upstream until it is dropped.
#[derive(Debug)]
pub(crate) struct UpstreamSocket {
    _counted: Rc<()>,
}

impl Lane {
    fn new(shared: Arc<Shared>, metrics: Arc<LaneMetrics>, random: Random) -> Self {
        let routes = RefCell::new(Rc::new(LaneRoutes::new(shared.routes(), None)));
        let workshop = shared.workshop.clone().map(|state| Rc::new(LaneUpstream::new(state)));
        let budget = RetryBudget::new(&shared.options.retries, Instant::now());
        Self {
            shared,
            metrics,
            random: RefCell::new(random),
            budget: RefCell::new(budget),
            wakers: RefCell::default(),
            routes,
            workshop,
            is_draining: Cell::new(false),
            upstream_sockets: Rc::new(()),
            shortage_logged: Cell::new(None),
        }
    }

    /// Returns the present routes.
    pub(crate) fn routes(&self) -> Rc<LaneRoutes> {
        let mut mine = self.routes.borrow_mut();
        if mine.version() != self.shared.version() {
            let next = LaneRoutes::new(self.shared.routes(), Some(&mine));
            *mine = Rc::new(next);
        }
        Rc::clone(&mine)
    }

    /// Counts one more connection to an upstream.
    ///
    /// There is one for each visitor at most; kept ones that are not in use make room.
    pub(crate) fn open_upstream_socket(&self) -> UpstreamSocket {
        if Rc::strong_count(&self.upstream_sockets)
            > self.shared.options.limits.connections_per_thread_max
        {
            self.close_idle();
        }
        UpstreamSocket { _counted: Rc::clone(&self.upstream_sockets) }
    }

    /// Closes the connections to upstreams that are not in use.
    pub(crate) fn close_idle(&self) {
        for upstream in self.routes().upstreams.iter().chain(&self.workshop) {
            upstream.sweep(Duration::ZERO);
        }
    }

    /// Notes that this machine has run out of something; that is nobody else's fault.
    pub(crate) fn note_shortage(&self, error: &io::Error) {
        count(&self.metrics.local_shortages);
        let now = Instant::now();
        let is_told = self
            .shortage_logged
            .get()
            .is_some_and(|at| now.saturating_duration_since(at) < SHORTAGE_LOG_INTERVAL);
        if !is_told {
            self.shortage_logged.set(Some(now));
            tracing::error!(%error, "This machine has no room for another connection");
        }
    }

    /// Returns whether the balancer is stopping.
    pub(crate) const fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    fn sweep(&self) {
        let idle_max = self.shared.options.timeouts.upstream_idle;
        for upstream in self.routes().upstreams.iter().chain(&self.workshop) {
            upstream.sweep(idle_max);
        }
    }

    fn begin_drain(&self) {
        self.is_draining.set(true);
        let wakers: Vec<Waker> = self.wakers.borrow().values().cloned().collect();
        for waker in wakers {
            waker.wake();
        }
    }
}

/// Runs a serving thread until the balancer drains; returns how many connections were cut off.
pub(crate) fn run(
    shared: Arc<Shared>,
    metrics: Arc<LaneMetrics>,
    random: Random,
    listeners: Vec<std::net::TcpListener>,
) -> io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let listeners = listeners
            .into_iter()
            .map(TcpListener::from_std)
            .collect::<io::Result<Vec<TcpListener>>>()?;
        let lane = Rc::new(Lane::new(shared, metrics, random));
        Ok(accept(&lane, listeners).await)
    })
}

async fn accept(lane: &Rc<Lane>, listeners: Vec<TcpListener>) -> usize {
    let mut connections = JoinSet::new();
    let connections_max = lane.shared.options.limits.connections_per_thread_max;
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let draining = lane.shared.draining.clone();
    loop {
        tokio::select! {
            () = draining.cancelled() => break,
            accepted = accept_any(&listeners), if connections.len() < connections_max => {
                match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn_local(serve(Rc::clone(lane), stream, peer));
                    }
                    Err(error) => {
                        lane.note_shortage(&error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
            Some(ended) = connections.join_next() => report(ended),
            _ = ticks.tick() => lane.sweep(),
        }
    }
    drop(listeners);
    lane.begin_drain();
    let deadline = lane.shared.drain_deadline();
    while let Ok(Some(ended)) = timeout_at(deadline, connections.join_next()).await {
        report(ended);
    }
    let cut_off = connections.len();
    connections.shutdown().await;
    cut_off
}

async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(outcome) = listener.poll_accept(context) {
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "Serving a visitor connection panicked");
    }
}

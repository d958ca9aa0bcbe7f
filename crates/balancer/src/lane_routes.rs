//! One thread's view of the routes: each upstream with the idle connections of this thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::exchange::Exchange;
use crate::routes::{Routes, UpstreamState};

/// The routes as one thread uses them.
#[derive(Debug)]
pub(crate) struct LaneRoutes {
    /// What all threads see.
    pub(crate) routes: Arc<Routes>,
    /// The upstreams, in the order of [`Routes::upstreams`].
    pub(crate) upstreams: Box<[Rc<LaneUpstream>]>,
}

/// An upstream with the idle connections that this thread has to it.
#[derive(Debug)]
pub(crate) struct LaneUpstream {
    /// What all threads see.
    pub(crate) state: Arc<UpstreamState>,
    #[expect(clippy::vec_box, reason = "a connection moves in and out for each request")]
    idle: RefCell<Vec<Box<Exchange>>>,
    is_retired: Cell<bool>,
}

impl LaneRoutes {
    /// Takes up new routes; connections to upstreams that stay are kept, the others closed.
    pub(crate) fn new(routes: Arc<Routes>, before: Option<&Self>) -> Self {
        let known = before.map(|one| &*one.upstreams).unwrap_or_default();
        let upstreams: Box<[_]> = routes
            .upstreams
            .iter()
            .map(|state| {
                let same = known.iter().find(|one| Arc::ptr_eq(&one.state, state));
                same.map_or_else(|| Rc::new(LaneUpstream::new(Arc::clone(state))), Rc::clone)
            })
            .collect();
        for old in known {
            if !upstreams.iter().any(|one| Rc::ptr_eq(one, old)) {
                old.retire();
            }
        }
        Self { routes, upstreams }
    }

    /// Returns the version of the table they are of.
    pub(crate) fn version(&self) -> u64 {
        self.routes.table.version
    }
}

impl LaneUpstream {
    /// Begins without connections.
    pub(crate) fn new(state: Arc<UpstreamState>) -> Self {
        Self { state, idle: RefCell::default(), is_retired: Cell::new(false) }
    }

    /// Takes the idle connection that was used last and that the upstream has not closed.
    pub(crate) fn take_idle(&self, context: &mut Context<'_>) -> Option<Box<Exchange>> {
        loop {
            let mut exchange = self.idle.borrow_mut().pop()?;
            if exchange.is_reusable(context) {
                return Some(exchange);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, mut exchange: Box<Exchange>, idle_max: usize) {
        let mut idle = self.idle.borrow_mut();
        if !self.is_retired.get() && idle.len() < idle_max {
            exchange.idle_since = Instant::now();
            idle.push(exchange);
        }
    }

    /// Closes idle connections that are old or that the upstream has closed.
    pub(crate) fn sweep(&self, idle_max: Duration) {
        let mut context = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain_mut(|exchange| {
            exchange.idle_since.elapsed() < idle_max && exchange.is_reusable(&mut context)
        });
    }

    fn retire(&self) {
        self.is_retired.set(true);
        self.idle.borrow_mut().clear();
    }
}

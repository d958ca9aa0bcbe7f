//! A place among the requests that may occupy a PHP worker of an upstream.
//!
//! It is not the same as being in flight: nginx of a slot reads a request body before it asks PHP, and
//! takes what PHP makes without waiting for the visitor. So a slow visitor occupies a connection of
//! nginx, of which there are many, and no PHP worker.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::lane::Lane;
use crate::routes::UpstreamState;

/// The place; it may be taken and given back, and is given back when dropped.
#[derive(Debug)]
pub(crate) struct WorkerPlace {
    lane: Rc<Lane>,
    upstream: Arc<UpstreamState>,
    is_taken: Cell<bool>,
}

impl WorkerPlace {
    /// Makes a place that is not taken.
    pub(crate) const fn new(lane: Rc<Lane>, upstream: Arc<UpstreamState>) -> Self {
        Self { lane, upstream, is_taken: Cell::new(false) }
    }

    /// Takes the place when fewer than so many are taken; returns whether it is taken.
    pub(crate) fn take_below(&self, busy_max: u64) -> bool {
        if self.is_taken.get() {
            return true;
        }
        let is_taken = self.upstream.busy.fetch_add(1, Ordering::SeqCst) < busy_max;
        if is_taken {
            self.is_taken.set(true);
        } else {
            self.upstream.busy.fetch_sub(1, Ordering::SeqCst);
        }
        is_taken
    }

    /// Takes the place of a request that cannot be stopped any more.
    pub(crate) fn take(&self) {
        self.take_below(u64::MAX);
    }

    /// Gives the place back to those that wait for one.
    pub(crate) fn give_back(&self) {
        if self.is_taken.replace(false) {
            self.upstream.busy.fetch_sub(1, Ordering::SeqCst);
            self.lane.shared.tell_room();
        }
    }
}

impl Drop for WorkerPlace {
    fn drop(&mut self) {
        self.give_back();
    }
}

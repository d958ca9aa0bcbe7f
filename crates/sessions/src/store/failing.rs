//! A store that goes away when it is told to, for tests.

use std::sync::atomic::{AtomicBool, Ordering};

use super::memory::Memory;
use super::{Answer, Request, Standing, Store, StoreError};

/// Keeps items in memory and fails on demand.
#[derive(Debug)]
pub(crate) struct Failing {
    inner: Memory,
    is_away: AtomicBool,
    loses_answers: AtomicBool,
}

impl Failing {
    pub(crate) fn new(name: &str) -> Self {
        let (is_away, loses_answers) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { inner: Memory::new(name), is_away, loses_answers }
    }

    /// Is away from now on, or back with what it had.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    /// Carries out requests from now on, but says it did not.
    pub(crate) fn set_loses_answers(&self, loses_answers: bool) {
        self.loses_answers.store(loses_answers, Ordering::Relaxed);
    }

    /// Forgets all it had.
    pub(crate) fn forget(&self) {
        drop(self.inner.ask(Request::Flush { delay: std::time::Duration::ZERO }));
    }

    fn unreachable(&self) -> Answer {
        Answer::ready(Err(StoreError::Unreachable { store: self.name().to_owned() }))
    }
}

impl Store for Failing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn is_up(&self) -> bool {
        !self.is_away.load(Ordering::Relaxed)
    }

    fn standing(&self) -> Standing {
        if self.is_up() { Standing::Settled } else { Standing::Gone }
    }

    fn ask(&self, request: Request<'_>) -> Answer {
        if !self.is_up() {
            return self.unreachable();
        }
        let answer = self.inner.ask(request);
        if self.loses_answers.load(Ordering::Relaxed) { self.unreachable() } else { answer }
    }
}

//! Time, as a chore without a runtime knows it.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a chore has no runtime whose clock a test could pause"
)]

use std::time::{Duration, Instant};

/// A point in time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// How long this is after another moment; nothing when it is before.
    pub(crate) fn since(self, other: Self) -> Duration {
        self.0.saturating_duration_since(other.0)
    }
}

pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

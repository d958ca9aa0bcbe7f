//! The one place of the gateway that reads the wall clock, and the versions made from it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// How many low bits of a version name the gateway that made it, so that two never make the same.
const GATEWAY_BITS: u32 = 12;

/// Returns the time since 1970.
fn since_epoch() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "expiry dates and versions count from 1970")]
    let now = std::time::SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    since_epoch().as_secs()
}

/// Makes versions: each is above all that were made or seen before, whatever the wall clock does.
///
/// A version is microseconds since 1970 and the gateway's mark. A gateway has seen the version that
/// it writes over, because PHP reads a session before it writes it; so skewed clocks of two
/// instances do no harm.
#[derive(Debug)]
pub(crate) struct VersionClock {
    last: AtomicU64,
    mark: u64,
}

impl VersionClock {
    /// Makes a clock; the low bits of `gateway` become its mark.
    pub(crate) const fn new(gateway: u64) -> Self {
        Self { last: AtomicU64::new(0), mark: gateway & ((1 << GATEWAY_BITS) - 1) }
    }

    /// Returns the next version.
    pub(crate) fn next(&self) -> u64 {
        let micros = u64::try_from(since_epoch().as_micros()).unwrap_or(0);
        self.next_at(micros)
    }

    /// Returns a number that differs from call to call and from gateway to gateway, to spread
    /// attempts that would else meet again.
    pub(crate) fn spread(&self) -> u64 {
        (self.next() >> GATEWAY_BITS).wrapping_mul(self.mark | 1)
    }

    /// Takes note of a version that another gateway made.
    pub(crate) fn observe(&self, version: u64) {
        self.last.fetch_max(version, Ordering::Relaxed);
    }

    fn next_at(&self, micros: u64) -> u64 {
        let after = |last: u64| {
            let ticks = micros.max((last >> GATEWAY_BITS).saturating_add(1));
            (ticks << GATEWAY_BITS) | self.mark
        };
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)))
            .unwrap_or_else(|last| last);
        after(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rise_when_the_clock_stands_still_or_goes_back() {
        let clock = VersionClock::new(7);
        let first = clock.next_at(1000);
        let second = clock.next_at(1000);
        let third = clock.next_at(10);
        assert!(first < second && second < third);
    }

    #[test]
    fn a_version_is_above_every_one_that_was_seen() {
        let (ahead, behind) = (VersionClock::new(1), VersionClock::new(2));
        let seen = ahead.next_at(9_000_000);
        behind.observe(seen);
        assert!(behind.next_at(1_000_000) > seen);
    }

    #[test]
    fn two_gateways_never_make_the_same_version() {
        let (one, other) = (VersionClock::new(1), VersionClock::new(2));
        assert_ne!(one.next_at(5), other.next_at(5));
    }
}

//! How long an item lives, and memcached's rule for saying so.
//!
//! A number up to thirty days counts seconds from now; a larger one is a date, in seconds since
//! 1970. A date that has passed, like a negative number, means "at once expired": PHP's strict mode
//! asks with such a date whether a session exists.

/// The longest time that is not taken for a date: thirty days, in seconds.
pub(crate) const RELATIVE_SECONDS_MAX: u32 = 60 * 60 * 24 * 30;

/// How long an item lives from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until it is removed or pushed out.
    Forever,
    /// This many seconds, one at least.
    Seconds(u32),
}

impl Lifetime {
    /// Reads a client's number; `None` when the item is expired at once.
    pub(crate) fn from_exptime(exptime: i64, now_seconds: u64) -> Option<Self> {
        match u64::try_from(exptime) {
            Ok(0) => Some(Self::Forever),
            Ok(seconds) => {
                let is_date = seconds > u64::from(RELATIVE_SECONDS_MAX);
                let left = if is_date { seconds.saturating_sub(now_seconds) } else { seconds };
                Self::from_seconds(left)
            }
            Err(_) => None,
        }
    }

    /// Returns a lifetime of so many seconds; `None` for zero.
    pub(crate) fn from_seconds(seconds: u64) -> Option<Self> {
        // A hundred years and more are for ever, as far as a cart is concerned.
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        (seconds > 0).then_some(Self::Seconds(seconds))
    }

    /// Returns the number that says this to a memcached, which counts with 31 bits: what ends after
    /// the year 2038 lives for ever.
    pub(crate) fn to_exptime(self, now_seconds: u64) -> u64 {
        match self {
            Self::Forever => 0,
            Self::Seconds(seconds) if seconds <= RELATIVE_SECONDS_MAX => u64::from(seconds),
            Self::Seconds(seconds) => {
                let date = now_seconds.saturating_add(u64::from(seconds));
                if i32::try_from(date).is_ok() { date } else { 0 }
            }
        }
    }

    /// Returns whether this ends later than another by more than `slack` seconds.
    pub(crate) const fn outlives(self, other: Self, slack: u32) -> bool {
        match (self, other) {
            (_, Self::Forever) => false,
            (Self::Forever, Self::Seconds(_)) => true,
            (Self::Seconds(mine), Self::Seconds(theirs)) => mine > theirs.saturating_add(slack),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn numbers_beyond_thirty_days_are_dates_and_past_ones_expire_at_once() {
        let cases = [
            (0, Some(Lifetime::Forever)),
            (-1, None),
            (i64::MIN, None),
            (1, Some(Lifetime::Seconds(1))),
            (2_592_000, Some(Lifetime::Seconds(2_592_000))),
            (2_592_001, None),
            (2_678_400, None),
            (1_800_000_000, None),
            (1_800_000_060, Some(Lifetime::Seconds(60))),
            (i64::MAX, Some(Lifetime::Seconds(u32::MAX))),
        ];
        for (exptime, expected) in cases {
            assert_eq!(Lifetime::from_exptime(exptime, NOW), expected, "exptime {exptime}");
        }
    }

    #[test]
    fn what_is_told_to_a_node_is_read_back_as_the_same() {
        for seconds in [1, 60, RELATIVE_SECONDS_MAX, RELATIVE_SECONDS_MAX + 1, 90_000_000] {
            let lifetime = Lifetime::Seconds(seconds);
            let exptime = i64::try_from(lifetime.to_exptime(NOW)).unwrap();
            assert_eq!(Lifetime::from_exptime(exptime, NOW), Some(lifetime));
        }
        assert_eq!(Lifetime::Forever.to_exptime(NOW), 0);
        assert_eq!(Lifetime::Seconds(u32::MAX).to_exptime(NOW), 0);
    }

    #[test]
    fn a_lifetime_outlives_another_beyond_the_slack_only() {
        assert!(Lifetime::Forever.outlives(Lifetime::Seconds(u32::MAX), 2));
        assert!(!Lifetime::Seconds(9).outlives(Lifetime::Forever, 0));
        assert!(!Lifetime::Seconds(12).outlives(Lifetime::Seconds(10), 2));
        assert!(Lifetime::Seconds(13).outlives(Lifetime::Seconds(10), 2));
    }
}

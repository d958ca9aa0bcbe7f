//! When files have come to rest: nothing changes any more, and no update is under way.
//!
//! Times are milliseconds of a clock that never goes backwards, whatever its zero is.

use std::time::Duration;

use crate::id::Millis;

/// How long is waited for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long nothing may have changed.
    pub settle: Duration,
    /// How long an update may take; what is left of it then is taken for leftovers. WordPress itself
    /// forgets its `.maintenance` after ten minutes.
    pub unfinished: Duration,
    /// How long files may go on changing before it is told.
    pub restless: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(1),
            unfinished: Duration::from_secs(600),
            restless: Duration::from_secs(600),
        }
    }
}

/// What a scan saw of an update that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The file that tells, from the root of the site.
    pub path: Vec<u8>,
    /// How long ago it changed last, by the clock of the file system.
    pub age: Duration,
}

/// Whether files may be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing has changed for long enough.
    AtRest,
    /// Something changed a moment ago.
    Restless,
    /// An update is under way.
    Unfinished(Unfinished),
    /// Something has been changing for longer than the limit.
    Overdue,
}

/// Remembers from scan to scan since when things are as they are.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    seen: Option<([u8; 20], Millis)>,
    restless_since: Option<Millis>,
    unfinished_since: Option<Millis>,
}

impl Watch {
    /// Takes what a scan saw: a digest of all that could change, and what tells of an update.
    pub fn observe(
        &mut self,
        limits: &Limits,
        now: Millis,
        digest: [u8; 20],
        unfinished: Option<Unfinished>,
    ) -> Rest {
        let same_since = match self.seen {
            Some((seen, since)) if seen == digest => since,
            _ => {
                self.seen = Some((digest, now));
                now
            }
        };
        if let Some(unfinished) = unfinished {
            let since = *self.unfinished_since.get_or_insert(now);
            if unfinished.age < limits.unfinished && now.since(since) < limits.unfinished {
                // Its time does not count as restlessness.
                self.restless_since = None;
                return Rest::Unfinished(unfinished);
            }
        } else {
            self.unfinished_since = None;
        }
        // One scan alone never tells of rest, since a clock may be coarse.
        if same_since < now && now.since(same_since) >= limits.settle {
            self.restless_since = None;
            return Rest::AtRest;
        }
        let since = *self.restless_since.get_or_insert(now);
        if now.since(since) >= limits.restless { Rest::Overdue } else { Rest::Restless }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        settle: Duration::from_millis(1_000),
        unfinished: Duration::from_secs(600),
        restless: Duration::from_secs(60),
    };

    fn update(age_seconds: u64) -> Option<Unfinished> {
        Some(Unfinished { path: b".maintenance".to_vec(), age: Duration::from_secs(age_seconds) })
    }

    #[test]
    fn files_are_at_rest_when_two_scans_a_settle_time_apart_saw_the_same() {
        let mut watch = Watch::default();
        let mut observe = |now, digest| watch.observe(&LIMITS, Millis(now), [digest; 20], None);
        assert_eq!(observe(5_000, 1), Rest::Restless);
        assert_eq!(observe(5_999, 1), Rest::Restless);
        assert_eq!(observe(6_000, 1), Rest::AtRest);
        assert_eq!(observe(6_100, 2), Rest::Restless);
        assert_eq!(observe(7_100, 2), Rest::AtRest);
    }

    #[test]
    fn one_scan_alone_never_tells_of_rest() {
        let limits = Limits { settle: Duration::ZERO, ..LIMITS };
        let mut watch = Watch::default();
        assert_eq!(watch.observe(&limits, Millis(1), [0; 20], None), Rest::Restless);
        assert_eq!(watch.observe(&limits, Millis(2), [0; 20], None), Rest::AtRest);
    }

    #[test]
    fn an_update_under_way_is_not_at_rest_up_to_a_limit() {
        let mut watch = Watch::default();
        let mut observe = |now, seen| watch.observe(&LIMITS, Millis(now), [0; 20], seen);
        assert!(matches!(observe(0, update(0)), Rest::Unfinished(_)));
        assert!(matches!(observe(599_999, update(599)), Rest::Unfinished(_)));
        // A file whose time lies in the future is always young; the limit holds all the same.
        assert_eq!(observe(600_000, update(0)), Rest::AtRest);
        assert_eq!(observe(600_001, None), Rest::AtRest);
        assert!(matches!(observe(600_002, update(0)), Rest::Unfinished(_)));
        assert_eq!(observe(600_003, update(600)), Rest::AtRest, "leftovers of long ago");
    }

    #[test]
    fn what_never_holds_still_is_told_and_forgotten_once_it_does() {
        let mut watch = Watch::default();
        let mut observe =
            |now: u64, digest| watch.observe(&LIMITS, Millis(now), [digest; 20], None);
        for second in 0..60_u8 {
            assert_eq!(observe(u64::from(second) * 1_000, second), Rest::Restless);
        }
        assert_eq!(observe(60_000, 60), Rest::Overdue);
        assert_eq!(observe(61_000, 60), Rest::AtRest);
        assert_eq!(observe(62_000, 61), Rest::Restless);
    }
}

//! What a published table means for requests: its upstreams with their live counts, and its release.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use flotilla_core::id::{InstanceName, Revision};
use flotilla_core::slot::SlotName;
use flotilla_core::table::{ReleaseStatus, Table, Upstream};

use crate::workshop::WorkshopOptions;

/// What the workshop is called among instances, which are all called otherwise.
const WORKSHOP: &str = "workshop";

/// One slot of one instance and what is going on there; shared by all cores, and outlives the table
/// that named it until its last request has ended.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct UpstreamState {
    /// The instance.
    pub(crate) instance: InstanceName,
    /// The slot.
    pub(crate) slot: SlotName,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Requests sent to it that have not ended.
    pub(crate) in_flight: AtomicU64,
    /// Those of them that may occupy a PHP worker.
    pub(crate) busy: AtomicU64,
    workers_max: AtomicU32,
    usable: AtomicBool,
    checked_healthy: AtomicBool,
    ejected_at: AtomicU64,
    failures_in_a_row: AtomicU32,
    check_failures_in_a_row: AtomicU32,
    check_successes_in_a_row: AtomicU32,
    /// Requests that were sent to it since the balancer started.
    pub(crate) requests_total: AtomicU64,
    /// Requests to it that failed without a response.
    pub(crate) failures_total: AtomicU64,
}

impl UpstreamState {
    /// Makes the state of an upstream that nothing has been sent to.
    pub(crate) fn new(upstream: &Upstream) -> Self {
        Self {
            instance: upstream.instance.clone(),
            slot: upstream.slot,
            address: upstream.address,
            in_flight: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            workers_max: AtomicU32::new(u32::from(upstream.workers_max).max(1)),
            usable: AtomicBool::new(true),
            checked_healthy: AtomicBool::new(true),
            ejected_at: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            check_failures_in_a_row: AtomicU32::new(0),
            check_successes_in_a_row: AtomicU32::new(0),
            requests_total: AtomicU64::new(0),
            failures_total: AtomicU64::new(0),
        }
    }

    /// Makes the state of the workshop, which is in no table.
    pub(crate) fn of_workshop(options: &WorkshopOptions) -> Option<Self> {
        let upstream = Upstream {
            instance: WORKSHOP.parse().ok()?,
            slot: SlotName::Blue,
            address: options.address,
            workers_max: options.workers_max,
        };
        let state = Self::new(&upstream);
        // Until it has answered a check, nobody is sent there.
        state.checked_healthy.store(false, Ordering::Relaxed);
        state.settle();
        Some(state)
    }

    /// Whether it is the workshop.
    pub(crate) fn is_workshop(&self) -> bool {
        self.instance.as_str() == WORKSHOP
    }

    /// Returns whether it is the one that the table entry means.
    pub(crate) fn is(&self, upstream: &Upstream) -> bool {
        self.instance == upstream.instance
            && self.slot == upstream.slot
            && self.address == upstream.address
    }

    /// Returns how many PHP requests it works on at a time, at least one.
    pub(crate) fn workers_max(&self) -> u32 {
        self.workers_max.load(Ordering::Relaxed)
    }

    /// Takes over what a newer table says about the same upstream.
    pub(crate) fn update(&self, upstream: &Upstream) {
        self.workers_max.store(u32::from(upstream.workers_max).max(1), Ordering::Relaxed);
    }

    /// Returns whether health lets it have requests.
    pub(crate) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// Forgets all failures: the foreman has verified the release that it runs now.
    pub(crate) fn forget_failures(&self) {
        self.checked_healthy.store(true, Ordering::Relaxed);
        self.ejected_at.store(0, Ordering::Relaxed);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.check_failures_in_a_row.store(0, Ordering::Relaxed);
        self.check_successes_in_a_row.store(0, Ordering::Relaxed);
        self.settle();
    }

    /// Notes that a response head came.
    pub(crate) fn note_answer(&self) {
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a request without a response; returns whether that ejects it now. Times are
    /// milliseconds since the balancer started, never zero.
    pub(crate) fn note_failure(&self, eject_after: u32, now_millis: u64) -> bool {
        self.failures_total.fetch_add(1, Ordering::Relaxed);
        let failures = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < eject_after {
            return false;
        }
        let newly = self.ejected_at.swap(now_millis, Ordering::Relaxed) == 0;
        self.settle();
        newly
    }

    /// Returns whether it was ejected at that time or before.
    pub(crate) fn was_ejected_by(&self, millis: u64) -> bool {
        let at = self.ejected_at.load(Ordering::Relaxed);
        at != 0 && at <= millis
    }

    /// Lets it have requests again after an ejection.
    pub(crate) fn readmit(&self) {
        self.ejected_at.store(0, Ordering::Relaxed);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.settle();
    }

    /// Notes the result of a health check; returns the new verdict when it changed.
    pub(crate) fn note_check(
        &self,
        succeeded: bool,
        unhealthy_after: u32,
        healthy_after: u32,
    ) -> Option<bool> {
        let (grows, resets, enough) = if succeeded {
            (&self.check_successes_in_a_row, &self.check_failures_in_a_row, healthy_after)
        } else {
            (&self.check_failures_in_a_row, &self.check_successes_in_a_row, unhealthy_after)
        };
        resets.store(0, Ordering::Relaxed);
        let count = grows.load(Ordering::Relaxed).saturating_add(1);
        grows.store(count, Ordering::Relaxed);
        if count < enough || self.checked_healthy.load(Ordering::Relaxed) == succeeded {
            return None;
        }
        self.checked_healthy.store(succeeded, Ordering::Relaxed);
        self.settle();
        Some(succeeded)
    }

    fn settle(&self) {
        let usable = self.checked_healthy.load(Ordering::Relaxed)
            && self.ejected_at.load(Ordering::Relaxed) == 0;
        self.usable.store(usable, Ordering::Relaxed);
    }
}

/// Counts the requests of one release.
#[derive(Debug)]
pub(crate) struct Release {
    /// The table version that brought it into service.
    pub(crate) since_version: u64,
    /// Its revision.
    pub(crate) revision: Revision,
    requests: AtomicU64,
    errors: AtomicU64,
}

impl Release {
    fn new(since_version: u64, revision: Revision) -> Self {
        Self { since_version, revision, requests: AtomicU64::new(0), errors: AtomicU64::new(0) }
    }

    /// Counts a response that came from an upstream.
    pub(crate) fn count_response(&self, status: http::StatusCode) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status.is_server_error() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request that got no response.
    pub(crate) fn count_none(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts.
    pub(crate) fn status(&self) -> ReleaseStatus {
        ReleaseStatus {
            since_version: self.since_version,
            revision: self.revision.clone(),
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}

/// A table with its live parts; replaced as a whole.
#[derive(Debug)]
pub(crate) struct Routes {
    /// The table as the foreman sent it.
    pub(crate) table: Table,
    /// One entry for each upstream of the table.
    pub(crate) upstreams: Box<[Arc<UpstreamState>]>,
    /// The release in service.
    pub(crate) release: Option<Arc<Release>>,
    /// Set while so many upstreams look bad that health is ignored.
    pub(crate) is_fail_static: AtomicBool,
}

impl Routes {
    /// Makes the routes of a balancer that was never told a table.
    pub(crate) fn none() -> Self {
        Self {
            table: Table::default(),
            upstreams: Box::default(),
            release: None,
            is_fail_static: AtomicBool::new(false),
        }
    }

    /// Makes the routes of a table, taking over the state of the upstreams that are `known`.
    pub(crate) fn new(
        table: Table,
        known: &[Arc<UpstreamState>],
        before: &Self,
        since_version: Option<u64>,
    ) -> Self {
        let is_new_release = is_another_release(&before.table, &table);
        let upstreams = table
            .upstreams
            .iter()
            .map(|upstream| match known.iter().find(|state| state.is(upstream)) {
                Some(state) => {
                    state.update(upstream);
                    if is_new_release || !before.names(upstream) {
                        state.forget_failures();
                    }
                    Arc::clone(state)
                }
                None => Arc::new(UpstreamState::new(upstream)),
            })
            .collect();
        let release = match (&before.release, &table.revision) {
            (Some(release), Some(_)) if !is_new_release => Some(Arc::clone(release)),
            (_, Some(revision)) => {
                let since = since_version.unwrap_or(table.version);
                Some(Arc::new(Release::new(since, revision.clone())))
            }
            (_, None) => None,
        };
        Self { table, upstreams, release, is_fail_static: AtomicBool::new(false) }
    }

    /// Returns the limit of the hold, when there is one.
    pub(crate) fn hold(&self) -> Option<Duration> {
        self.table.hold.map(|hold| Duration::from_millis(hold.limit_millis))
    }

    /// Decides anew whether health is to be ignored; returns the new verdict when it changed.
    pub(crate) fn settle_fail_static(&self, percent: u32) -> Option<bool> {
        let all = self.upstreams.len();
        let bad = self.upstreams.iter().filter(|one| !one.is_usable()).count();
        let share = usize::try_from(percent).unwrap_or(usize::MAX);
        let verdict = bad * 100 > all.saturating_mul(share);
        let before = self.is_fail_static.swap(verdict, Ordering::Relaxed);
        (before != verdict).then_some(verdict)
    }

    fn names(&self, upstream: &Upstream) -> bool {
        self.upstreams.iter().any(|state| state.is(upstream))
    }
}

/// A release is a revision in a slot: the same revision prepared again in the other slots counts as
/// another one, an instance more or less does not.
fn is_another_release(before: &Table, after: &Table) -> bool {
    let uses = |table: &Table, slot| table.upstreams.iter().any(|one| one.slot == slot);
    let moved = !before.upstreams.is_empty()
        && !after.upstreams.is_empty()
        && SlotName::ALL.iter().all(|slot| !(uses(before, *slot) && uses(after, *slot)));
    before.revision != after.revision || moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(version: u64, digit: char, slot: SlotName, count: u16) -> Table {
        let upstreams = (1..=count)
            .map(|number| Upstream {
                instance: InstanceName::numbered(number),
                slot,
                address: SocketAddr::from(([127, 0, 0, 1], 8000 + number)),
                workers_max: 4,
            })
            .collect();
        let revision = String::from(digit).repeat(40).parse().unwrap();
        Table { version, revision: Some(revision), upstreams, hold: None }
    }

    fn since(routes: &Routes) -> u64 {
        routes.release.as_ref().map_or(0, |release| release.since_version)
    }

    #[test]
    fn a_release_begins_with_a_revision_or_with_the_other_slots() {
        let first = Routes::new(table(1, 'a', SlotName::Blue, 2), &[], &Routes::none(), None);
        let more = Routes::new(table(2, 'a', SlotName::Blue, 3), &[], &first, None);
        let moved = Routes::new(table(3, 'a', SlotName::Green, 3), &[], &more, None);
        let other = Routes::new(table(4, 'b', SlotName::Green, 3), &[], &moved, None);
        assert_eq!([since(&first), since(&more), since(&moved), since(&other)], [1, 1, 3, 4]);
    }

    #[test]
    fn health_is_ignored_when_more_than_half_looks_bad() {
        let routes = Routes::new(table(1, 'a', SlotName::Blue, 4), &[], &Routes::none(), None);
        for (bad, verdict) in [(1, None), (2, None), (3, Some(true)), (4, None)] {
            routes.upstreams[bad - 1].note_failure(1, 1);
            assert_eq!(routes.settle_fail_static(50), verdict, "{bad} bad");
        }
    }

    #[test]
    fn checks_need_several_in_a_row_to_change_the_verdict() {
        let routes = Routes::new(table(1, 'a', SlotName::Blue, 1), &[], &Routes::none(), None);
        let upstream = &routes.upstreams[0];
        let verdicts: Vec<_> = [false, true, false, false, false, true, true]
            .iter()
            .map(|succeeded| upstream.note_check(*succeeded, 2, 2))
            .collect();
        assert_eq!(verdicts, [None, None, None, Some(false), None, None, Some(true)]);
    }

    #[test]
    fn a_new_release_on_a_known_upstream_starts_healthy() {
        let first = Routes::new(table(1, 'a', SlotName::Blue, 1), &[], &Routes::none(), None);
        first.upstreams[0].note_failure(1, 1);
        let again = Routes::new(table(2, 'a', SlotName::Blue, 1), &first.upstreams, &first, None);
        assert!(!again.upstreams[0].is_usable());
        let next = Routes::new(table(3, 'b', SlotName::Blue, 1), &again.upstreams, &again, None);
        assert!(next.upstreams[0].is_usable());
    }
}

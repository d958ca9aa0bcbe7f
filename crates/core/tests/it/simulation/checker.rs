//! What the checker remembers of a run, and the promises about numbers that only rise.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::fleet::{Fleet, Release};
use flotilla_core::id::{DeployId, Generation, InstanceName, Revision};
use flotilla_core::report::Desired;
use flotilla_core::slot::Slots;
use flotilla_core::table::Table;

use super::balancer::Place;

/// What the checker remembers of the run.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// The first broken promise.
    pub(super) broken: Option<String>,
    /// The latest release change that a response has shown to a visitor.
    pub(super) era_shown: u64,
    pub(super) tables: BTreeMap<u64, (Table, u64)>,
    desired: BTreeMap<Generation, Desired>,
    /// When the balancer took a slot out of its table.
    pub(super) left_at: BTreeMap<Place, u64>,
    /// When a revision was last asked for by a request.
    pub(super) served_at: BTreeMap<Revision, u64>,
    seen: BTreeMap<InstanceName, Generation>,
    /// When an instance came into the inventory; a name may come again.
    pub(super) joined_at: BTreeMap<InstanceName, u64>,
    /// What the colours held when a deploy began.
    pub(super) before: BTreeMap<DeployId, Slots<Option<Release>>>,
    /// What happened at all, so that a test can tell that the run was not empty.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl Checker {
    pub(super) fn fail(&mut self, promise: &str, detail: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(format!("broken promise: {promise}: {}", detail()));
        }
    }

    pub(super) fn hold_true(
        &mut self,
        promise: &str,
        is_kept: bool,
        detail: impl FnOnce() -> String,
    ) {
        if !is_kept {
            self.fail(promise, detail);
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Returns how often the foreman had decided to change the release when it made a table.
    pub(super) fn era(&self, version: u64) -> u64 {
        self.tables.get(&version).map_or(0, |(_, era)| *era)
    }

    pub(super) fn shown(&mut self, era: u64) {
        self.era_shown = self.era_shown.max(era);
    }

    pub(super) fn forget_agent(&mut self, name: &InstanceName) {
        self.seen.remove(name);
    }

    pub(super) fn generations_rise(
        &mut self,
        name: &InstanceName,
        before: Generation,
        after: Generation,
    ) {
        let known = self.seen.insert(name.clone(), after).unwrap_or_default().max(before);
        self.hold_true("generations only rise at an agent", after >= known, || {
            format!("{name} went from {known} to {after}")
        });
    }

    pub(super) fn table_replaced(&mut self, before: &Table, after: &Table, now: u64) {
        self.hold_true(
            "table versions only rise at the balancer",
            after.version > before.version,
            || format!("from {} to {}", before.version, after.version),
        );
        for place in places(after) {
            self.left_at.remove(&place);
        }
        let stays: BTreeSet<Place> = places(after).collect();
        for place in places(before).filter(|place| !stays.contains(place)) {
            self.left_at.insert(place, now);
        }
    }

    pub(super) fn learn(&mut self, former: &Fleet, next: &Fleet) {
        let desired = next.desired();
        let known = self.desired.entry(next.generation).or_insert_with(|| desired.clone()).clone();
        self.hold_true("a generation means one desired state", known == desired, || {
            format!("{known:?} and {desired:?}")
        });
        self.hold_true(
            "generations and versions only rise in the document",
            next.generation >= former.generation && next.table.version >= former.table.version,
            || format!("{former:?} to {next:?}"),
        );
        if let Some(deploy) = &next.deploy {
            self.before.entry(deploy.request.id).or_insert_with(|| next.releases.clone());
        }
        let is_change = next.table.revision != former.table.revision;
        let era = self.era(former.table.version) + u64::from(is_change);
        let entry = self.tables.entry(next.table.version);
        let known = entry.or_insert_with(|| (next.table.clone(), era)).0.clone();
        self.hold_true("a version means one table", known == next.table, || {
            format!("{known:?} and {:?}", next.table)
        });
    }
}

pub(super) fn places(table: &Table) -> impl Iterator<Item = Place> {
    table.upstreams.iter().map(|one| Place { instance: one.instance.clone(), slot: one.slot })
}

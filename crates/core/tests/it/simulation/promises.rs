//! The promises of a deploy, checked at every event they speak about.

use std::time::Duration;

use flotilla_core::deploy::{HoldMode, Outcome, Phase, Request};
use flotilla_core::fleet::{Fleet, Member};
use flotilla_core::id::{InstanceName, Millis};
use flotilla_core::plan::{Event as Milestone, UPGRADE_END_LIMIT};
use flotilla_core::slot::SlotName;
use flotilla_core::table::Table;

use super::balancer::{Exchange, Place};
use super::checker::places;
use super::site::db_version;
use super::world::{Way, World};

impl World {
    pub(super) fn check_table(&mut self, table: &Table) {
        let is_stored = self.checker.tables.get(&table.version).is_some_and(|one| one.0 == *table);
        self.checker
            .hold_true("a table is stored before it is sent", is_stored, || format!("{table:?}"));
    }

    pub(super) fn check_commit(&mut self, next: &Fleet, milestones: &[Milestone]) {
        let former = self.foreman.store.fleet.clone();
        self.checker.learn(&former, next);
        for name in next.instances.keys().filter(|name| !former.instances.contains_key(*name)) {
            self.checker.joined_at.insert(name.clone(), self.now);
        }
        let has_active = next.instances.values().any(|member| *member == Member::Active);
        let is_emptied = next.table.upstreams.is_empty() && !former.table.upstreams.is_empty();
        self.checker.hold_true("the table is never emptied", !is_emptied || !has_active, || {
            format!("{:?} to {:?}", former.table, next.table)
        });
        if let (Some(before), Some(after)) = (&former.deploy, &next.deploy)
            && before.request.id != after.request.id
        {
            let has_ended = milestones.iter().any(
                |one| matches!(one, Milestone::Ended(request, ..) if request.id == before.request.id),
            );
            self.checker.hold_true("one deploy at a time", has_ended, || {
                format!("{} took the place of {}", after.request.id, before.request.id)
            });
        }
        if next.serving != former.serving && next.table.revision != former.table.revision {
            self.check_swap(next);
        }
        self.check_kept(&former, next);
        for milestone in milestones {
            if let Milestone::Ended(request, outcome, cut_over_at) = milestone {
                self.check_outcome(&former, next, (request, outcome), cut_over_at.is_some());
            }
            if let Milestone::Left(name) = milestone {
                self.check_left(name);
            }
        }
    }

    /// An instance that serves is taken out of the table only when it has told so itself.
    fn check_kept(&mut self, former: &Fleet, next: &Fleet) {
        if next.table.revision != former.table.revision || next.serving != former.serving {
            return;
        }
        let has_spoken = |name: &InstanceName| self.foreman.observed.reports.contains_key(name);
        let is_serving = |place: &Place| {
            self.agents.get(&place.instance).is_some_and(|agent| {
                let slot = agent.slots.get(place.slot);
                slot.is_up && slot.mark == next.table.revision
            })
        };
        let lost = places(&former.table)
            .filter(|place| next.instances.get(&place.instance) == Some(&Member::Active))
            .filter(|place| !next.table.has(&place.instance))
            .find(|place| is_serving(place) && !has_spoken(&place.instance));
        self.checker.hold_true("a silent instance keeps its place", lost.is_none(), || {
            format!("{lost:?} is not in {:?}", next.table)
        });
    }

    /// Whoever had the time to tell that it is ready is part of a swap.
    fn check_swap(&mut self, next: &Fleet) {
        let time = u64::try_from(self.policy.lease.as_millis()).expect("seconds") + 800;
        let now = self.now;
        let had_time = |at: u64| now >= at + time;
        let is_connected = |name: &InstanceName| {
            [Way::AgentToForeman(name.clone()), Way::ForemanToAgent(name.clone())]
                .iter()
                .all(|way| self.cuts.get(way).is_none_or(|until| had_time(*until)))
        };
        let left_behind = self
            .agents
            .iter()
            .filter(|(name, _)| next.instances.get(*name) == Some(&Member::Active))
            .filter(|(name, agent)| {
                let slot = agent.slots.get(next.serving);
                agent.is_running
                    && slot.is_up
                    && slot.mark == next.table.revision
                    && had_time(slot.ready_since)
                    && self.checker.joined_at.get(*name).is_none_or(|at| had_time(*at))
                    && is_connected(name)
                    && !self.foreman.is_overtaken(name)
            })
            .find(|(name, _)| !next.table.has(name))
            .map(|(name, _)| name.clone());
        self.checker.hold_true(
            "no ready instance is left behind in a swap",
            left_behind.is_none(),
            || format!("{left_behind:?} is not in {:?}", next.table),
        );
    }

    fn check_outcome(
        &mut self,
        former: &Fleet,
        next: &Fleet,
        (request, outcome): (&Request, &Outcome),
        was_cut_over: bool,
    ) {
        let started_at = former.deploy.as_ref().map(|one| (one.request.id, one.started_at.0));
        let started_at = started_at.filter(|(id, _)| *id == request.id).map(|(_, at)| at);
        if !matches!(outcome, Outcome::Failed { .. }) || was_cut_over {
            return;
        }
        self.check_database_is_known(former, next, outcome);
        let served_at = self.checker.served_at.get(&request.release.revision).copied();
        // A release that is deployed once more serves all the time from the other colour.
        let is_again = former.serving_release() == Some(&request.release);
        let was_served =
            !is_again && matches!((started_at, served_at), (Some(start), Some(at)) if at > start);
        self.checker.hold_true("a deploy that failed was never served", !was_served, || {
            format!("{request:?} ended with {outcome:?}")
        });
        let Some(before) = self.checker.before.get(&request.id).cloned() else { return };
        self.checker.hold_true(
            "a deploy that failed gives the slot back",
            before == next.releases,
            || format!("{before:?} before, {:?} after {request:?}", next.releases),
        );
    }

    /// Whoever gives up an upgrade knows what it did, or says that nobody does.
    fn check_database_is_known(&mut self, former: &Fleet, next: &Fleet, outcome: &Outcome) {
        let was_upgrading =
            former.deploy.as_ref().is_some_and(|deploy| deploy.phase == Phase::Upgrading);
        let Outcome::Failed { reason } = outcome else { return };
        let is_told = reason.contains("not known") || reason.contains("may be upgraded");
        if !was_upgrading || is_told {
            return;
        }
        let of_code = next.serving_release().and_then(|release| release.db_version);
        let known = of_code.max(next.db_version).unwrap_or(0);
        let version = self.database.version;
        self.checker.hold_true("an upgrade that is given up is known", known >= version, || {
            format!("database version {version}, and the document knows {known}: {reason}")
        });
    }

    fn check_left(&mut self, name: &InstanceName) {
        let is_used = self.balancer.table.has(name);
        let promise = "nobody leaves while in the table";
        self.checker.hold_true(promise, !is_used, || name.to_string());
        let bound = self.policy.drain_timeout / 2;
        for slot in SlotName::ALL {
            let caught = self.caught(&Place { instance: name.clone(), slot }, bound);
            self.checker.hold_true(
                "an instance leaves only after its last request",
                caught.is_none(),
                || format!("{caught:?} still runs on {name}"),
            );
        }
    }

    /// Returns a request that runs on a place which the balancer took out of its table less than
    /// the bound ago.
    fn caught(&mut self, place: &Place, bound: Duration) -> Option<Exchange> {
        let bound = u64::try_from(bound.as_millis()).expect("seconds");
        let is_over = self.checker.left_at.get(place).is_some_and(|at| self.now >= at + bound);
        let mut requests = self.requests.values();
        let caught = requests.find(|one| !one.is_orphan && one.place.as_ref() == Some(place));
        if caught.is_some() && is_over {
            self.checker.count("cut off after the drain timeout");
            return None;
        }
        caught.cloned()
    }

    /// Checked while the foreman runs: nothing is waited for without end.
    pub(super) fn check_phase_bounds(&mut self, since: Millis) {
        let Some(deploy) = &self.foreman.store.fleet.deploy else { return };
        let policy = &self.policy;
        let bound = match deploy.phase {
            Phase::Draining => policy.prepare_timeout.max(policy.drain_timeout),
            Phase::Preparing => policy.prepare_timeout,
            Phase::Holding => policy.hold_limit / 2,
            Phase::Upgrading => policy.hold_limit + UPGRADE_END_LIMIT,
            Phase::CuttingOver | Phase::Verifying { .. } | Phase::SwappingBack { .. } => return,
        };
        let waited = Millis(self.now).since(deploy.phase_since);
        // A foreman that has just started listens for one lease first.
        let is_fresh = Millis(self.now).since(since) <= policy.lease + Duration::from_millis(200);
        let detail = format!("deploy {} is {}", deploy.request.id, deploy.phase.as_str());
        let is_kept = is_fresh || waited <= bound + Duration::from_millis(200);
        self.checker.hold_true("every phase before the cutover is bounded", is_kept, || {
            format!("{detail} for {waited:?}")
        });
    }

    /// Checked after the foreman has planned: whoever was not heard of for a lease is not waited for.
    pub(super) fn check_waits(&mut self) {
        let (fleet, observed) = (&self.foreman.store.fleet, &self.foreman.observed);
        let now = Millis(self.now);
        let is_confirmed =
            observed.balancer.as_ref().is_some_and(|one| one.version == fleet.table.version);
        let stays = fleet.instances.iter().find(|(name, member)| match member {
            Member::Active => false,
            Member::Leaving { since } => {
                is_confirmed
                    && !fleet.table.has(name)
                    && now.since(*since) > self.policy.drain_timeout
            }
        });
        self.checker.hold_true("leaving is bounded", stays.is_none(), || format!("{stays:?}"));
        let Some(deploy) = &fleet.deploy else { return };
        if deploy.phase != Phase::Preparing || now.since(observed.since) <= self.policy.lease {
            return;
        }
        let is_active = |name: &InstanceName| fleet.instances.get(name) == Some(&Member::Active);
        let mut live = observed
            .reports
            .iter()
            .filter(|(name, seen)| is_active(name) && now.since(seen.at) <= self.policy.lease)
            .map(|(_, seen)| {
                let slot = seen.report.slots.get(deploy.slot);
                slot.is_ready
                    && slot.revision.as_ref() == Some(&deploy.request.release.revision)
                    && seen.report.generation == fleet.generation
            })
            .peekable();
        let waits_for_nobody = live.peek().is_some() && live.all(|is_ready| is_ready);
        let detail = format!("{deploy:?} of {:?}", observed.reports);
        self.checker.hold_true(
            "a deploy does not wait for the silent ones",
            !waits_for_nobody,
            || detail,
        );
    }

    /// Checked when a request is handed to an upstream.
    pub(super) fn check_served(&mut self, request: &Exchange, place: &Place, is_whole: bool) {
        self.checker.count("served");
        let checker = &mut self.checker;
        checker.hold_true("a request is served by the table's revision", is_whole, || {
            format!("{place:?} was asked for {:?}", request.revision)
        });
        checker.hold_true(
            "nobody gets the old release after the new one has answered",
            request.era >= request.era_before,
            || format!("{request:?}"),
        );
        let Some(revision) = &request.revision else { return };
        checker.served_at.insert(revision.clone(), self.now);
        let needed = db_version(revision).unwrap_or(0);
        let version = self.database.version;
        checker.hold_true("new code waits for its database", version >= needed, || {
            format!("{request:?} on database version {version}")
        });
        let is_locked = self.database.locked_until > self.now;
        let is_upgrading =
            (self.database.running.is_some() || is_locked) && self.policy.hold != HoldMode::Never;
        checker.hold_true(
            "no PHP request runs while the database is upgraded under hold",
            !(is_upgrading && request.is_php),
            || format!("{request:?} began during the upgrade"),
        );
    }

    pub(super) fn check_upgrade_begins(&mut self) {
        self.checker.count("upgrade");
        if self.policy.hold == HoldMode::Never {
            return;
        }
        // What a dead balancer has left behind nobody counts any more.
        let busy = self
            .requests
            .values()
            .find(|one| one.is_php && one.place.is_some() && !one.is_orphan)
            .cloned();
        self.checker.hold_true(
            "no PHP request runs while the database is upgraded under hold",
            busy.is_none(),
            || format!("{busy:?} runs when the upgrade begins"),
        );
    }

    /// Checked before the first change to a slot.
    pub(super) fn check_change(&mut self, name: &InstanceName, slot: SlotName) {
        let Some(agent) = self.agents.get(name) else { return };
        let place = Place { instance: name.clone(), slot };
        let is_used = places(&self.balancer.table).any(|one| one == place);
        let is_verified = agent.slots.get(slot).mark.is_some();
        self.checker.hold_true(
            "a slot is never changed while the balancer's table has it",
            !(is_used && is_verified),
            || format!("{place:?} in {:?}", self.balancer.table),
        );
        let caught = self.caught(&place, self.policy.drain_timeout);
        self.checker.hold_true(
            "a slot is changed only after its last request",
            caught.is_none(),
            || format!("{caught:?} still runs"),
        );
    }
}

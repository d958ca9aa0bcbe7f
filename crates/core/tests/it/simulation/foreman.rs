//! The foreman's shell around the planner: it stores, then acts, and may die in between.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::deploy::{Cause, Outcome, Phase, Request};
use flotilla_core::fleet::{Accepted, Fleet, Member, Release};
use flotilla_core::id::{DeployId, InstanceName, Millis, Revision};
use flotilla_core::plan::{Effect, Event as Milestone, Observed, Seen, Upgraded, plan};
use flotilla_core::report::AgentReport;
use flotilla_core::table::BalancerStatus;

use super::site::{Quality, db_version, quality};
use super::world::{Event, Message, Upgrade, Way, World};

const TICK: u64 = 100;
/// An answer may come this late, and be overtaken by others.
const CALL_TIMEOUT: u64 = 1_500;
/// More steps than this in a row mean that the planner does not come to rest.
const STEPS_MAX: usize = 16;

/// What is on the foreman's disk; one transaction replaces it.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) fleet: Fleet,
    pub(super) accepted: BTreeSet<DeployId>,
    pub(super) outcomes: BTreeMap<DeployId, (Request, Outcome)>,
}

#[derive(Debug, Default)]
pub(super) struct Foreman {
    boot: u64,
    is_running: bool,
    pub(super) store: Store,
    pub(super) observed: Observed,
    /// Calls to the balancer that were not answered yet, and when they were made.
    calls: BTreeMap<u64, u64>,
    pushed_at: u64,
    answered_at: u64,
    smoke_runs: Option<DeployId>,
    /// The last process of each agent that asked, and waits for news.
    polls: BTreeMap<InstanceName, u64>,
    /// The report of each agent that came last, and the newest one that came.
    newest: BTreeMap<InstanceName, (u64, u64)>,
}

impl Foreman {
    /// Whether an older report came after a newer one; the next one puts it right.
    pub(super) fn is_overtaken(&self, name: &InstanceName) -> bool {
        self.newest.get(name).is_some_and(|(last, newest)| last < newest)
    }

    pub(super) const fn is_running(&self) -> bool {
        self.is_running
    }
}

impl World {
    pub(super) fn foreman_boots(&mut self) {
        if self.foreman.is_running {
            return;
        }
        let store = std::mem::take(&mut self.foreman.store);
        let boot = self.number();
        let observed = Observed { since: Millis(self.now), ..Observed::default() };
        self.foreman = Foreman { boot, is_running: true, store, observed, ..Foreman::default() };
        self.after(1, Event::ForemanTick { boot });
    }

    /// All memory is lost. An upgrade without its foreman begins no further statement; the one that
    /// runs may end, and nobody else upgrades before that.
    pub(super) fn foreman_crashes(&mut self) {
        self.foreman.is_running = false;
        if let Some(upgrade) = self.database.running.take()
            && self.random.chance(300)
        {
            let delay = self.random.between(1, 1_500);
            self.database.locked_until = self.now + delay;
            self.after(delay, Event::OrphanEnds { version: upgrade.version });
        }
        let delay = if self.random.chance(200) {
            self.random.between(500, 9_000)
        } else {
            self.random.between(20, 400)
        };
        self.after(delay, Event::ForemanBoot);
        self.note(|| "the foreman crashes".to_owned());
    }

    /// The places where a crash hurts most.
    fn foreman_may_crash(&mut self, per_mille: u64) -> bool {
        let crashes = self.has_faults() && self.random.chance(per_mille);
        if crashes {
            self.foreman_crashes();
        }
        crashes
    }

    pub(super) fn foreman_ticks(&mut self, boot: u64) {
        if self.foreman.boot != boot || !self.foreman.is_running {
            return;
        }
        let now = self.now;
        self.foreman.calls.retain(|_, made_at| now - *made_at < CALL_TIMEOUT);
        if now - self.foreman.answered_at > CALL_TIMEOUT {
            self.foreman.observed.balancer = None;
        }
        let call = self.open_call();
        self.send(&Way::ForemanToBalancer, Message::Poll { boot, call });
        self.reconcile_machines();
        self.work();
        if self.foreman.is_running {
            self.check_phase_bounds(self.foreman.observed.since);
            self.check_waits();
        }
        self.after(TICK, Event::ForemanTick { boot });
    }

    fn open_call(&mut self) -> u64 {
        let call = self.number();
        self.foreman.calls.insert(call, self.now);
        call
    }

    pub(super) fn foreman_learns(&mut self, boot: u64, call: u64, status: BalancerStatus) {
        let foreman = &mut self.foreman;
        if foreman.boot != boot || !foreman.is_running || foreman.calls.remove(&call).is_none() {
            return;
        }
        foreman.observed.balancer = Some(status);
        foreman.answered_at = self.now;
        self.work();
    }

    pub(super) fn foreman_hears(
        &mut self,
        machine: u64,
        (life, serial): (u64, u64),
        report: AgentReport,
    ) {
        let name = report.instance.clone();
        let is_known = self.agents.get(&name).is_some_and(|agent| agent.machine == machine)
            && self.foreman.store.fleet.instances.contains_key(&name);
        if !self.foreman.is_running || !is_known {
            return;
        }
        let newest = self.foreman.newest.entry(name.clone()).or_default();
        *newest = (serial, serial.max(newest.1));
        let seen = Seen { report, at: Millis(self.now) };
        self.foreman.observed.reports.insert(name.clone(), seen);
        if self.random.chance(300) {
            self.work();
        }
        if self.foreman.is_running {
            self.foreman.polls.insert(name.clone(), life);
            let desired = self.foreman.store.fleet.desired();
            let message = Message::Desired { name: name.clone(), life, desired };
            self.send(&Way::ForemanToAgent(name), message);
        }
    }

    fn work(&mut self) {
        for _ in 0..STEPS_MAX {
            self.foreman.observed.now = Millis(self.now);
            let step = plan(&self.foreman.store.fleet, &self.foreman.observed, &self.policy);
            let is_done = step.next.is_none();
            if let Some(next) = step.next {
                if self.foreman_may_crash(15) {
                    return;
                }
                self.commit(next, &step.events);
                if self.foreman_may_crash(25) {
                    return;
                }
            }
            for effect in step.effects {
                self.perform(&effect);
                if self.foreman_may_crash(3) {
                    return;
                }
            }
            if is_done {
                return;
            }
        }
        self.checker
            .fail("the planner comes to rest", || "it changes the document without end".into());
    }

    /// Stores the document and the outcomes in one transaction.
    fn commit(&mut self, next: Fleet, milestones: &[Milestone]) {
        self.note(|| {
            let deploy = next.deploy.as_ref();
            format!(
                "stored: generation {}, {} serves, releases {:?}, deploy {:?}, table {:?}, {milestones:?}",
                next.generation,
                next.serving,
                next.desired().revisions,
                deploy.map(|one| (one.request.id, one.phase.as_str())),
                next.table,
            )
        });
        self.check_commit(&next, milestones);
        for milestone in milestones {
            match milestone {
                Milestone::Ended(request, outcome, _) => {
                    self.record(request.clone(), outcome.clone());
                }
                Milestone::Left(name) => {
                    self.foreman.observed.reports.remove(name);
                }
                Milestone::Entered(..) => {}
            }
        }
        let is_news = next.generation > self.foreman.store.fleet.generation;
        self.foreman.store.fleet = next;
        self.end_upgrade_without_phase();
        if is_news {
            self.answer_polls();
        }
    }

    /// Agents that ask with patience are answered when there is news.
    fn answer_polls(&mut self) {
        let desired = self.foreman.store.fleet.desired();
        for (name, life) in std::mem::take(&mut self.foreman.polls) {
            let message = Message::Desired { name: name.clone(), life, desired: desired.clone() };
            self.send(&Way::ForemanToAgent(name), message);
        }
    }

    fn record(&mut self, request: Request, outcome: Outcome) {
        let id = request.id;
        let is_accepted = self.foreman.store.accepted.contains(&id);
        self.checker.count(outcome.as_str());
        let former = self.foreman.store.outcomes.insert(id, (request, outcome));
        if former.is_some() || !is_accepted {
            self.checker.fail("every accepted request ends with one outcome", || {
                format!("deploy {id} has ended before with {former:?}, accepted: {is_accepted}")
            });
        }
    }

    /// The shell's contract: an upgrade that its phase no longer asks for is ended.
    fn end_upgrade_without_phase(&mut self) {
        let deploy = self.foreman.store.fleet.deploy.as_ref();
        let upgrading = deploy
            .filter(|deploy| deploy.phase == Phase::Upgrading)
            .map(|deploy| deploy.request.id);
        if self.database.running.is_some_and(|one| Some(one.id) != upgrading) {
            self.end_upgrade();
        }
    }

    /// Kills the upgrade that runs; then somebody looks what came of it.
    fn end_upgrade(&mut self) {
        let run = self.number();
        let delay = self.random.between(20, 1_500);
        if let Some(upgrade) = &mut self.database.running
            && !upgrade.is_ending
        {
            *upgrade = Upgrade { run, is_ending: true, ..*upgrade };
            self.after(delay, Event::UpgradeEnds { run, is_cut: true });
        }
    }

    fn begin_upgrade(&mut self, id: DeployId, revision: &Revision, until: Millis) {
        if let Some(running) = self.database.running {
            if running.id != id || until.0 <= self.now {
                self.end_upgrade();
            }
            return;
        }
        let (run, version) = (self.number(), db_version(revision).unwrap_or(0));
        self.database.running = Some(Upgrade { run, id, version, is_ending: false });
        self.check_upgrade_begins();
        let is_endless = self.has_faults() && self.random.chance(50);
        let delay = if is_endless { 60_000 } else { self.random.between(50, 1_500) };
        let ends_at = self.now.max(self.database.locked_until) + delay;
        let is_cut = ends_at > until.0;
        let ends_at = if is_cut {
            until.0.max(self.now).max(self.database.locked_until) + self.random.between(20, 1_500)
        } else {
            ends_at
        };
        self.after(ends_at - self.now, Event::UpgradeEnds { run, is_cut });
    }

    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::AdoptTable => {
                let table = self.balancer.table.clone();
                self.checker
                    .fail("the balancer has no table that was not stored", || format!("{table:?}"));
            }
            Effect::PushTable => {
                if self.now - self.foreman.pushed_at < 300 {
                    return;
                }
                self.foreman.pushed_at = self.now;
                let (boot, call) = (self.foreman.boot, self.open_call());
                let table = self.foreman.store.fleet.table.clone();
                self.send(&Way::ForemanToBalancer, Message::Push { boot, call, table });
            }
            // A check-out ahead of time changes nothing that anybody sees.
            Effect::ReadyUpgrade(_) => {}
            Effect::UpgradeDatabase(id, revision, until) => {
                self.begin_upgrade(*id, revision, *until);
            }
            Effect::RunSmoke(id) => {
                let id = *id;
                if self.foreman.smoke_runs == Some(id) {
                    return;
                }
                self.foreman.smoke_runs = Some(id);
                let delay = self.random.between(50, 500);
                self.after(delay, Event::SmokeEnds { boot: self.foreman.boot, id });
            }
        }
    }

    /// What was killed may have done its work just before; what failed, too.
    pub(super) fn upgrade_ends(&mut self, run: u64, is_cut: bool) {
        let Some(upgrade) = self.database.running.filter(|one| one.run == run) else { return };
        self.database.running = None;
        let often = if self.is_stubborn { 700 } else { 100 };
        let is_failed = is_cut || self.has_faults() && self.random.chance(often);
        if !is_failed || self.random.chance(200) {
            self.database.version = self.database.version.max(upgrade.version);
        }
        let is_silent = is_failed && self.has_faults() && self.random.chance(100);
        let upgraded = Upgraded {
            outcome: if is_failed { Err("it ended with 255".to_owned()) } else { Ok(()) },
            database: (!is_silent).then_some(self.database.version),
        };
        let mut next = self.foreman.store.fleet.clone();
        if next.learn_database(upgraded.database) {
            self.commit(next, &[]);
        }
        self.foreman.observed.upgrade = Some((upgrade.id, upgraded));
        if !self.foreman_may_crash(30) {
            self.work();
        }
    }

    pub(super) fn smoke_ends(&mut self, boot: u64, id: DeployId) {
        if self.foreman.boot != boot || !self.foreman.is_running {
            return;
        }
        let is_unlucky = self.random.chance(300);
        let serving = self.foreman.store.fleet.serving_release();
        let is_broken = serving.is_some_and(|one| quality(&one.revision) == Quality::Broken);
        let outcome = if !self.balancer.is_running || is_broken && is_unlucky {
            Err("the front page was answered 500".to_owned())
        } else {
            Ok(())
        };
        self.foreman.observed.smoke = Some((id, outcome));
        self.work();
    }

    /// Somebody asks for a deploy; the answer and the document are one transaction.
    pub(super) fn ask(&mut self, release: Release, cause: Cause, is_forced: bool, waits: bool) {
        if !self.foreman.is_running || self.foreman_may_crash(30) {
            return;
        }
        let mut store = self.foreman.store.clone();
        let id = DeployId(store.fleet.last_deploy.0 + 1);
        store.fleet.last_deploy = id;
        let now = Millis(self.now);
        let author = "maria".to_owned();
        let request = Request { id, release, cause, author, requested_at: now, is_forced, waits };
        self.note(|| format!("asked for {request:?}"));
        let Ok(accepted) = store.fleet.request(request, now) else { return };
        store.accepted.insert(id);
        self.check_commit(&store.fleet, &[]);
        self.foreman.store = store;
        if let Accepted::Queued { superseded: Some(former), .. } = accepted {
            self.record(former, Outcome::Superseded { reason: format!("deploy {id}") });
        }
        if !self.foreman_may_crash(30) {
            self.work();
        }
    }

    pub(super) fn call_off(&mut self) {
        if !self.foreman.is_running || self.foreman_may_crash(30) {
            return;
        }
        let mut next = self.foreman.store.fleet.clone();
        let is_forced = self.random.chance(100);
        if let Ok(Some(called_off)) = next.call_off("maria", is_forced) {
            self.note(|| "called off".to_owned());
            self.checker.count("called off");
            self.commit(next, &[]);
            if let Some(waiting) = called_off.waiting {
                self.record(waiting, Outcome::Superseded { reason: "called off".to_owned() });
            }
        }
    }

    pub(super) fn resize(&mut self, count: u16) {
        if !self.foreman.is_running {
            return;
        }
        let mut next = self.foreman.store.fleet.clone();
        if next.resize(count, Millis(self.now)) {
            self.note(|| format!("resized to {count}"));
            self.commit(next, &[]);
            if !self.foreman_may_crash(30) {
                self.work();
            }
        }
    }

    /// The target: machines follow the inventory.
    fn reconcile_machines(&mut self) {
        let inventory = self.foreman.store.fleet.instances.clone();
        let gone: Vec<InstanceName> =
            self.agents.keys().filter(|name| !inventory.contains_key(*name)).cloned().collect();
        for name in gone {
            self.agents.remove(&name);
            self.abort_requests(&name);
        }
        for (name, member) in inventory {
            if member == Member::Active && !self.agents.contains_key(&name) {
                self.add_machine(name);
            }
        }
    }

    /// What is not at rest yet.
    pub(super) fn unrest(&self) -> Option<String> {
        let fleet = &self.foreman.store.fleet;
        if let Some(deploy) = &fleet.deploy {
            return Some(format!("deploy {} is {}", deploy.request.id, deploy.phase.as_str()));
        }
        if fleet.queued.is_some() {
            return Some("a deploy waits".to_owned());
        }
        if fleet.instances.values().any(|member| *member != Member::Active) {
            return Some("an instance is leaving".to_owned());
        }
        if self.balancer.table != fleet.table {
            return Some(format!("the balancer follows {:?}", self.balancer.table));
        }
        let in_table: Vec<&InstanceName> =
            fleet.table.upstreams.iter().map(|one| &one.instance).collect();
        let release = fleet.serving_release()?;
        if in_table != fleet.instances.keys().collect::<Vec<_>>() {
            return Some(format!("the table has {in_table:?}"));
        }
        let is_held = |name: &InstanceName| {
            self.agents.get(name).is_some_and(|agent| {
                agent.slots.get(fleet.serving).mark.as_ref() == Some(&release.revision)
            })
        };
        if let Some(name) = fleet.instances.keys().find(|name| !is_held(name)) {
            return Some(format!("{name} does not hold {}", release.revision));
        }
        let store = &self.foreman.store;
        let open = store.accepted.iter().find(|id| !store.outcomes.contains_key(id));
        open.map(|id| format!("deploy {id} has no outcome"))
    }
}

//! The planner: from the fleet's document and what was observed to the next document.
//!
//! Level-triggered and pure. It may be called at any time and any number of times; the shell stores
//! the document it returns before it does any of the effects, and every effect may be repeated.
//! What it guards: a slot is changed only after the balancer has confirmed a table without it; all
//! upstreams of a table run one revision; table versions and generations only rise.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::deploy::{Deploy, HoldMode, LeftOut, Outcome, Phase, Policy, Request};
use crate::fleet::{Fleet, Member};
use crate::id::{DeployId, InstanceName, Millis, Revision};
use crate::report::AgentReport;
use crate::slot::SlotName;
use crate::table::{BalancerStatus, Hold, Table, Upstream};

/// How long a release is watched when another deploy waits behind it.
const VERIFY_WINDOW_HURRIED: Duration = Duration::from_secs(1);

/// A new release's errors are judged only after so many requests, answered or not: a release that
/// answers nobody must be found out, too.
pub const REQUESTS_TO_JUDGE_MIN: u64 = 20;
/// After this long, a hold goes on when PHP is idle even if slow downloads still run.
const HOLD_DOWNLOADS_AFTER: Duration = Duration::from_secs(2);
/// A request waits a little longer at the balancer than a deploy holds: it shall see the end of the
/// hold, not an error.
const HOLD_MARGIN: Duration = Duration::from_secs(10);
/// How long the shell may take, after the time of a database upgrade is up, to end it and to read
/// what version the database has.
pub const UPGRADE_END_LIMIT: Duration = Duration::from_secs(8);
const WORKERS_MAX_UNKNOWN: u16 = 1;
/// Makes up for what a fraction loses as a binary number: 0.29 of 100 instances are 29.
const ROUNDING: f64 = 1e-9;

/// The newest report of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it said.
    pub report: AgentReport,
    /// When it was received.
    pub at: Millis,
}

/// Everything the planner looks at besides the document.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The time.
    pub now: Millis,
    /// When this foreman began to observe; before one lease has passed, silence means nothing.
    pub since: Millis,
    /// The newest report of each agent.
    pub reports: BTreeMap<InstanceName, Seen>,
    /// What the balancer says; `None` when it does not answer.
    pub balancer: Option<BalancerStatus>,
    /// How the database upgrade for this deploy went, once it has ended.
    pub upgrade: Option<(DeployId, Upgraded)>,
    /// How the smoke requests for this deploy went, once they have ended.
    pub smoke: Option<(DeployId, Result<(), String>)>,
}

/// How a database upgrade ended. It is told when nothing of it runs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// What went wrong, if anything.
    pub outcome: Result<(), String>,
    /// The version that the database has now; `None` when it could not be read.
    pub database: Option<u64>,
}

/// Something for the shell to do; doing it again does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send the document's table to the balancer.
    PushTable,
    /// Take over the balancer's table, which is newer than the document: nothing else is decided
    /// before that.
    AdoptTable,
    /// Check this revision out where the database is upgraded, so that the upgrade need not wait for it.
    ReadyUpgrade(Revision),
    /// Upgrade the database with the code of this revision until a point in time, which may come
    /// nearer while it runs and may be over already; then end it. Either way, tell what version the
    /// database has. An upgrade that is not asked for any more is ended likewise.
    UpgradeDatabase(DeployId, Revision, Millis),
    /// Ask for the smoke URLs through the balancer.
    RunSmoke(DeployId),
}

/// A milestone, to be logged and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A deploy entered a phase.
    Entered(DeployId, Phase),
    /// A deploy is over.
    Ended(Request, Outcome, Option<Millis>),
    /// An instance has no requests any more and is out of the inventory.
    Left(InstanceName),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The document to store, when it changes.
    pub next: Option<Fleet>,
    /// What to do once it is stored.
    pub effects: Vec<Effect>,
    /// What happened by storing it.
    pub events: Vec<Event>,
}

/// Decides the next step. Callers repeat until [`Plan::next`] is `None`.
#[must_use]
pub fn plan(fleet: &Fleet, observed: &Observed, policy: &Policy) -> Plan {
    if observed.balancer.as_ref().is_some_and(|status| status.version > fleet.table.version) {
        return Plan { effects: vec![Effect::AdoptTable], ..Plan::default() };
    }
    let mut step = Step { fleet: fleet.clone(), observed, policy, events: Vec::new() };
    for seen in observed.reports.values() {
        step.fleet.overtake(seen.report.generation);
    }
    step.advance_deploy();
    step.refresh_table();
    step.let_leave();
    step.start_queued();
    let effects = step.effects();
    let next = (step.fleet != *fleet).then_some(step.fleet);
    Plan { next, effects, events: step.events }
}

struct Step<'a> {
    fleet: Fleet,
    observed: &'a Observed,
    policy: &'a Policy,
    events: Vec<Event>,
}

/// How far the instances are with a release.
struct Tally {
    live: usize,
    ready: usize,
    errors: Vec<(InstanceName, String)>,
}

impl Tally {
    const fn pending(&self) -> usize {
        self.live - self.ready - self.errors.len()
    }

    fn reason(&self) -> String {
        match self.errors.first() {
            Some((instance, message)) => format!(
                "{} of {} instances could not prepare it; `{instance}`: {message}",
                self.errors.len(),
                self.live
            ),
            None => format!("{} of {} instances were ready in time", self.ready, self.live),
        }
    }
}

impl Step<'_> {
    fn advance_deploy(&mut self) {
        let Some(deploy) = self.fleet.deploy.clone() else { return };
        if let Some(reason) = &deploy.called_off
            && !deploy.phase.may_have_upgraded()
        {
            return self.fail(&deploy, reason.clone());
        }
        match &deploy.phase {
            Phase::Draining => self.drain(&deploy),
            Phase::Preparing => self.prepare(&deploy),
            Phase::Holding => self.hold(&deploy),
            Phase::Upgrading => self.upgrade(&deploy),
            Phase::CuttingOver => self.confirm_cutover(&deploy),
            Phase::Verifying { .. } => self.verify(&deploy),
            Phase::SwappingBack { reason } => {
                if self.is_confirmed() {
                    self.end(&deploy, Outcome::SwappedBack { reason: reason.clone() });
                }
            }
        }
    }

    fn drain(&mut self, deploy: &Deploy) {
        let waited = self.waited(deploy);
        let holds_it_already =
            self.fleet.releases.get(deploy.slot).as_ref() == Some(&deploy.request.release);
        if holds_it_already {
            self.enter(deploy, Phase::Preparing);
        } else if !self.is_confirmed() {
            if waited > self.policy.prepare_timeout {
                self.fail(deploy, "the balancer does not confirm its upstream table".to_owned());
            }
        } else if self.in_flight(deploy.slot) == Some(0) || waited > self.policy.drain_timeout {
            self.fleet.put(deploy.slot, Some(deploy.request.release.clone()));
            self.enter(deploy, Phase::Preparing);
        }
    }

    fn prepare(&mut self, deploy: &Deploy) {
        let tally = self.tally(deploy);
        let needed = needed(tally.live, self.policy.min_ready);
        let is_late = self.waited(deploy) > self.policy.prepare_timeout && self.has_listened();
        let is_hopeless = tally.live > 0 && tally.ready + tally.pending() < needed;
        if self.has_listened() && (is_hopeless || is_late && tally.ready < needed) {
            self.fail(deploy, tally.reason());
        } else if tally.ready >= needed && (is_late || tally.pending() == 0 && self.has_listened())
        {
            if self.needs_hold(deploy) {
                self.enter(deploy, Phase::Holding);
            } else if self.needs_upgrade(deploy) {
                self.enter(deploy, Phase::Upgrading);
            } else {
                self.cut_over(deploy);
            }
        }
    }

    fn hold(&mut self, deploy: &Deploy) {
        if self.waited(deploy) > self.policy.hold_limit / 2 {
            self.fail(
                deploy,
                "requests in flight did not end within half of the hold limit".to_owned(),
            );
        } else if self.is_confirmed() && self.is_quiet(deploy) {
            if self.needs_upgrade(deploy) {
                let since = deploy.phase_since;
                self.enter(deploy, Phase::Upgrading);
                if let Some(deploy) = &mut self.fleet.deploy {
                    deploy.phase_since = since;
                }
            } else {
                self.cut_over(deploy);
            }
        } else if self.is_confirmed() {
            self.ask_what_runs();
        }
    }

    /// Makes a generation whose reports are later than the hold.
    fn ask_what_runs(&mut self) {
        if let Some(deploy) = &mut self.fleet.deploy
            && deploy.held_in.is_none()
        {
            self.fleet.generation = self.fleet.generation.next();
            deploy.held_in = Some(self.fleet.generation);
        }
    }

    fn upgrade(&mut self, deploy: &Deploy) {
        let known = self.observed.upgrade.as_ref().filter(|(id, _)| *id == deploy.request.id);
        let Some((_, upgraded)) = known else {
            if self.is_upgrade_lost(deploy) {
                let reason = "the database upgrade did not end; the database may be upgraded";
                self.fail(deploy, reason.to_owned());
            }
            return;
        };
        // What counts is the database: an upgrade may have done its work before it was ended, and
        // then the old code must not go on with it.
        let is_newer = upgraded.database >= deploy.request.release.db_version;
        let is_done = upgraded.outcome.is_ok() || upgraded.database.is_some() && is_newer;
        let state = match (is_done, upgraded.database) {
            (true, _) => "; the database is upgraded",
            (false, Some(_)) => "",
            (false, None) => "; whether the database is upgraded is not known",
        };
        let is_over = self.waited(deploy) > self.policy.hold_limit && self.has_listened();
        match &upgraded.outcome {
            _ if deploy.called_off.is_some() => {
                let reason = deploy.called_off.clone().unwrap_or_default();
                self.fail(deploy, format!("{reason}{state}"));
            }
            _ if is_done && is_over && !self.can_serve(deploy.slot) => {
                self.fail(deploy, format!("no instance was left to serve it{state}"));
            }
            Err(message) if !is_done => {
                self.fail(deploy, format!("the database upgrade failed: {message}{state}"));
            }
            _ => self.cut_over(deploy),
        }
    }

    /// Whether the shell has had the time to end an upgrade, and tells nothing of it.
    fn is_upgrade_lost(&self, deploy: &Deploy) -> bool {
        let observed_from = self.upgrade_until(deploy).max(self.observed.since);
        self.observed.now.since(observed_from) > UPGRADE_END_LIMIT
    }

    /// Returns when an upgrade must have ended; a deploy that is called off has no time left.
    fn upgrade_until(&self, deploy: &Deploy) -> Millis {
        let Millis(since) = deploy.phase_since;
        if deploy.called_off.is_some() {
            return Millis(since);
        }
        let limit = u64::try_from(self.policy.hold_limit.as_millis()).unwrap_or(u64::MAX);
        Millis(since.saturating_add(limit))
    }

    /// Swaps, as soon as there is somebody to swap to: a foreman that has just started must hear of
    /// the instances first.
    fn cut_over(&mut self, deploy: &Deploy) {
        if !self.can_serve(deploy.slot) {
            return;
        }
        self.fleet.serving = deploy.slot;
        self.fleet.db_version = self.fleet.code_version();
        self.fleet.generation = self.fleet.generation.next();
        self.enter(deploy, Phase::CuttingOver);
    }

    fn confirm_cutover(&mut self, deploy: &Deploy) {
        if !self.is_confirmed() {
            return;
        }
        let old = deploy.slot.other();
        let old = self.fleet.releases.get(old).as_ref().map(|release| &release.revision);
        // The first entry is the run that has just begun; of a release that is deployed once more it
        // names the same revision.
        let baseline = self.observed.balancer.as_ref().and_then(|status| {
            status.releases.iter().skip(1).find(|one| Some(&one.revision) == old).cloned()
        });
        self.enter(deploy, Phase::Verifying { baseline });
        if let Some(deploy) = &mut self.fleet.deploy {
            deploy.cut_over_at = Some(self.observed.now);
        }
    }

    fn verify(&mut self, deploy: &Deploy) {
        if let Some(reason) = self.fault(deploy) {
            self.swap_back(deploy, reason);
            return;
        }
        let is_smoked =
            matches!(&self.observed.smoke, Some((id, Ok(()))) if *id == deploy.request.id);
        // Whoever waits brings a release that continues this one and is watched in its turn.
        let window = match self.fleet.queued {
            Some(_) => self.policy.verify_window.min(VERIFY_WINDOW_HURRIED),
            None => self.policy.verify_window,
        };
        if is_smoked && self.waited(deploy) >= window {
            let instances = self.fleet.table.upstreams.len();
            let left_out = self.left_out(deploy);
            self.end(deploy, Outcome::Settled { instances, left_out });
        }
    }

    /// Names the instances that do not serve the release, and why.
    fn left_out(&self, deploy: &Deploy) -> Vec<LeftOut> {
        let instances = self.fleet.instances.iter();
        instances
            .filter(|(name, member)| **member == Member::Active && !self.fleet.table.has(name))
            .map(|(name, _)| LeftOut { instance: name.clone(), reason: self.lack(name, deploy) })
            .collect()
    }

    fn lack(&self, name: &InstanceName, deploy: &Deploy) -> String {
        let Some(seen) = self.observed.reports.get(name) else {
            return "it has not reported yet".to_owned();
        };
        let silence = self.observed.now.since(seen.at);
        let slot = seen.report.slots.get(deploy.slot);
        match &slot.error {
            _ if silence > self.policy.lease => {
                format!("it has not reported for {} s", silence.as_secs())
            }
            Some(error) if error.revision == deploy.request.release.revision => {
                error.message.clone()
            }
            _ => "it has not prepared it yet".to_owned(),
        }
    }

    fn swap_back(&mut self, deploy: &Deploy, reason: String) {
        let old = deploy.slot.other();
        if self.can_serve(old) {
            self.fleet.serving = old;
            self.fleet.db_version = self.fleet.code_version();
            self.fleet.generation = self.fleet.generation.next();
            self.enter(deploy, Phase::SwappingBack { reason });
        } else if self.fleet.releases.get(old).is_none() {
            self.end(deploy, Outcome::Failed { reason });
        } else if self.waited(deploy) > self.policy.prepare_timeout {
            let reason = format!("{reason}; no instance can serve the release before it");
            self.end(deploy, Outcome::Failed { reason });
        }
    }

    /// Says why the release that was just brought into service shall not stay.
    fn fault(&self, deploy: &Deploy) -> Option<String> {
        if deploy.called_off.is_some() {
            return deploy.called_off.clone();
        }
        if let Some((id, Err(message))) = &self.observed.smoke
            && *id == deploy.request.id
        {
            return Some(message.clone());
        }
        let Phase::Verifying { baseline } = &deploy.phase else { return None };
        let status = self.observed.balancer.as_ref()?;
        let now = status.releases.first()?;
        if now.revision != deploy.request.release.revision || now.requests < REQUESTS_TO_JUDGE_MIN {
            return None;
        }
        let before = baseline.as_ref().map_or(0.0, |old| ratio(old.errors, old.requests));
        let share = ratio(now.errors, now.requests);
        (share > before + self.policy.max_error_ratio).then(|| {
            format!(
                "{} of {} requests failed ({:.1} %; before: {:.1} %)",
                now.errors,
                now.requests,
                share * 100.0,
                before * 100.0
            )
        })
    }

    /// Ends a deploy that no visitor has seen: the idle slot gets back what it held.
    fn fail(&mut self, deploy: &Deploy, reason: String) {
        if *self.fleet.releases.get(deploy.slot) != deploy.displaced {
            self.fleet.put(deploy.slot, deploy.displaced.clone());
        }
        self.end(deploy, Outcome::Failed { reason });
    }

    fn end(&mut self, deploy: &Deploy, outcome: Outcome) {
        self.fleet.deploy = None;
        self.events.push(Event::Ended(deploy.request.clone(), outcome, deploy.cut_over_at));
    }

    fn enter(&mut self, deploy: &Deploy, phase: Phase) {
        self.events.push(Event::Entered(deploy.request.id, phase.clone()));
        let mut deploy = deploy.clone();
        deploy.enter(phase, self.observed.now);
        self.fleet.deploy = Some(deploy);
    }

    fn start_queued(&mut self) {
        if self.fleet.deploy.is_some() {
            return;
        }
        let Some(request) = self.fleet.queued.take() else { return };
        match self.fleet.check(&request) {
            Ok(()) => self.fleet.start(request, self.observed.now),
            Err(failure) => {
                let outcome = Outcome::Failed { reason: failure.message };
                self.events.push(Event::Ended(request, outcome, None));
            }
        }
    }

    fn refresh_table(&mut self) {
        let hold = self.fleet.deploy.as_ref().is_some_and(|deploy| match deploy.phase {
            Phase::Holding => true,
            Phase::Upgrading => self.policy.hold != HoldMode::Never,
            _ => false,
        });
        let limit_millis =
            u64::try_from((self.policy.hold_limit + HOLD_MARGIN).as_millis()).unwrap_or(u64::MAX);
        let Some(release) = self.fleet.serving_release() else { return };
        let wanted = Table {
            version: self.fleet.table.version,
            revision: Some(release.revision.clone()),
            upstreams: self.upstreams(self.fleet.serving, &release.revision),
            hold: hold.then_some(Hold { limit_millis }),
        };
        if wanted != self.fleet.table {
            self.fleet.table = Table { version: wanted.version + 1, ..wanted };
        }
    }

    /// Whether some instance is known to be able to serve what a colour holds, and others had the
    /// time to say so too.
    fn can_serve(&self, slot: SlotName) -> bool {
        let Some(release) = self.fleet.releases.get(slot) else { return false };
        self.has_listened() && !self.upstreams(slot, &release.revision).is_empty()
    }

    /// Returns the slots that may serve a revision. A silent instance keeps its place: the balancer
    /// sees for itself whether it answers; and a table is never emptied for want of news.
    fn upstreams(&self, slot: SlotName, revision: &Revision) -> Vec<Upstream> {
        let is_same = self.fleet.table.revision.as_ref() == Some(revision);
        let place = |name: &InstanceName| {
            let all = &self.fleet.table.upstreams;
            all.iter().find(|one| is_same && one.instance == *name && one.slot == slot).cloned()
        };
        let mut active = self.fleet.instances.iter().filter(|(_, one)| **one == Member::Active);
        let has_active = active.clone().next().is_some();
        let upstreams: Vec<Upstream> = active
            .by_ref()
            .filter_map(|(name, _)| self.upstream(name, slot, revision, place(name)))
            .collect();
        if upstreams.is_empty() && has_active {
            return self.fleet.instances.keys().filter_map(place).collect();
        }
        upstreams
    }

    fn upstream(
        &self,
        name: &InstanceName,
        slot: SlotName,
        revision: &Revision,
        kept: Option<Upstream>,
    ) -> Option<Upstream> {
        let Some(seen) = self.observed.reports.get(name) else { return kept };
        let report = seen.report.slots.get(slot);
        let is_ready = report.is_ready && self.is_current(seen, slot);
        if report.revision.as_ref() != Some(revision) || !is_ready && kept.is_none() {
            return None;
        }
        let address = report.address.or(kept.as_ref().map(|one| one.address))?;
        let workers_max = report
            .php
            .map(|workers| workers.max)
            .or(kept.map(|one| one.workers_max))
            .unwrap_or(WORKERS_MAX_UNKNOWN);
        Some(Upstream { instance: name.clone(), slot, address, workers_max })
    }

    /// Whether an agent had taken what the colour shall hold when it reported; otherwise it may be
    /// changing the slot by now.
    fn is_current(&self, seen: &Seen, slot: SlotName) -> bool {
        seen.report.generation >= *self.fleet.changed_in.get(slot)
    }

    fn let_leave(&mut self) {
        self.renew_drains();
        if !self.is_confirmed() {
            return;
        }
        let Some(status) = &self.observed.balancer else { return };
        let busy = |name: &InstanceName| {
            status.upstreams.iter().any(|one| one.instance == *name && one.in_flight > 0)
        };
        let limit = self.policy.drain_timeout;
        let now = self.observed.now;
        let gone: Vec<InstanceName> = self
            .fleet
            .instances
            .iter()
            .filter_map(|(name, member)| match member {
                Member::Leaving { since }
                    if !self.fleet.table.has(name)
                        && (!busy(name) || now.since(*since) > limit) =>
                {
                    Some(name.clone())
                }
                _ => None,
            })
            .collect();
        for name in gone {
            self.fleet.instances.remove(&name);
            self.events.push(Event::Left(name));
        }
    }

    /// While an instance that leaves may still get requests, its time to drain begins again and
    /// again; half of the limit apart, so that the document is not stored all the time.
    fn renew_drains(&mut self) {
        let is_confirmed = self.is_confirmed();
        let now = self.observed.now;
        for (name, member) in &mut self.fleet.instances {
            if let Member::Leaving { since } = member
                && (!is_confirmed || self.fleet.table.has(name))
                && now.since(*since) > self.policy.drain_timeout / 2
            {
                *since = now;
            }
        }
    }

    fn effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.is_confirmed() {
            effects.push(Effect::PushTable);
        }
        let Some(deploy) = &self.fleet.deploy else { return effects };
        let id = deploy.request.id;
        let is_upgraded = matches!(&self.observed.upgrade, Some((known, _)) if *known == id);
        let is_smoked = matches!(&self.observed.smoke, Some((known, _)) if *known == id);
        match deploy.phase {
            Phase::Preparing if self.needs_upgrade(deploy) => {
                effects.push(Effect::ReadyUpgrade(deploy.request.release.revision.clone()));
            }
            Phase::Upgrading if !is_upgraded => {
                let revision = deploy.request.release.revision.clone();
                effects.push(Effect::UpgradeDatabase(id, revision, self.upgrade_until(deploy)));
            }
            Phase::Verifying { .. } if !is_smoked => {
                effects.push(Effect::RunSmoke(id));
            }
            _ => {}
        }
        effects
    }

    fn tally(&self, deploy: &Deploy) -> Tally {
        let revision = &deploy.request.release.revision;
        let mut tally = Tally { live: 0, ready: 0, errors: Vec::new() };
        for name in self.fleet.instances.keys() {
            let is_active = self.fleet.instances.get(name) == Some(&Member::Active);
            let Some(seen) = self.observed.reports.get(name) else { continue };
            if !is_active || self.observed.now.since(seen.at) > self.policy.lease {
                continue;
            }
            tally.live += 1;
            let slot = seen.report.slots.get(deploy.slot);
            let is_current = self.is_current(seen, deploy.slot);
            let is_ready = slot.is_ready && slot.address.is_some();
            if slot.revision.as_ref() == Some(revision) && is_ready && is_current {
                tally.ready += 1;
            } else if let Some(error) = &slot.error
                && error.revision == *revision
                && is_current
            {
                tally.errors.push((name.clone(), error.message.clone()));
            }
        }
        tally
    }

    /// Whether the newest table is what the balancer follows.
    fn is_confirmed(&self) -> bool {
        let version = self.fleet.table.version;
        self.observed.balancer.as_ref().is_some_and(|status| status.version == version)
    }

    fn in_flight(&self, slot: SlotName) -> Option<u64> {
        self.observed.balancer.as_ref().map(|status| status.in_flight(slot))
    }

    /// Whether no PHP request runs any more while new ones are held, in neither colour.
    fn is_quiet(&self, deploy: &Deploy) -> bool {
        let Some(status) = &self.observed.balancer else { return false };
        let mut busy = status.upstreams.iter().filter(|one| one.in_flight > 0);
        busy.all(|one| {
            self.waited(deploy) > HOLD_DOWNLOADS_AFTER
                && self.observed.reports.get(&one.instance).is_some_and(|seen| {
                    let php = seen.report.slots.get(one.slot).php;
                    deploy.held_in.is_some_and(|held_in| seen.report.generation >= held_in)
                        && php.is_some_and(|workers| workers.busy == 0)
                })
        })
    }

    fn needs_upgrade(&self, deploy: &Deploy) -> bool {
        match (self.fleet.code_version(), deploy.request.release.db_version) {
            (Some(now), Some(then)) => then > now,
            // Not known since the store was lost; an upgrade that is not needed does nothing.
            (None, Some(_)) => self.fleet.serving_release().is_some(),
            _ => false,
        }
    }

    fn needs_hold(&self, deploy: &Deploy) -> bool {
        match self.policy.hold {
            HoldMode::Auto => self.needs_upgrade(deploy),
            HoldMode::Always => self.fleet.serving_release().is_some(),
            HoldMode::Never => false,
        }
    }

    fn waited(&self, deploy: &Deploy) -> Duration {
        self.observed.now.since(deploy.phase_since)
    }

    /// Whether every living agent has had the time to report to this foreman.
    fn has_listened(&self) -> bool {
        let everybody_spoke = self
            .fleet
            .instances
            .iter()
            .filter(|(_, member)| **member == Member::Active)
            .all(|(name, _)| self.observed.reports.contains_key(name));
        everybody_spoke || self.observed.now.since(self.observed.since) > self.policy.lease
    }
}

/// How many of the living instances must be ready: rounded down, so that even a small fleet can do
/// without one of its instances, but at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a fleet has few instances and the ratio is within 0 and 1"
)]
fn needed(live: usize, min_ready: f64) -> usize {
    ((live as f64 * min_ready + ROUNDING).floor() as usize).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests within one verify window")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

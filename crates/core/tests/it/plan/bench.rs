//! A fleet in a steady state, and the observations that a test makes of it.

use std::time::Duration;

use flotilla_core::deploy::{Cause, Policy, Request};
use flotilla_core::error::Failure;
use flotilla_core::fleet::{Accepted, Fleet, Release};
use flotilla_core::id::{DeployId, Generation, InstanceName, Millis, Revision};
use flotilla_core::plan::{Effect, Event, Observed, Seen, Upgraded, plan};
use flotilla_core::report::{AgentReport, PhpWorkers, SlotError, SlotReport};
use flotilla_core::slot::{SlotName, Slots};
use flotilla_core::table::{BalancerStatus, ReleaseStatus, UpstreamStatus};

pub(super) const OLD: u64 = 0xa;
pub(super) const NEW: u64 = 0xb;

pub(super) fn revision(number: u64) -> Revision {
    format!("{number:040x}").parse().expect("forty digits")
}

pub(super) fn release(number: u64, db_version: u64) -> Release {
    Release { revision: revision(number), db_version: Some(db_version), settings: String::new() }
}

/// A fleet, what its foreman observes, and everything that has happened.
pub(super) struct Bench {
    pub(super) fleet: Fleet,
    pub(super) observed: Observed,
    pub(super) policy: Policy,
    pub(super) effects: Vec<Effect>,
    pub(super) events: Vec<Event>,
    /// The slot whose run the balancer counts first.
    counted_in: Option<SlotName>,
}

impl Bench {
    /// Instances that serve [`OLD`] in the blue slot, the balancer in step.
    pub(super) fn new(instances: u16) -> Self {
        let mut fleet = Fleet { generation: Generation(1), ..Fleet::default() };
        fleet.resize(instances, Millis(0));
        fleet.releases.blue = Some(release(OLD, 1));
        let mut bench = Self {
            fleet,
            observed: Observed { now: Millis(100_000), since: Millis(0), ..Observed::default() },
            policy: Policy::default(),
            effects: Vec::new(),
            events: Vec::new(),
            counted_in: None,
        };
        for number in 1..=instances {
            bench.reports(number, SlotName::Blue, ready(OLD));
        }
        bench.settle();
        bench.balancer_follows();
        bench.settle();
        bench
    }

    pub(super) fn deploy(&mut self, release: Release) -> DeployId {
        let id = self.ask(release).expect("accepted").0;
        self.settle();
        id
    }

    /// Deploys what may serve already, or go back over a database upgrade.
    pub(super) fn ask_forced(&mut self, release: Release) -> DeployId {
        let id = self.request(release, true).expect("accepted").0;
        self.settle();
        id
    }

    pub(super) fn ask(&mut self, release: Release) -> Result<(DeployId, Accepted), Failure> {
        self.request(release, false)
    }

    fn request(
        &mut self,
        release: Release,
        is_forced: bool,
    ) -> Result<(DeployId, Accepted), Failure> {
        let id = DeployId(self.fleet.last_deploy.0 + 1);
        let now = self.observed.now;
        let request = Request {
            id,
            release,
            cause: Cause::Command,
            author: "maria".to_owned(),
            requested_at: now,
            is_forced,
            waits: true,
        };
        let accepted = self.fleet.request(request, now)?;
        self.fleet.last_deploy = id;
        Ok((id, accepted))
    }

    /// An agent that has taken the newest generation reports one slot.
    pub(super) fn reports(&mut self, number: u16, slot: SlotName, report: SlotReport) {
        let name = InstanceName::numbered(number);
        let generation = self.fleet.generation;
        let now = self.observed.now;
        let seen = self.observed.reports.entry(name.clone()).or_insert_with(|| Seen {
            report: AgentReport { instance: name, generation, slots: Slots::default() },
            at: now,
        });
        seen.at = now;
        seen.report.generation = generation;
        *seen.report.slots.get_mut(slot) = report;
    }

    pub(super) fn all_report(&mut self, slot: SlotName, report: &SlotReport) {
        let numbers: Vec<u16> =
            self.fleet.instances.keys().filter_map(InstanceName::number).collect();
        for number in numbers {
            self.reports(number, slot, report.clone());
        }
    }

    /// Time goes by; agents that are named go on reporting.
    pub(super) fn wait(&mut self, duration: Duration, alive: &[u16]) {
        self.observed.now.0 += u64::try_from(duration.as_millis()).expect("short");
        for number in alive {
            if let Some(seen) = self.observed.reports.get_mut(&InstanceName::numbered(*number)) {
                seen.at = self.observed.now;
            }
        }
        self.settle();
    }

    /// The balancer takes the newest table.
    pub(super) fn balancer_follows(&mut self) {
        let table = &self.fleet.table;
        let former = self.observed.balancer.take().unwrap_or_default();
        let mut status = BalancerStatus { version: table.version, ..BalancerStatus::default() };
        for one in &table.upstreams {
            status.upstreams.push(UpstreamStatus {
                instance: one.instance.clone(),
                slot: one.slot,
                in_flight: 0,
                healthy: true,
            });
        }
        for one in former.upstreams {
            let is_there = |other: &&mut UpstreamStatus| {
                other.instance == one.instance && other.slot == one.slot
            };
            match status.upstreams.iter_mut().find(is_there) {
                Some(same) => same.in_flight = one.in_flight,
                None => status.upstreams.push(one),
            }
        }
        status.releases = former.releases;
        // As the balancer counts: the same revision in the other slots is another run.
        let has_moved =
            table.upstreams.iter().all(|one| self.counted_in.is_some_and(|slot| slot != one.slot));
        self.counted_in = table.upstreams.first().map(|one| one.slot);
        if let Some(revision) = table.revision.clone()
            && (has_moved || status.releases.first().is_none_or(|one| one.revision != revision))
        {
            let since_version = table.version;
            let fresh = ReleaseStatus { since_version, revision, requests: 0, errors: 0 };
            status.releases.insert(0, fresh);
        }
        self.observed.balancer = Some(status);
        self.settle();
    }

    pub(super) fn status(&mut self) -> &mut BalancerStatus {
        self.observed.balancer.as_mut().expect("the balancer answers")
    }

    pub(super) fn in_flight(&mut self, number: u16, slot: SlotName, count: u64) {
        let name = InstanceName::numbered(number);
        let status = self.status();
        status.upstreams.retain(|one| one.instance != name || one.slot != slot);
        let entry = UpstreamStatus { instance: name, slot, in_flight: count, healthy: true };
        status.upstreams.push(entry);
        self.settle();
    }

    pub(super) fn counts(&mut self, requests: u64, errors: u64) {
        let newest = self.status().releases.first_mut().expect("a release");
        newest.requests = requests;
        newest.errors = errors;
        self.settle();
    }

    pub(super) fn smoke(&mut self, id: DeployId, outcome: Result<(), &str>) {
        self.observed.smoke = Some((id, outcome.map_err(str::to_owned)));
        self.settle();
    }

    /// The shell tells how an upgrade ended, and stores what the database says.
    pub(super) fn upgraded(
        &mut self,
        id: DeployId,
        outcome: Result<(), &str>,
        database: Option<u64>,
    ) {
        self.fleet.learn_database(database);
        let outcome = outcome.map_err(str::to_owned);
        self.observed.upgrade = Some((id, Upgraded { outcome, database }));
        self.settle();
    }

    /// A new foreman: it knows the document and nothing else.
    pub(super) fn restart_foreman(&mut self) {
        let now = self.observed.now;
        self.observed = Observed { now, since: now, ..Observed::default() };
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..16 {
            let step = plan(&self.fleet, &self.observed, &self.policy);
            self.events.extend(step.events);
            self.effects = step.effects;
            match step.next {
                Some(next) => self.fleet = next,
                None => return,
            }
        }
        panic!("the planner does not come to rest: {:?}", self.fleet);
    }

    pub(super) fn phase(&self) -> &'static str {
        self.fleet.deploy.as_ref().map_or("none", |deploy| deploy.phase.as_str())
    }

    pub(super) fn served_from(&self) -> Vec<String> {
        let upstreams = self.fleet.table.upstreams.iter();
        upstreams.map(|one| format!("{} {}", one.instance, one.slot)).collect()
    }

    pub(super) fn outcomes(&self) -> Vec<String> {
        let ends = self.events.iter().filter_map(|event| match event {
            Event::Ended(request, outcome, _) => Some((request.id, outcome)),
            _ => None,
        });
        ends.map(|(id, outcome)| match outcome {
            _ if outcome.reason().is_empty() => format!("{id} {}", outcome.as_str()),
            _ => format!("{id} {}: {}", outcome.as_str(), outcome.reason()),
        })
        .collect()
    }

    /// A deploy that has reached the phase in which visitors see it.
    pub(super) fn verifying(instances: u16) -> (Self, DeployId) {
        let mut bench = Self::new(instances);
        let id = bench.deploy(release(NEW, 1));
        bench.all_report(SlotName::Green, &ready(NEW));
        bench.settle();
        bench.balancer_follows();
        assert_eq!(bench.phase(), "verifying");
        (bench, id)
    }

    /// A deploy that brings a database upgrade and waits for the visitors' last requests.
    pub(super) fn holding(instances: u16) -> (Self, DeployId) {
        let mut bench = Self::new(instances);
        let id = bench.deploy(release(NEW, 2));
        bench.all_report(SlotName::Green, &ready(NEW));
        bench.settle();
        assert_eq!(bench.phase(), "holding");
        (bench, id)
    }
}

pub(super) fn ready(number: u64) -> SlotReport {
    SlotReport {
        revision: Some(revision(number)),
        address: Some(([127, 0, 0, 1], 8_000).into()),
        is_ready: true,
        error: None,
        php: Some(PhpWorkers { busy: 0, max: 8 }),
    }
}

pub(super) fn busy(number: u64) -> SlotReport {
    SlotReport { php: Some(PhpWorkers { busy: 1, max: 8 }), ..ready(number) }
}

pub(super) fn failing(number: u64) -> SlotReport {
    let message = "the disk is full".to_owned();
    let error = Some(SlotError { revision: revision(number), message });
    SlotReport { error, ..SlotReport::default() }
}

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

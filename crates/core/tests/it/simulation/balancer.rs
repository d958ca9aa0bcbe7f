//! The balancer and the visitors' requests through it.

use std::collections::BTreeMap;

use flotilla_core::id::{InstanceName, Revision};
use flotilla_core::slot::SlotName;
use flotilla_core::table::{BalancerStatus, Hold, ReleaseStatus, Table, UpstreamStatus};

use super::agent::Content;
use super::site::{Quality, quality};
use super::world::{Event, Message, Way, Weather, World};

/// A slot of an instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) instance: InstanceName,
    pub(super) slot: SlotName,
}

impl Place {
    pub(super) fn is(&self, instance: &InstanceName, slot: SlotName) -> bool {
        self.instance == *instance && self.slot == slot
    }
}

/// One request of a visitor, until its response has ended.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) is_php: bool,
    /// The balancer takes it for a file; if it is none, only the slot can tell.
    looks_like_file: bool,
    /// The latest change of release that a response had shown somebody when this began.
    pub(super) era_before: u64,
    /// Where it runs; `None` while it is held.
    pub(super) place: Option<Place>,
    pub(super) revision: Option<Revision>,
    pub(super) era: u64,
    /// The balancer has died: PHP runs on, but nobody gets the response.
    pub(super) is_orphan: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    /// Nothing answers there.
    Down,
    /// Something answers, but with another revision.
    Wrong,
}

#[derive(Debug, Default)]
pub(super) struct Balancer {
    pub(super) boot: u64,
    pub(super) is_running: bool,
    /// On disk.
    pub(super) table: Table,
    health: BTreeMap<Place, Health>,
    releases: Vec<ReleaseStatus>,
}

impl World {
    pub(super) fn balancer_boots(&mut self) {
        if self.balancer.is_running {
            return;
        }
        let boot = self.number();
        let table = std::mem::take(&mut self.balancer.table);
        self.balancer = Balancer { boot, is_running: true, table, ..Balancer::default() };
        self.count_release();
        self.after(1, Event::HealthTick { boot });
    }

    pub(super) fn balancer_crashes(&mut self) {
        self.balancer.is_running = false;
        self.requests.retain(|_, one| one.place.is_some());
        for request in self.requests.values_mut() {
            request.is_orphan = true;
        }
        let delay = self.random.between(50, 2_000);
        self.after(delay, Event::BalancerBoot);
    }

    pub(super) fn balancer_takes(&mut self, boot: u64, call: u64, table: Table) {
        if !self.balancer.is_running {
            return;
        }
        if table.version > self.balancer.table.version {
            self.note(|| format!("the balancer takes table {}", table.version));
            self.check_table(&table);
            let before = std::mem::replace(&mut self.balancer.table, table);
            self.checker.table_replaced(&before, &self.balancer.table, self.now);
            if self.has_faults() && self.random.chance(20) {
                self.balancer_crashes();
                return;
            }
            let is_held = self.balancer.table.hold.is_some();
            self.balancer.health.clear();
            self.count_release();
            if !is_held {
                self.let_go();
            }
        }
        self.balancer_answers(boot, call);
    }

    pub(super) fn balancer_answers(&mut self, boot: u64, call: u64) {
        if !self.balancer.is_running {
            return;
        }
        let status = self.status();
        self.send(&Way::BalancerToForeman, Message::Status { boot, call, status });
    }

    fn status(&self) -> BalancerStatus {
        let table = &self.balancer.table;
        let mut in_flight: BTreeMap<Place, u64> = table
            .upstreams
            .iter()
            .map(|one| (Place { instance: one.instance.clone(), slot: one.slot }, 0))
            .collect();
        for request in self.requests.values().filter(|one| !one.is_orphan) {
            if let Some(place) = &request.place {
                *in_flight.entry(place.clone()).or_default() += 1;
            }
        }
        let upstreams = in_flight
            .into_iter()
            .map(|(place, in_flight)| UpstreamStatus {
                healthy: self.health(&place) == Health::Up,
                instance: place.instance,
                slot: place.slot,
                in_flight,
            })
            .collect();
        let holding = self.requests.values().filter(|one| one.place.is_none()).count();
        BalancerStatus {
            version: table.version,
            upstreams,
            releases: self.balancer.releases.clone(),
            holding: u64::try_from(holding).expect("few"),
        }
    }

    /// Begins to count for the table's release, when it is another one than before.
    fn count_release(&mut self) {
        let Some(revision) = self.balancer.table.revision.clone() else { return };
        let releases = &mut self.balancer.releases;
        if releases.first().is_none_or(|one| one.revision != revision) {
            let since_version = self.balancer.table.version;
            releases.insert(0, ReleaseStatus { since_version, revision, requests: 0, errors: 0 });
            releases.truncate(2);
        }
    }

    fn health(&self, place: &Place) -> Health {
        self.balancer.health.get(place).copied().unwrap_or(Health::Up)
    }

    pub(super) fn check_health(&mut self, boot: u64) {
        if self.balancer.boot != boot || !self.balancer.is_running {
            return;
        }
        for place in self.places() {
            let health = match self.agents.get(&place.instance) {
                Some(agent) if agent.slots.get(place.slot).is_up => {
                    let is_right = agent.slots.get(place.slot).mark == self.balancer.table.revision;
                    if is_right { Health::Up } else { Health::Wrong }
                }
                _ => Health::Down,
            };
            self.balancer.health.insert(place, health);
        }
        self.after(500, Event::HealthTick { boot });
    }

    fn places(&self) -> Vec<Place> {
        let upstreams = self.balancer.table.upstreams.iter();
        upstreams.map(|one| Place { instance: one.instance.clone(), slot: one.slot }).collect()
    }

    pub(super) fn visit(&mut self) {
        let delay = self.random.between(10, self.pause_max);
        self.after(delay, Event::Visit);
        if !self.balancer.is_running || self.balancer.table.revision.is_none() {
            return;
        }
        let number = self.number();
        let is_php = self.random.chance(800);
        let request = Exchange {
            is_php,
            looks_like_file: !is_php || self.random.chance(100),
            era_before: self.checker.era_shown,
            place: None,
            revision: None,
            era: 0,
            is_orphan: false,
        };
        let looks_like_file = request.looks_like_file;
        self.requests.insert(number, request);
        match self.balancer.table.hold {
            Some(hold) if !looks_like_file => self.hold_back(number, hold),
            _ => self.route(number),
        }
    }

    fn hold_back(&mut self, number: u64, hold: Hold) {
        self.after(hold.limit_millis, Event::HoldEnds { request: number });
    }

    fn let_go(&mut self) {
        let held: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, one)| one.place.is_none())
            .map(|(number, _)| *number)
            .collect();
        for number in held {
            self.route(number);
        }
    }

    pub(super) fn hold_ends(&mut self, number: u64) {
        if self.requests.get(&number).is_some_and(|one| one.place.is_none()) {
            self.requests.remove(&number);
        }
    }

    /// Sends a request to a healthy upstream; one that does not answer is passed over.
    fn route(&mut self, number: u64) {
        let mut places = self.places();
        places.retain(|place| self.health(place) != Health::Wrong);
        places.sort_by_key(|place| self.health(place) != Health::Up);
        let healthy = places.iter().filter(|place| self.health(place) == Health::Up).count();
        if healthy > 1 {
            let turn = self.random.between(0, u64::try_from(healthy).expect("few") - 1);
            places[..healthy].rotate_left(usize::try_from(turn).expect("few"));
        }
        for place in places {
            let is_up = self
                .agents
                .get(&place.instance)
                .is_some_and(|agent| agent.slots.get(place.slot).is_up);
            if is_up {
                self.serve(number, &place);
                return;
            }
            self.balancer.health.insert(place, Health::Down);
        }
        self.requests.remove(&number);
        self.count(self.balancer.table.revision.clone().as_ref(), true);
    }

    fn serve(&mut self, number: u64, place: &Place) {
        let duration = self.duration();
        let table = &self.balancer.table;
        let (revision, version) = (table.revision.clone(), table.version);
        if let Some(hold) = table.hold
            && self.requests.get(&number).is_some_and(|one| one.is_php)
        {
            // There is no such file: the slot has been told of the hold and runs nothing.
            self.hold_back(number, hold);
            return;
        }
        let era = self.checker.era(version);
        let Some(request) = self.requests.get_mut(&number) else { return };
        request.place = Some(place.clone());
        request.revision.clone_from(&revision);
        request.era = era;
        let request = request.clone();
        let content = self.agents.get(&place.instance).map(|agent| agent.slots.get(place.slot));
        let is_whole = content.is_some_and(|slot| {
            slot.mark == revision && Some(&slot.content) == revision.map(Content::Whole).as_ref()
        });
        self.check_served(&request, place, is_whole);
        self.after(duration, Event::ResponseEnds { request: number });
    }

    fn duration(&mut self) -> u64 {
        let (slow, slowest) = if self.weather == Weather::Calm { (60, 0) } else { (80, 8) };
        if self.random.chance(slowest) {
            self.random.between(3_000, 9_000)
        } else if self.random.chance(slow) {
            self.random.between(150, 1_500)
        } else {
            self.random.between(5, 120)
        }
    }

    pub(super) fn response_ends(&mut self, number: u64) {
        let is_unlucky = self.random.chance(500);
        let Some(request) = self.requests.remove(&number) else { return };
        if request.is_orphan {
            return;
        }
        self.checker.shown(request.era);
        let revision = request.revision.as_ref();
        let is_broken = revision.is_some_and(|one| quality(one) == Quality::Broken);
        self.count(revision, is_broken && is_unlucky);
    }

    fn count(&mut self, revision: Option<&Revision>, is_error: bool) {
        let mut releases = self.balancer.releases.iter_mut();
        if let Some(release) = releases.find(|one| Some(&one.revision) == revision) {
            release.requests += 1;
            release.errors += u64::from(is_error);
        }
    }

    /// Ends what runs on a machine that has gone.
    pub(super) fn abort_requests(&mut self, name: &InstanceName) {
        let gone: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, one)| one.place.as_ref().is_some_and(|at| at.instance == *name))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            if let Some(request) = self.requests.remove(&number)
                && !request.is_orphan
            {
                self.count(request.revision.as_ref(), true);
            }
        }
    }
}

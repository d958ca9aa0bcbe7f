//! The whole fleet as one value, moved from event to event in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use flotilla_core::deploy::{HoldMode, Policy};
use flotilla_core::fleet::Release;
use flotilla_core::id::{DeployId, InstanceName};
use flotilla_core::report::{AgentReport, Desired};
use flotilla_core::table::{BalancerStatus, Table};

use super::agent::Agent;
use super::balancer::{Balancer, Exchange};
use super::checker::Checker;
use super::foreman::Foreman;
use super::random::Random;

const TRACE_MAX: usize = 60;
/// Everything has to be at rest this long after the last fault.
const REST_AFTER: u64 = 120_000;

/// What a run is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// No faults: every deploy ends as its release deserves.
    Calm,
    /// Crashes, partitions, lost and late messages, until a point in time.
    Storm,
}

/// A thing that happens at a point in time.
#[derive(Debug, Clone)]
pub(super) enum Event {
    ForemanBoot,
    ForemanTick {
        boot: u64,
    },
    UpgradeEnds {
        run: u64,
        is_cut: bool,
    },
    /// The last statement of an upgrade whose foreman died.
    OrphanEnds {
        version: u64,
    },
    SmokeEnds {
        boot: u64,
        id: DeployId,
    },
    AgentBoot {
        name: InstanceName,
        machine: u64,
    },
    AgentTick {
        name: InstanceName,
        life: u64,
    },
    AgentStep {
        name: InstanceName,
        work: u64,
    },
    BalancerBoot,
    HealthTick {
        boot: u64,
    },
    Visit,
    ResponseEnds {
        request: u64,
    },
    HoldEnds {
        request: u64,
    },
    Deliver(Box<Message>),
    Command,
    Fault,
}

impl Event {
    /// Whether it happens so often that it would hide the others in a trace.
    const fn is_noise(&self) -> bool {
        matches!(
            self,
            Self::Visit
                | Self::ForemanTick { .. }
                | Self::AgentTick { .. }
                | Self::HealthTick { .. }
                | Self::ResponseEnds { .. }
                | Self::HoldEnds { .. }
        )
    }
}

/// What goes over the network.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Report { machine: u64, life: u64, serial: u64, report: AgentReport },
    Desired { name: InstanceName, life: u64, desired: Desired },
    Push { boot: u64, call: u64, table: Table },
    Poll { boot: u64, call: u64 },
    Status { boot: u64, call: u64, status: BalancerStatus },
}

/// One direction of one connection; each can be cut alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    AgentToForeman(InstanceName),
    ForemanToAgent(InstanceName),
    ForemanToBalancer,
    BalancerToForeman,
}

/// The database all instances share, and the upgrade that runs on it.
#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) version: u64,
    pub(super) running: Option<Upgrade>,
    /// Until when an upgrade without a foreman keeps the database locked.
    pub(super) locked_until: u64,
}

/// An upgrade under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upgrade {
    pub(super) run: u64,
    pub(super) id: DeployId,
    /// The version that it makes.
    pub(super) version: u64,
    /// Whether it was told to end.
    pub(super) is_ending: bool,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) weather: Weather,
    pub(super) random: Random,
    pub(super) policy: Policy,
    pub(super) foreman: Foreman,
    pub(super) agents: BTreeMap<InstanceName, Agent>,
    pub(super) balancer: Balancer,
    pub(super) database: Database,
    pub(super) requests: BTreeMap<u64, Exchange>,
    pub(super) cuts: BTreeMap<Way, u64>,
    pub(super) checker: Checker,
    pub(super) ends_at: u64,
    /// People try again what has failed.
    pub(super) asked_last: Option<Release>,
    /// Upgrades fail often, and people try again and again.
    pub(super) is_stubborn: bool,
    /// The longest time between two visitors.
    pub(super) pause_max: u64,
    queue: BTreeMap<(u64, u64), Event>,
    last_number: u64,
    trace: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let policy = policy(&mut random, weather);
        let now = 1_000_000;
        let ends_at = now + random.between(15_000, 30_000);
        let is_stubborn = weather == Weather::Storm && random.chance(300);
        let is_quiet = weather == Weather::Storm && random.chance(400);
        let pause_max = if is_quiet { 400 } else { 60 };
        let mut world = Self {
            now,
            weather,
            random,
            policy,
            foreman: Foreman::default(),
            agents: BTreeMap::new(),
            balancer: Balancer::default(),
            database: Database { version: 1, running: None, locked_until: 0 },
            requests: BTreeMap::new(),
            cuts: BTreeMap::new(),
            checker: Checker::default(),
            ends_at,
            pause_max,
            asked_last: None,
            is_stubborn,
            queue: BTreeMap::new(),
            last_number: 0,
            trace: is_traced.then(VecDeque::new),
        };
        world.install();
        world.after(0, Event::ForemanBoot);
        world.after(0, Event::BalancerBoot);
        world.after(2_000, Event::Visit);
        world.after(4_000, Event::Command);
        if weather == Weather::Storm {
            world.after(2_000, Event::Fault);
        }
        world
    }

    /// Runs to the end, or to the first broken promise, and tells which one.
    pub(super) fn run(&mut self) -> Result<(), String> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if self.trace.is_some() && !event.is_noise() {
                self.note(|| format!("{event:?}"));
            }
            self.happen(event);
            if let Some(broken) = self.checker.broken.take() {
                return Err(format!("{broken}{}", self.tail()));
            }
            if self.now > self.ends_at {
                let Some(unrest) = self.unrest() else { return Ok(()) };
                if self.now > self.ends_at + REST_AFTER {
                    return Err(format!(
                        "the fleet comes to rest once faults have stopped: {unrest}{}",
                        self.tail()
                    ));
                }
            }
        }
        Err("the queue of events is empty".to_owned())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ForemanBoot => self.foreman_boots(),
            Event::ForemanTick { boot } => self.foreman_ticks(boot),
            Event::UpgradeEnds { run, is_cut } => self.upgrade_ends(run, is_cut),
            Event::OrphanEnds { version } => {
                self.database.version = self.database.version.max(version);
            }
            Event::SmokeEnds { boot, id } => self.smoke_ends(boot, id),
            Event::AgentBoot { name, machine } => self.agent_boots(&name, machine),
            Event::AgentTick { name, life } => self.agent_ticks(&name, life),
            Event::AgentStep { name, work } => self.agent_steps(&name, work),
            Event::BalancerBoot => self.balancer_boots(),
            Event::HealthTick { boot } => self.check_health(boot),
            Event::Visit => self.visit(),
            Event::ResponseEnds { request } => self.response_ends(request),
            Event::HoldEnds { request } => self.hold_ends(request),
            Event::Deliver(message) => self.receive(*message),
            Event::Command => self.command(),
            Event::Fault => self.strike(),
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Report { machine, life, serial, report } => {
                self.foreman_hears(machine, (life, serial), report);
            }
            Message::Desired { name, life, desired } => self.agent_hears(&name, life, desired),
            Message::Push { boot, call, table } => self.balancer_takes(boot, call, table),
            Message::Poll { boot, call } => self.balancer_answers(boot, call),
            Message::Status { boot, call, status } => self.foreman_learns(boot, call, status),
        }
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        let number = self.number();
        self.queue.insert((self.now + delay, number), event);
    }

    /// Puts a message on its way: it may be lost, doubled, late, and overtaken.
    pub(super) fn send(&mut self, way: &Way, message: Message) {
        if !self.has_faults() {
            let delay = self.random.between(1, 20);
            self.after(delay, Event::Deliver(Box::new(message)));
            return;
        }
        let is_cut = self.cuts.get(way).is_some_and(|until| *until > self.now);
        if is_cut || self.random.chance(20) {
            return;
        }
        let often_late = match way {
            Way::AgentToForeman(_) | Way::ForemanToAgent(_) => 40,
            Way::ForemanToBalancer | Way::BalancerToForeman => 120,
        };
        let copies = if self.random.chance(30) { 2 } else { 1 };
        let message = Box::new(message);
        for _ in 0..copies {
            let delay = if self.random.chance(often_late) {
                self.random.between(30, 2_500)
            } else {
                self.random.between(1, 30)
            };
            self.after(delay, Event::Deliver(message.clone()));
        }
    }

    pub(super) fn has_faults(&self) -> bool {
        self.weather == Weather::Storm && self.now < self.ends_at
    }

    /// Returns a number that was not given out before.
    pub(super) const fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_MAX {
                trace.pop_front();
            }
            let mut text = text();
            // The zeros of a simulated revision say nothing.
            text = text.replace(&"0".repeat(38), "");
            for noise in ["InstanceName", "Revision", "SlotReport", "PhpWorkers", "UpstreamStatus"]
            {
                text = text.replace(noise, "");
            }
            trace.push_back(format!("{now}: {text}"));
        }
    }

    fn tail(&self) -> String {
        let Some(trace) = &self.trace else { return String::new() };
        let lines: Vec<&str> = trace.iter().map(String::as_str).collect();
        format!(
            "\nat {} with {:?}; the last events:\n  {}",
            self.now,
            self.policy,
            lines.join("\n  ")
        )
    }
}

fn policy(random: &mut Random, weather: Weather) -> Policy {
    let hold = match random.between(0, 9) {
        0..=5 => HoldMode::Auto,
        6..=8 => HoldMode::Always,
        _ => HoldMode::Never,
    };
    Policy {
        lease: Duration::from_secs(2),
        prepare_timeout: Duration::from_secs(if weather == Weather::Calm { 20 } else { 6 }),
        min_ready: 0.6,
        hold,
        hold_limit: Duration::from_secs(8),
        drain_timeout: Duration::from_secs(3),
        verify_window: Duration::from_secs(2),
        max_error_ratio: 0.1,
    }
}

//! An instance: its agent, its two slots and its disk.

use std::net::{Ipv4Addr, SocketAddr};

use flotilla_core::converge::{is_news, next_slot};
use flotilla_core::id::{Generation, InstanceName, Revision};
use flotilla_core::report::{AgentReport, Desired, PhpWorkers, SlotError, SlotReport};
use flotilla_core::slot::{SlotName, Slots};

use super::site::{Quality, quality};
use super::world::{Event, Message, Way, World};

const RETRY_AFTER: u64 = 800;

/// What a slot's directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Content {
    #[default]
    Nothing,
    /// Files of two revisions, or some of one.
    Torn,
    Whole(Revision),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// On disk: the verified revision; taken away before the first change, written last.
    pub(super) mark: Option<Revision>,
    pub(super) content: Content,
    /// Whether its nginx and php-fpm run; they answer with whatever the directory holds.
    pub(super) is_up: bool,
    error: Option<SlotError>,
    /// Since when it could tell that it is ready.
    pub(super) ready_since: u64,
}

#[derive(Debug, Clone)]
struct Work {
    number: u64,
    slot: SlotName,
    revision: Revision,
    has_content: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Agent {
    /// The machine; another one may get the same name later.
    pub(super) machine: u64,
    /// The process; connections end with it.
    pub(super) life: u64,
    pub(super) is_running: bool,
    pub(super) slots: Slots<Slot>,
    /// On disk.
    pub(super) seen: Generation,
    desired: Option<Desired>,
    work: Option<Work>,
    rests_until: u64,
    pub(super) slow_until: u64,
    pub(super) stuck_until: u64,
}

impl Agent {
    pub(super) fn new(machine: u64) -> Self {
        Self {
            machine,
            life: 0,
            is_running: false,
            slots: Slots::default(),
            seen: Generation(0),
            desired: None,
            work: None,
            rests_until: 0,
            slow_until: 0,
            stuck_until: 0,
        }
    }

    /// Ends the process; the slots stay up.
    pub(super) fn crash(&mut self) {
        self.is_running = false;
        self.desired = None;
        self.work = None;
    }

    /// Whether any of its slots answers.
    pub(super) const fn is_serving(&self) -> bool {
        self.slots.blue.is_up || self.slots.green.is_up
    }

    /// Takes the power away.
    pub(super) fn power_off(&mut self) {
        self.crash();
        for slot in SlotName::ALL {
            self.slots.get_mut(slot).is_up = false;
        }
    }
}

impl World {
    pub(super) fn add_machine(&mut self, name: InstanceName) {
        let machine = self.number();
        self.agents.insert(name.clone(), Agent::new(machine));
        let delay = self.random.between(200, 1_200);
        self.after(delay, Event::AgentBoot { name, machine });
    }

    pub(super) fn agent_boots(&mut self, name: &InstanceName, machine: u64) {
        let life = self.number();
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.machine != machine || agent.is_running {
            return;
        }
        agent.is_running = true;
        agent.life = life;
        let now = self.now;
        for slot in SlotName::ALL {
            let slot = agent.slots.get_mut(slot);
            slot.error = None;
            slot.is_up |= slot.mark.is_some();
            slot.ready_since = now;
        }
        self.after(1, Event::AgentTick { name: name.clone(), life });
    }

    pub(super) fn agent_ticks(&mut self, name: &InstanceName, life: u64) {
        let Some(agent) = self.agents.get(name) else { return };
        if agent.life != life || !agent.is_running {
            return;
        }
        self.begin_work(name);
        self.report(name);
        let delay = self.random.between(200, 300);
        self.after(delay, Event::AgentTick { name: name.clone(), life });
    }

    pub(super) fn agent_hears(&mut self, name: &InstanceName, life: u64, desired: Desired) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.life != life || !agent.is_running || !is_news(agent.seen, &desired) {
            return;
        }
        let before = agent.seen;
        agent.seen = desired.generation;
        let is_first = agent.desired.is_none();
        agent.desired = Some(desired);
        let after = agent.seen;
        self.checker.generations_rise(name, before, after);
        self.begin_work(name);
        if is_first || after > before {
            self.report(name);
        }
    }

    fn begin_work(&mut self, name: &InstanceName) {
        let number = self.number();
        let now = self.now;
        let Some(agent) = self.agents.get_mut(name) else { return };
        let Some(desired) = &agent.desired else { return };
        if let Some(work) = &agent.work {
            if desired.revisions.get(work.slot).as_ref() == Some(&work.revision) {
                return;
            }
            agent.work = None;
        }
        let held =
            Slots { blue: agent.slots.blue.mark.clone(), green: agent.slots.green.mark.clone() };
        let Some((slot, revision)) = next_slot(desired, &held) else { return };
        if agent.rests_until > now {
            return;
        }
        agent.work = Some(Work { number, slot, revision, has_content: false });
        self.change_slot(name, slot);
        self.schedule_step(name, number);
    }

    /// The first change to a slot's directory: the mark goes first.
    fn change_slot(&mut self, name: &InstanceName, slot: SlotName) {
        self.check_change(name, slot);
        let Some(agent) = self.agents.get_mut(name) else { return };
        let changed = agent.slots.get_mut(slot);
        changed.mark = None;
        changed.content = Content::Torn;
        changed.error = None;
        self.note(|| format!("{name} {slot} is being changed"));
    }

    fn schedule_step(&mut self, name: &InstanceName, work: u64) {
        let now = self.now;
        let mut delay = self.random.between(20, 300);
        if let Some(agent) = self.agents.get(name) {
            if agent.slow_until > now {
                delay *= 15;
            }
            if agent.stuck_until > now {
                delay += agent.stuck_until - now;
            }
        }
        self.after(delay, Event::AgentStep { name: name.clone(), work });
    }

    pub(super) fn agent_steps(&mut self, name: &InstanceName, number: u64) {
        let has_faults = self.has_faults();
        let is_unlucky = has_faults && self.random.chance(500);
        let now = self.now;
        let Some(agent) = self.agents.get_mut(name) else { return };
        let Some(work) = agent.work.as_mut().filter(|work| work.number == number) else { return };
        let slot = agent.slots.get_mut(work.slot);
        if !work.has_content {
            work.has_content = true;
            slot.content = Content::Whole(work.revision.clone());
            self.schedule_step(name, number);
            return;
        }
        let is_bad = match quality(&work.revision) {
            Quality::Unpreparable => true,
            Quality::Flaky => is_unlucky,
            Quality::Good | Quality::Broken => false,
        };
        if is_bad {
            let message = "the smoke request was answered 500".to_owned();
            slot.error = Some(SlotError { revision: work.revision.clone(), message });
            agent.rests_until = now + RETRY_AFTER;
        } else {
            slot.mark = Some(work.revision.clone());
            slot.is_up = true;
            slot.ready_since = now;
        }
        agent.work = None;
        self.begin_work(name);
        self.report(name);
    }

    fn report(&mut self, name: &InstanceName) {
        let serial = self.number();
        let Some(agent) = self.agents.get(name) else { return };
        let slots = Slots {
            blue: self.slot_report(name, agent, SlotName::Blue),
            green: self.slot_report(name, agent, SlotName::Green),
        };
        let report = AgentReport { instance: name.clone(), generation: agent.seen, slots };
        let message = Message::Report { machine: agent.machine, life: agent.life, serial, report };
        self.send(&Way::AgentToForeman(name.clone()), message);
    }

    fn slot_report(&self, name: &InstanceName, agent: &Agent, slot: SlotName) -> SlotReport {
        let state = agent.slots.get(slot);
        let busy = self
            .requests
            .values()
            .filter(|one| one.is_php && one.place.as_ref().is_some_and(|at| at.is(name, slot)))
            .count();
        let port = if slot == SlotName::Blue { 8_001 } else { 8_002 };
        SlotReport {
            revision: state.mark.clone(),
            address: state.is_up.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            is_ready: state.is_up && state.mark.is_some(),
            error: state.error.clone(),
            php: state
                .is_up
                .then(|| PhpWorkers { busy: u16::try_from(busy).expect("few"), max: 8 }),
        }
    }
}

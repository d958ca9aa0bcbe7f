//! What people ask for, and what goes wrong.

use flotilla_core::deploy::Cause;
use flotilla_core::id::InstanceName;

use super::agent::Agent;
use super::site::{any_release, release};
use super::world::{Event, Way, Weather, World};

impl World {
    pub(super) fn install(&mut self) {
        // The document exists before the foreman starts for the first time.
        let mut fleet = std::mem::take(&mut self.foreman.store.fleet);
        let count = u16::try_from(self.random.between(1, 4)).expect("few");
        fleet.resize(count, flotilla_core::id::Millis(self.now));
        self.foreman.store.fleet = fleet;
        self.after(100, Event::Command);
    }

    pub(super) fn command(&mut self) {
        if self.now > self.ends_at {
            return;
        }
        if self.foreman.store.fleet.serving_release().is_none() {
            self.ask(release(0), Cause::Install, false, true);
            self.after(500, Event::Command);
            return;
        }
        match self.random.between(0, 10) {
            0..=5 => {
                let retries = if self.is_stubborn { 800 } else { 200 };
                let wanted = match &self.asked_last {
                    Some(again) if self.random.chance(retries) => again.clone(),
                    _ => any_release(&mut self.random),
                };
                self.asked_last = Some(wanted.clone());
                let (is_forced, waits) = (self.random.chance(100), self.random.chance(800));
                let cause = if self.random.chance(500) { Cause::Push } else { Cause::Command };
                self.ask(wanted, cause, is_forced, waits);
            }
            6 | 7 => {
                let fleet = &self.foreman.store.fleet;
                if let Some(former) = fleet.releases.get(fleet.serving.other()).clone() {
                    let is_forced = self.random.chance(300);
                    self.ask(former, Cause::Rollback, is_forced, true);
                }
            }
            8 => self.call_off(),
            _ => {
                let count = u16::try_from(self.random.between(1, 5)).expect("few");
                self.resize(count);
            }
        }
        let (low, high) = if self.weather == Weather::Calm { (300, 6_000) } else { (100, 7_000) };
        let delay = self.random.between(low, high);
        self.after(delay, Event::Command);
    }

    pub(super) fn strike(&mut self) {
        if !self.has_faults() {
            self.heal();
            return;
        }
        let delay = self.random.between(50, 1_800);
        self.after(delay, Event::Fault);
        let names: Vec<InstanceName> = self.agents.keys().cloned().collect();
        let Some(name) = self.random.pick(&names) else { return };
        let until = self.now + self.random.between(200, 7_000);
        let fault = self.random.between(0, 15);
        self.note(|| format!("fault {fault} for {name} until {until}"));
        match fault {
            0 | 1 if self.random.chance(600) => self.foreman_crashes_now(),
            2 if self.random.chance(500) => self.balancer_crashes_now(),
            3 | 4 => self.agent_crashes(&name, Agent::crash),
            5 => self.agent_crashes(&name, Agent::power_off),
            6 => self.replace_machine(&name),
            7 | 13..=15 => self.cut([Way::AgentToForeman(name)], until),
            8 => self.cut([Way::ForemanToAgent(name)], until),
            9 => self.cut([Way::AgentToForeman(name.clone()), Way::ForemanToAgent(name)], until),
            10 if self.random.chance(500) => self.cut([Way::BalancerToForeman], until),
            10 => self.cut([Way::ForemanToBalancer], until),
            11 | 12 => {
                let is_stuck = self.random.chance(400);
                if let Some(agent) = self.agents.get_mut(&name) {
                    if is_stuck { agent.stuck_until = until } else { agent.slow_until = until }
                }
            }
            _ => {}
        }
    }

    fn cut<const COUNT: usize>(&mut self, ways: [Way; COUNT], until: u64) {
        for way in ways {
            self.cuts.insert(way, until);
        }
    }

    fn foreman_crashes_now(&mut self) {
        if self.foreman.is_running() {
            self.foreman_crashes();
        }
    }

    fn balancer_crashes_now(&mut self) {
        if self.balancer.is_running {
            self.balancer_crashes();
        }
    }

    fn agent_crashes(&mut self, name: &InstanceName, how: impl FnOnce(&mut Agent)) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        how(agent);
        let machine = agent.machine;
        if !agent.is_serving() {
            self.abort_requests(name);
        }
        let delay = self.random.between(20, 3_000);
        self.after(delay, Event::AgentBoot { name: name.clone(), machine });
    }

    /// The machine is killed and comes back with an empty disk, under its old name and identity.
    fn replace_machine(&mut self, name: &InstanceName) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let machine = agent.machine;
        *agent = Agent::new(machine);
        self.abort_requests(name);
        self.checker.forget_agent(name);
        let delay = self.random.between(20, 3_000);
        self.after(delay, Event::AgentBoot { name: name.clone(), machine });
    }

    fn heal(&mut self) {
        for until in self.cuts.values_mut() {
            *until = self.now.min(*until);
        }
        for agent in self.agents.values_mut() {
            agent.stuck_until = 0;
            agent.slow_until = 0;
        }
    }
}

//! The processes of a fleet, to be killed: found by their locks, as flotilla itself finds them.

use std::path::PathBuf;

use anyhow::Context;
use flotilla_core::id::InstanceName;
use flotilla_core::slot::SlotName;
use flotilla_host::lock::lock_holder;
use flotilla_host::media::MOUNT_LOCK;
use flotilla_targets::local::layout::{GATEWAY_LOCK, slot_lock};
use flotilla_targets::local::services;
use nix::sys::signal::Signal;

use crate::fleet::Fleet;
use crate::process::{descendants, send};

/// A part of a fleet that is a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The supervisor.
    Supervisor,
    /// The foreman.
    Foreman,
    /// The balancer.
    Balancer,
    /// The database.
    Database,
    /// A node of the session store, 1 or 2.
    SessionNode(u16),
    /// The session gateway of the instance with this number.
    Gateway(u16),
    /// The object cache.
    Cache,
    /// The store of media.
    Bucket,
    /// What keeps the media mounted on the instance with this number.
    Mount(u16),
    /// The agent of the instance with this number.
    Agent(u16),
    /// What keeps a slot's processes.
    Slot(u16, SlotName),
    /// The master process of a slot's php-fpm.
    PhpFpm(u16, SlotName),
    /// The master process of a slot's nginx.
    Nginx(u16, SlotName),
    /// What runs scheduled work, by its number.
    Runner(u16),
    /// What keeps the workshop's processes.
    Workshop,
}

impl Fleet {
    /// Returns the process of a part; `None` when it does not run.
    ///
    /// # Errors
    /// Its lock cannot be read.
    pub fn pid(&self, part: Part) -> anyhow::Result<Option<i32>> {
        let Some(holder) = lock_holder(&self.lock(part))? else { return Ok(None) };
        let title = match part {
            Part::PhpFpm(..) => "php-fpm: master",
            Part::Nginx(..) => "nginx: master",
            _ => return Ok(Some(holder)),
        };
        let inside = descendants(holder);
        Ok(inside.iter().find(|process| process.command.starts_with(title)).map(|one| one.pid))
    }

    /// Kills a part without warning; returns the process that was killed.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, part: Part) -> anyhow::Result<i32> {
        self.signal(part, Signal::SIGKILL)
    }

    /// Sends a part a signal; returns its process.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, part: Part, signal: Signal) -> anyhow::Result<i32> {
        let pid = self.pid(part)?.with_context(|| format!("{part:?} does not run"))?;
        send(pid, signal)?;
        Ok(pid)
    }

    /// Kills every process of the fleet without warning; returns how many there were.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_everything(&self) -> anyhow::Result<usize> {
        let mut killed = 0;
        // Twice at least: the first round may see a process that is just starting another.
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                return Ok(killed);
            }
            killed = killed.max(processes.len());
            for process in processes {
                send(process.pid, Signal::SIGKILL)?;
            }
        }
    }

    fn lock(&self, part: Part) -> PathBuf {
        let layout = self.layout();
        match part {
            Part::Supervisor => layout.lock(services::SUPERVISOR),
            Part::Foreman => layout.lock(services::FOREMAN),
            Part::Balancer => layout.lock(services::BALANCER),
            Part::Database => layout.lock(services::DATABASE),
            Part::SessionNode(number) => layout.lock(&format!("sessions-{number}")),
            Part::Gateway(number) => {
                layout.instance(&InstanceName::numbered(number)).join(GATEWAY_LOCK)
            }
            Part::Cache => layout.lock(services::CACHE),
            Part::Bucket => layout.lock(services::BUCKET),
            Part::Mount(number) => {
                layout.instance_media(&InstanceName::numbered(number)).join(MOUNT_LOCK)
            }
            Part::Agent(number) => {
                layout.lock(&services::agent_name(&InstanceName::numbered(number)))
            }
            Part::Slot(number, slot) | Part::PhpFpm(number, slot) | Part::Nginx(number, slot) => {
                slot_lock(&layout.instance(&InstanceName::numbered(number)), slot)
            }
            Part::Workshop => layout.foreman().join("workshop/workshop.lock"),
            Part::Runner(number) => layout.foreman().join(format!("cron/{number}/runner.lock")),
        }
    }
}

//! Follows the foreman's inventory: an agent for each instance in it, and nothing of any other.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::api::Inventory;
use flotilla_core::id::InstanceName;
use flotilla_core::slot::SlotName;
use flotilla_host::files::{Access, FileError, write_atomic};
use flotilla_host::lock::lock_holder;
use flotilla_host::tasks::Tasks;
use flotilla_host::unit::UnitError;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::foreman::Foreman;
use super::state::State;
use crate::local::layout::{LayoutError, make_private, remove_directory, slot_lock};
use crate::local::ports::{Ports, PortsError, slot_role};
use crate::local::services::{Services, agent_name};
use crate::local::teardown::stop_slots;

#[derive(Debug, thiserror::Error)]
enum InstanceError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Ports(#[from] PortsError),
    #[error(transparent)]
    Unit(#[from] UnitError),
    #[error("the foreman gives no token for `{0}`")]
    Token(InstanceName, #[source] reqwest::Error),
}

/// The task that keeps one agent running.
#[derive(Debug)]
struct Kept {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

/// The instances of this machine.
#[derive(Debug)]
pub(super) struct Instances {
    services: Services,
    ports: Ports,
    tasks: Tasks,
    state: State,
    kept: BTreeMap<InstanceName, Kept>,
}

impl Instances {
    pub(super) const fn new(services: Services, ports: Ports, tasks: Tasks, state: State) -> Self {
        Self { services, ports, tasks, state, kept: BTreeMap::new() }
    }

    /// Starts the agents of instances that have joined before: they can serve without the foreman.
    pub(super) async fn adopt(&mut self) {
        for name in self.services.layout.instances_made() {
            if self.services.layout.token(&name).exists()
                && let Err(error) = self.start(&name).await
            {
                self.state.trouble(&agent_name(&name), &error);
            }
        }
    }

    /// Starts what is missing and removes what is too many; what fails is tried again at the next
    /// call.
    pub(super) async fn converge(&mut self, inventory: &Inventory, foreman: &Foreman) {
        let wanted: BTreeSet<&InstanceName> =
            inventory.instances.iter().map(|item| &item.name).collect();
        for name in &wanted {
            match self.add(name, foreman).await {
                Ok(()) => self.state.well(&agent_name(name)),
                Err(error) => self.state.trouble(&agent_name(name), &error),
            }
        }
        let mut surplus = self.services.layout.instances_made();
        surplus.extend(self.kept.keys().cloned());
        surplus.retain(|name| !wanted.contains(name));
        surplus.sort_unstable();
        surplus.dedup();
        let mut removals = JoinSet::new();
        for name in surplus {
            let kept = self.kept.remove(&name);
            let services = self.services.clone();
            removals.spawn(async move {
                let outcome = remove(&services, &name, kept).await;
                (name, outcome)
            });
        }
        for (name, outcome) in removals.join_all().await {
            match outcome.and_then(|()| Ok(self.ports.release(&name)?)) {
                Ok(()) => self.state.forget(&agent_name(&name)),
                Err(error) => self.state.trouble(&agent_name(&name), &error),
            }
        }
    }

    async fn add(&mut self, name: &InstanceName, foreman: &Foreman) -> Result<(), InstanceError> {
        let layout = &self.services.layout;
        make_private(&layout.instance(name))?;
        let (token, join_token) = (layout.token(name), layout.join_token(name));
        // The agent removes a token that the foreman did not take.
        if !token.exists() && !join_token.exists() {
            let token = foreman
                .join_token(name)
                .await
                .map_err(|error| InstanceError::Token(name.clone(), error))?;
            write_atomic(&join_token, token.reveal().as_bytes(), Access::Private)?;
        }
        self.start(name).await
    }

    async fn start(&mut self, name: &InstanceName) -> Result<(), InstanceError> {
        if self.kept.contains_key(name) {
            return Ok(());
        }
        let unit = self.services.agent(name);
        let mut has_moved = false;
        for slot in SlotName::ALL {
            let role = slot_role(name, slot);
            let before = self.ports.book().port(&role);
            let lock = slot_lock(&self.services.layout.instance(name), slot);
            let runs = lock_holder(&lock).is_ok_and(|pid| pid.is_some());
            let now = if runs { self.ports.port(&role)? } else { self.ports.free_port(&role)? };
            has_moved |= before != Some(now);
        }
        if has_moved {
            // It reads its ports at its start.
            unit.stop().await?;
        }
        let stop = self.tasks.stopping().child_token();
        let (ending, ended) = oneshot::channel();
        let (state, stopping) = (self.state.clone(), stop.clone());
        self.tasks.spawn("keep_agent", async move {
            unit.keep_reporting(stopping, |now| state.report(&unit.name, now)).await;
            // Nobody waits for it when the supervisor ends.
            let _ = ending.send(());
        });
        self.kept.insert(name.clone(), Kept { stop, ended });
        Ok(())
    }
}

/// Stops all of an instance, then removes its directory, so that a removal that was cut off is seen
/// and done again.
async fn remove(
    services: &Services,
    name: &InstanceName,
    kept: Option<Kept>,
) -> Result<(), InstanceError> {
    if let Some(kept) = kept {
        kept.stop.cancel();
        // An error means that the task is gone, which is what is waited for.
        drop(kept.ended.await);
    }
    let directory = services.layout.instance(name);
    services.agent(name).stop().await?;
    stop_slots(&directory).await?;
    remove_directory(&directory)?;
    tracing::info!(instance = name.as_str(), "An instance was removed");
    Ok(())
}

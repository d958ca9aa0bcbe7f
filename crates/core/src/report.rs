//! What an agent tells the foreman, and what the foreman wants of it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{Generation, InstanceName, Revision};
use crate::slot::{SlotName, Slots};

/// What every instance shall hold. The agent compares and converges; there is no other instruction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Desired {
    /// An agent that has seen a higher one refuses this document.
    pub generation: Generation,
    /// The colour in service: it is brought up first.
    pub serving: SlotName,
    /// The revision of each slot; `None` leaves the slot as it is.
    pub revisions: Slots<Option<Revision>>,
    /// The digest of the settings that each slot was ordered with; see
    /// [`has_settings`](crate::converge::has_settings).
    #[serde(default)]
    pub settings: Slots<String>,
}

/// How busy the PHP of a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PhpWorkers {
    /// Workers that run a request.
    pub busy: u16,
    /// Workers there may be at most.
    pub max: u16,
}

/// The state of one slot as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SlotReport {
    /// The verified revision; `None` while it is being changed or when it is unknown.
    pub revision: Option<Revision>,
    /// Where its nginx listens, once it runs.
    pub address: Option<SocketAddr>,
    /// Whether it is warm, has passed the agent's smoke requests and may be served from.
    pub is_ready: bool,
    /// Why the wanted revision could not be prepared, as a whole sentence chain.
    pub error: Option<SlotError>,
    /// Workers, when php-fpm answers.
    pub php: Option<PhpWorkers>,
}

/// A revision that a slot could not prepare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotError {
    /// The revision that failed.
    pub revision: Revision,
    /// What went wrong.
    pub message: String,
}

/// The whole state of an instance; an agent always sends all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Who reports.
    pub instance: InstanceName,
    /// The generation of the last [`Desired`] it took.
    pub generation: Generation,
    /// Both slots.
    pub slots: Slots<SlotReport>,
}

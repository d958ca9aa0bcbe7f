//! The upstream table: where the balancer may send requests right now.
//!
//! The foreman decides it, the balancer follows it. All upstreams of a table run the same revision,
//! so one swap of the table moves the whole fleet.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceName, Revision};
use crate::slot::SlotName;

/// Names the address that the balancer's control interface has below its own base URL.
pub const TABLE_PATH: &str = "/v1/table";
/// Names the address under which the balancer tells its [`BalancerStatus`].
pub const STATUS_PATH: &str = "/v1/status";
/// The path that a slot answers without WordPress; the body is the slot's revision.
pub const HEALTH_PATH: &str = "/.flotilla/health";
/// The response header that names the revision that made a response.
pub const REVISION_HEADER: &str = "x-flotilla-revision";

/// The request header by which the balancer tells a slot that there is a hold: files are served, but
/// nothing may run.
pub const HOLD_HEADER: &str = "x-flotilla-hold";
/// The response header by which a slot tells that it would have had to run PHP, and did not.
pub const HELD_HEADER: &str = "x-flotilla-held";

/// One slot of one instance that may serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The instance the slot is on.
    pub instance: InstanceName,
    /// The slot.
    pub slot: SlotName,
    /// Where its nginx listens.
    pub address: SocketAddr,
    /// How many PHP requests it can work on at a time; more would queue on the instance.
    pub workers_max: u16,
}

/// A hold: PHP requests wait at the balancer instead of reaching an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Milliseconds that one request waits at most before it is answered 503.
    pub limit_millis: u64,
}

/// The whole table. A balancer takes it only when its version is higher than that of the one it has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    /// Rises with each change, over the whole life of a site.
    pub version: u64,
    /// The revision that every upstream runs; `None` before the first release.
    pub revision: Option<Revision>,
    /// Where to send requests.
    pub upstreams: Vec<Upstream>,
    /// Set while a deploy with a database upgrade is between two releases.
    pub hold: Option<Hold>,
}

impl Table {
    /// Returns whether an instance may get requests.
    #[must_use]
    pub fn has(&self, instance: &InstanceName) -> bool {
        self.upstreams.iter().any(|one| one.instance == *instance)
    }
}

/// What the balancer counted for one upstream since it started, also for those it no longer has in
/// the table but still drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// The instance.
    pub instance: InstanceName,
    /// The slot.
    pub slot: SlotName,
    /// Requests sent to it that have not ended.
    pub in_flight: u64,
    /// Whether health checks let it have requests.
    pub healthy: bool,
}

/// What the balancer counted for one release since the table first named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// The table version that brought the release into service; tells two runs of one revision apart.
    pub since_version: u64,
    /// The revision.
    pub revision: Revision,
    /// Requests that are over: those that an upstream answered and those that got no answer.
    pub requests: u64,
    /// How many of them were answered with a 5xx status, or not at all.
    pub errors: u64,
}

/// What the balancer tells the foreman.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BalancerStatus {
    /// The version of the table it follows; zero when it has none.
    pub version: u64,
    /// One entry for each upstream that is in the table or still draining.
    pub upstreams: Vec<UpstreamStatus>,
    /// The current release and the one before it, newest first.
    pub releases: Vec<ReleaseStatus>,
    /// Requests that wait because of a hold.
    pub holding: u64,
}

impl BalancerStatus {
    /// Counts the requests that still run on one colour of the fleet.
    #[must_use]
    pub fn in_flight(&self, slot: SlotName) -> u64 {
        self.upstreams.iter().filter(|one| one.slot == slot).map(|one| one.in_flight).sum()
    }
}

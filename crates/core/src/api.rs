//! What crosses the wire between the foreman and those who talk to it, as JSON.
//!
//! Every request carries `Authorization: Bearer <token>`; an operator may do everything, an agent
//! only what concerns itself, a join token only [`JOIN_PATH`]. Errors are a [`crate::error::Failure`].

use serde::{Deserialize, Serialize};

use crate::capture::{CaptureNumber, CaptureRecord};
use crate::deploy::{Cause, Deploy, Outcome};
use crate::fleet::{Member, Release};
use crate::id::{DeployId, InstanceName, Millis, Revision, Token};
use crate::media::MediaSettings;
use crate::report::{AgentReport, Desired};
use crate::rotation::Kind;
use crate::slot::SlotName;
use crate::table::BalancerStatus;

/// `POST`: [`JoinRequest`] → [`JoinReply`].
pub const JOIN_PATH: &str = "/v1/join";
/// `POST`: [`SyncRequest`] → [`SyncReply`]; waits until there is news.
pub const SYNC_PATH: &str = "/v1/sync";
/// `GET`: → [`SlotSettings`].
pub const SETTINGS_PATH: &str = "/v1/settings";
/// `GET /v1/bundles/{to}?from={from}`: a git bundle, with its SHA-256 in [`SHA256_HEADER`].
pub const BUNDLES_PATH: &str = "/v1/bundles";
/// The response header with the SHA-256 of the body, in hexadecimal digits.
pub const SHA256_HEADER: &str = "x-flotilla-sha256";
/// The repository for `git clone`, `git fetch` and `git push`.
pub const GIT_PATH: &str = "/git/site.git";
/// `GET`: → [`Status`].
pub const STATUS_PATH: &str = "/v1/status";
/// `POST`: [`DeployRequest`] → [`DeployReply`]; `GET`: → list of [`DeployRecord`], newest first.
pub const DEPLOYS_PATH: &str = "/v1/deploys";
/// `POST`: [`RollbackRequest`] → [`DeployReply`].
pub const ROLLBACK_PATH: &str = "/v1/rollback";
/// `PUT`: [`Resize`] → [`Inventory`].
pub const SIZE_PATH: &str = "/v1/size";
/// `GET`: → [`Inventory`]; `?since=` waits until it differs.
pub const INVENTORY_PATH: &str = "/v1/inventory";
/// `POST`: [`JoinTokenRequest`] → [`JoinReply`] with a token that lets one instance join once.
pub const JOIN_TOKENS_PATH: &str = "/v1/join-tokens";

/// `POST`: [`RotateRequest`] → [`RotationStatus`]; `GET`: → [`RotationStatus`].
pub const ROTATIONS_PATH: &str = "/v1/secrets/rotations";

/// `GET`: → list of [`CaptureItem`], newest first; `POST /v1/captures/{number}/{verdict}` with a
/// [`Verdict`]: [`CaptureVerdict`] → [`CaptureItem`].
pub const CAPTURES_PATH: &str = "/v1/captures";
/// `GET ?limit=&path=&patch=`: → list of [`HistoryItem`], newest first.
pub const HISTORY_PATH: &str = "/v1/history";
/// `GET ?path=`: → list of [`BlameLine`].
pub const BLAME_PATH: &str = "/v1/blame";

/// A change that somebody made in the workshop, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureItem {
    /// What was made.
    #[serde(flatten)]
    pub record: CaptureRecord,
    /// Why it waits or failed; empty when it does neither.
    pub reason: String,
}

/// What somebody decides about a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may go to the instances.
    Approve,
    /// It is undone.
    Revert,
}

impl Verdict {
    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Revert => "revert",
        }
    }
}

/// Says who decides about a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureVerdict {
    /// Who, as people know them.
    pub author: String,
}

/// A commit of the site's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryItem {
    /// The commit.
    pub revision: Revision,
    /// When it was made, in seconds since 1970.
    pub time_seconds: i64,
    /// Who made it.
    pub author: String,
    /// The author's address.
    pub email: String,
    /// The first line of its message.
    pub subject: String,
    /// The rest of its message.
    pub body: String,
    /// The deploy that brought it into service last.
    pub deploy: Option<DeployId>,
    /// The capture that it is.
    pub capture: Option<CaptureNumber>,
    /// What it changed, as `git show` tells it; `None` when that was not asked for.
    pub patch: Option<String>,
}

/// A line of a file, and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlameLine {
    /// The commit that it is from.
    pub revision: Revision,
    /// Who made that.
    pub author: String,
    /// When, in seconds since 1970.
    pub time_seconds: i64,
    /// Its number, from 1.
    pub line: u32,
    /// Its text.
    pub text: String,
}

/// A new instance asks to become part of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Its name in the inventory.
    pub instance: InstanceName,
}

/// A token to authenticate with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReply {
    /// The token.
    pub token: Token,
}

/// Asks for a token with which one instance may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenRequest {
    /// The instance that may use it.
    pub instance: InstanceName,
}

/// An agent reports, and waits for news.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// Its whole state.
    pub report: AgentReport,
    /// Milliseconds that the foreman may wait for news before it answers.
    pub wait_millis: u64,
}

/// What the foreman wants of every agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReply {
    /// The desired state.
    pub desired: Desired,
    /// The digest of the present [`SlotSettings`].
    pub settings: String,
}

/// Everything besides the code that a slot needs to run; the same for all instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSettings {
    /// The whole `wp-config.php`; it holds secrets.
    pub wp_config: String,
    /// The host, with its port when it is not the scheme's own, that visitors use.
    pub site_host: String,
    /// `http` or `https`, as visitors use it.
    pub site_scheme: String,
    /// The user PHP runs as where the agent is root.
    pub php_user: String,
    /// PHP workers of each slot.
    pub php_workers: u16,
    /// `memory_limit` in bytes.
    pub php_memory_bytes: u64,
    /// Shared memory for compiled scripts, in bytes.
    pub opcache_bytes: u64,
    /// `max_execution_time` in seconds.
    pub php_time_limit_seconds: u64,
    /// The largest upload in bytes.
    pub upload_bytes_max: u64,
    /// The largest body of a request.
    pub body_bytes_max: u64,
    /// How long a PHP session lives after its last use, in seconds.
    pub session_lifetime_seconds: u64,
    /// What keeps the sessions.
    #[serde(default)]
    pub session_store: SessionStore,
    /// Whose object cache is used: `auto`, `on` or `off`.
    pub object_cache: String,
    /// The time zone of PHP.
    pub timezone: String,
    /// Paths that must not answer with an error before a slot is ready.
    pub smoke: Vec<String>,
    /// Milliseconds that one smoke request may take.
    pub smoke_timeout_millis: u64,
    /// How many of the serving slot's hottest scripts are compiled before a slot serves.
    pub warm_scripts_max: u32,
    /// Certificates, in PEM, that may have signed the database's, besides those that a machine
    /// trusts; often empty.
    #[serde(default)]
    pub database_certificates: String,
    /// Where media are; `None` when they are a directory of this machine.
    #[serde(default)]
    pub media: Option<MediaSettings>,
}

/// What keeps the sessions of PHP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SessionStore {
    /// Memcached nodes.
    Nodes {
        /// They, as `host:port`.
        addresses: Vec<String>,
    },
    /// The memcached nodes of an ElastiCache cluster.
    Cluster {
        /// Its configuration endpoint, `host:port`.
        endpoint: String,
    },
    /// A DynamoDB table.
    Table {
        /// Its name.
        name: String,
        /// Its region.
        region: String,
        /// Where DynamoDB is; `None` is AWS itself.
        endpoint: Option<String>,
    },
}

impl Default for SessionStore {
    fn default() -> Self {
        Self::Nodes { addresses: Vec::new() }
    }
}

impl SessionStore {
    /// Returns whether whoever works with this one can go over to `new` while it runs. Lists of nodes
    /// are followed.
    #[must_use]
    pub fn leads_to(&self, new: &Self) -> bool {
        self == new || matches!((self, new), (Self::Nodes { .. }, Self::Nodes { .. }))
    }
}

/// Asks for a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRequest {
    /// A branch, tag or (short) commit id; the tip of the site's branch when `None`.
    pub revision: Option<String>,
    /// Who asks.
    pub author: String,
    /// Whether to wait behind another deploy.
    pub waits: bool,
    /// Whether it may go back over a database upgrade.
    pub is_forced: bool,
}

/// Asks for the release before the one that serves, or for another one that served before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// A revision; the one that served before when `None`.
    pub to: Option<String>,
    /// Who asks.
    pub author: String,
    /// Whether it may go back over a database upgrade.
    pub is_forced: bool,
}

/// A deploy was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployReply {
    /// Its number.
    pub id: DeployId,
    /// The commit.
    pub revision: Revision,
    /// The deploy it waits for.
    pub behind: Option<DeployId>,
    /// Whether the deploy was under way already and is called off.
    #[serde(default)]
    pub is_called_off: bool,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRecord {
    /// Its number.
    pub id: DeployId,
    /// What was deployed.
    pub release: Release,
    /// The first line of the commit's message.
    pub subject: String,
    /// Why.
    pub cause: Cause,
    /// Who asked.
    pub author: String,
    /// When it was asked for.
    pub requested_at: Millis,
    /// When it was over.
    pub ended_at: Option<Millis>,
    /// Milliseconds from the start of preparing to the balancer's confirmation.
    pub took_millis: Option<u64>,
    /// How it ended; `None` while it is under way or waits.
    pub outcome: Option<Outcome>,
}

/// Sets the number of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// How many shall serve.
    pub instances: u16,
}

/// The instances that shall exist.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// In the order of their names.
    pub instances: Vec<InventoryItem>,
}

/// One instance of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryItem {
    /// Its name.
    pub name: InstanceName,
    /// Whether it shall serve.
    pub member: Member,
}

/// Asks for secrets to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateRequest {
    /// Which.
    pub kinds: Vec<Kind>,
}

/// How far the replacing of secrets is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RotationStatus {
    /// Nothing is left to do.
    pub is_over: bool,
    /// What is being done, as a line for people.
    pub doing: String,
    /// Why the last step did not succeed; it is tried again.
    pub trouble: Option<String>,
}

/// How far the making of a new site is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum SiteState {
    /// This is being done.
    Making {
        /// What, as a line for people.
        what: String,
    },
    /// This failed and is tried again.
    Failed {
        /// What went wrong.
        message: String,
    },
    /// The site is there.
    Made,
}

/// The state of a whole site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where visitors find the site.
    pub url: String,
    /// How far the making of the site is.
    pub site: SiteState,
    /// The release in service.
    pub release: Option<Release>,
    /// The first line of its commit's message.
    pub subject: Option<String>,
    /// The colour in service.
    pub serving: SlotName,
    /// The deploy under way.
    pub deploy: Option<Deploy>,
    /// The instances.
    pub instances: Vec<InstanceStatus>,
    /// What the balancer says; `None` when it does not answer.
    pub balancer: Option<BalancerStatus>,
    /// The version of the newest upstream table.
    pub table_version: u64,
}

/// The state of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: InstanceName,
    /// Whether it shall serve.
    pub member: Member,
    /// Its last report.
    pub report: Option<AgentReport>,
    /// Milliseconds since that report.
    pub silent_millis: Option<u64>,
    /// Whether the balancer may send requests to it.
    pub is_in_service: bool,
}

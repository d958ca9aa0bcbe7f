//! One deploy: who asked for what, how far it is, how it ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::Release;
use crate::id::{DeployId, Generation, InstanceName, Millis};
use crate::slot::SlotName;
use crate::table::ReleaseStatus;

/// Why a deploy was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The first release of a new site.
    Install,
    /// `flotilla deploy`.
    Command,
    /// `git push`.
    Push,
    /// `flotilla rollback`.
    Rollback,
    /// A change that somebody made in the workshop.
    Capture,
}

/// A request to bring a release into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its number.
    pub id: DeployId,
    /// The release.
    pub release: Release,
    /// Why.
    pub cause: Cause,
    /// Who asked, as people know them.
    pub author: String,
    /// When it was asked for.
    pub requested_at: Millis,
    /// Whether it may go back over a database upgrade.
    pub is_forced: bool,
    /// Whether it may wait behind another deploy.
    pub waits: bool,
}

/// How far a deploy is. Up to and with [`Phase::Upgrading`], no visitor has seen the new release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Phase {
    /// The idle slots end the requests they still have from the deploy before.
    Draining,
    /// The instances receive the release into their idle slots.
    Preparing,
    /// The balancer holds new requests; those in flight end.
    Holding,
    /// The database is being upgraded while requests are held.
    Upgrading,
    /// The balancer is told to swap.
    CuttingOver,
    /// The new release serves; its errors are watched.
    Verifying {
        /// How the old release had done when it was swapped out.
        baseline: Option<ReleaseStatus>,
    },
    /// The balancer is told to swap back.
    SwappingBack {
        /// What was wrong with the new release.
        reason: String,
    },
}

impl Phase {
    /// Names the phase as status shows it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Preparing => "preparing",
            Self::Holding => "holding",
            Self::Upgrading => "upgrading",
            Self::CuttingOver => "cutting over",
            Self::Verifying { .. } => "verifying",
            Self::SwappingBack { .. } => "swapping back",
        }
    }

    /// Whether the database may have been upgraded for the release.
    #[must_use]
    pub(crate) const fn may_have_upgraded(&self) -> bool {
        !matches!(self, Self::Draining | Self::Preparing | Self::Holding)
    }
}

/// A deploy under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// What was asked for.
    pub request: Request,
    /// The colour it is prepared in.
    pub slot: SlotName,
    /// What that colour held before; it is put back when the deploy fails before the cutover.
    pub displaced: Option<Release>,
    /// How far it is.
    pub phase: Phase,
    /// When the deploy began.
    pub started_at: Millis,
    /// When the phase began.
    pub phase_since: Millis,
    /// The generation that was made after the balancer confirmed the hold: reports of it tell what
    /// runs on although new requests are held.
    #[serde(default)]
    pub held_in: Option<Generation>,
    /// When the balancer confirmed the cutover.
    pub cut_over_at: Option<Millis>,
    /// Why it shall end before its time, once somebody has asked for that.
    #[serde(default)]
    pub called_off: Option<String>,
}

impl Deploy {
    pub(crate) const fn new(
        request: Request,
        slot: SlotName,
        displaced: Option<Release>,
        now: Millis,
    ) -> Self {
        Self {
            request,
            slot,
            displaced,
            phase: Phase::Draining,
            started_at: now,
            phase_since: now,
            held_in: None,
            cut_over_at: None,
            called_off: None,
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: Millis) {
        self.phase = phase;
        self.phase_since = now;
    }
}

/// How a deploy ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Outcome {
    /// The release serves.
    Settled {
        /// How many instances serve it.
        instances: usize,
        /// Those that did not when the deploy ended, and join when they are ready.
        #[serde(default)]
        left_out: Vec<LeftOut>,
    },
    /// It was never served.
    Failed {
        /// Why not.
        reason: String,
    },
    /// It was served and taken back.
    SwappedBack {
        /// Why.
        reason: String,
    },
    /// It never began.
    Superseded {
        /// What took its place.
        #[serde(default)]
        reason: String,
    },
}

/// An instance that a deploy did not wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The instance.
    pub instance: InstanceName,
    /// Why it does not serve the release.
    pub reason: String,
}

impl Outcome {
    /// Returns whether the release serves at the end.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Settled { .. })
    }

    /// Names the outcome as `flotilla releases` shows it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Settled { .. } => "settled",
            Self::Failed { .. } => "failed",
            Self::SwappedBack { .. } => "swapped back",
            Self::Superseded { .. } => "superseded",
        }
    }

    /// Says why the release does not serve, or not on every instance; empty when all is well.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Settled { left_out, .. } => {
                let told = left_out
                    .iter()
                    .map(|one| format!("`{}` was left out: {}", one.instance, one.reason));
                told.collect::<Vec<_>>().join("; ")
            }
            Self::Failed { reason }
            | Self::SwappedBack { reason }
            | Self::Superseded { reason } => reason.clone(),
        }
    }
}

/// When a deploy holds requests at the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HoldMode {
    /// When the release brings a newer database version.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never; an upgrade then runs beside the serving release.
    Never,
}

/// The limits of a deploy, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// An agent that was not heard of for this long is not waited for.
    pub lease: Duration,
    /// How long to wait for instances to prepare.
    pub prepare_timeout: Duration,
    /// The part of the answering instances that must be ready, 0 to 1.
    pub min_ready: f64,
    /// When to hold requests.
    pub hold: HoldMode,
    /// How long requests may be held.
    pub hold_limit: Duration,
    /// How long the last requests of an old release may take.
    pub drain_timeout: Duration,
    /// How long to watch a new release.
    pub verify_window: Duration,
    /// How much higher than the old release's the share of errors may be, 0 to 1.
    pub max_error_ratio: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            prepare_timeout: Duration::from_secs(120),
            min_ready: 0.7,
            hold: HoldMode::Auto,
            hold_limit: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(30),
            verify_window: Duration::from_secs(10),
            max_error_ratio: 0.02,
        }
    }
}

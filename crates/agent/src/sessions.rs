//! The instance's session gateway: a process of its own that outlives the agent, so that an agent
//! that dies takes no cart with it.

use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::api::SlotSettings;
use flotilla_core::layout;
use flotilla_host::files::{Access, FileError, make_directory, write_atomic};
use flotilla_host::launch::Launch;
use flotilla_host::ownership::set_mode;
use flotilla_host::unit::Unit;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::Options;

const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What the gateway's process is told, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewaySpec {
    /// The socket for PHP.
    pub socket: PathBuf,
    /// The group that may connect; only root can give it to one.
    pub group: String,
    /// The file that lists the nodes, one a line.
    pub nodes: PathBuf,
}

/// The session gateway of an instance.
#[derive(Debug, Clone)]
pub(crate) struct SessionGateway {
    unit: Unit,
    nodes: PathBuf,
}

impl SessionGateway {
    /// Makes its directories; starts nothing.
    pub(crate) fn open(options: &Options) -> Result<Self, FileError> {
        let directory = options.directory.join("sessions");
        let run = socket_directory(options);
        make_directory(&run)?;
        set_mode(&run, 0o755)?;
        let nodes = directory.join("nodes");
        let spec = GatewaySpec {
            socket: run.join(layout::SESSIONS_SOCKET),
            group: options.php_group.clone(),
            nodes: nodes.clone(),
        };
        let unit = Unit {
            name: format!("{}-sessions", options.instance),
            own_program: options.own_program.clone(),
            launch: Launch {
                program: options.own_program.clone(),
                args: vec![
                    "internal".into(),
                    "sessions".into(),
                    serde_json::to_string(&spec).unwrap_or_default(),
                ],
                env: Vec::new(),
                directory: PathBuf::from("/"),
                lock: directory.join("sessions.lock"),
                log: directory.join("log/sessions.log"),
                user: None,
                room: None,
            },
            stop_signal: Signal::SIGTERM,
            stop_timeout: STOP_TIMEOUT,
        };
        make_directory(&directory.join("log"))?;
        Ok(Self { unit, nodes })
    }

    /// Tells it which nodes there are; it follows without a restart.
    pub(crate) fn use_nodes(&self, settings: &SlotSettings) -> Result<(), FileError> {
        let list = settings.session_nodes.iter().map(|node| format!("{node}\n"));
        write_atomic(&self.nodes, list.collect::<String>().as_bytes(), Access::Private)
    }

    /// Keeps it running as soon as there are nodes; it goes on when the agent ends.
    pub(crate) async fn keep(self, stopping: CancellationToken) {
        while !self.nodes.exists() {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        self.unit.keep(stopping).await;
    }
}

/// Returns the directory that slots see as [`layout::SESSIONS`].
pub(crate) fn socket_directory(options: &Options) -> PathBuf {
    options.directory.join("sessions/run")
}

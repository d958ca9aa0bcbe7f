//! The instance's session gateway: a process of its own that outlives the agent, so that an agent
//! that dies takes no cart with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::api::{SessionStore, SlotSettings};
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
    /// The file that says what keeps the sessions, a [`SessionStore`] as JSON.
    pub store: PathBuf,
    /// The file that lists the nodes, one a line, when nodes keep them.
    pub nodes: PathBuf,
}

/// The session gateway of an instance.
#[derive(Debug, Clone)]
pub(crate) struct SessionGateway {
    unit: Unit,
    store: PathBuf,
    nodes: PathBuf,
}

impl SessionGateway {
    /// Makes its directories; starts nothing.
    pub(crate) fn open(options: &Options) -> Result<Self, FileError> {
        let directory = options.directory.join("sessions");
        let run = socket_directory(options);
        make_directory(&run)?;
        set_mode(&run, 0o755)?;
        let (store, nodes) = (directory.join("store.json"), directory.join("nodes"));
        let spec = GatewaySpec {
            socket: run.join(layout::SESSIONS_SOCKET),
            group: options.php_group.clone(),
            store: store.clone(),
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
        Ok(Self { unit, store, nodes })
    }

    /// Tells it what keeps the sessions. It follows a list of nodes without a restart; for another
    /// kind of store it ends, and is started anew.
    pub(crate) fn use_store(&self, settings: &SlotSettings) -> Result<(), FileError> {
        tell_store(&self.store, &self.nodes, &settings.session_store)
    }

    /// Keeps it running as soon as there is a store; it goes on when the agent ends.
    pub(crate) async fn keep(self, stopping: CancellationToken) {
        while !self.store.exists() {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        self.unit.keep(stopping).await;
    }
}

fn tell_store(file: &Path, nodes: &Path, store: &SessionStore) -> Result<(), FileError> {
    if let SessionStore::Nodes { addresses } = store {
        let list: String = addresses.iter().map(|node| format!("{node}\n")).collect();
        write_atomic(nodes, list.as_bytes(), Access::Private)?;
    }
    // It comes last: whoever reads that nodes keep the sessions finds the list.
    let text = serde_json::to_vec(store).unwrap_or_default();
    write_atomic(file, &text, Access::Private)
}

/// Returns the directory that slots see as [`layout::SESSIONS`].
pub(crate) fn socket_directory(options: &Options) -> PathBuf {
    options.directory.join("sessions/run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_told_the_store_and_the_nodes_that_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let (file, nodes) = (directory.path().join("store.json"), directory.path().join("nodes"));
        let told = || serde_json::from_slice(&std::fs::read(&file).unwrap()).ok();
        let table = SessionStore::Table {
            name: "shop".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: None,
        };
        tell_store(&file, &nodes, &table).unwrap();
        assert_eq!(told(), Some(table));
        assert!(!nodes.exists());
        let addresses = vec!["10.0.0.5:11211".to_owned(), "10.0.0.6:11211".to_owned()];
        let list = SessionStore::Nodes { addresses };
        tell_store(&file, &nodes, &list).unwrap();
        assert_eq!(told(), Some(list));
        let text = std::fs::read_to_string(&nodes).unwrap();
        assert_eq!(text, "10.0.0.5:11211\n10.0.0.6:11211\n");
    }
}

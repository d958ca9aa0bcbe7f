//! The session gateway beside PHP: a process of its own that outlives whoever starts it, so that an
//! agent that dies takes no cart with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::api::{SessionStore, SlotSettings};
use flotilla_core::layout;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::files::{Access, FileError, make_directory, write_atomic};
use crate::launch::Launch;
use crate::ownership::set_mode;
use crate::unit::Unit;

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

/// A session gateway.
#[derive(Debug, Clone)]
pub struct SessionGateway {
    unit: Unit,
    sockets: PathBuf,
    store: PathBuf,
    nodes: PathBuf,
}

impl SessionGateway {
    /// Makes its directories; starts nothing. `name` is the unit's in messages, `group` the one that
    /// may connect.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(
        name: String,
        directory: &Path,
        own_program: &Path,
        group: &str,
    ) -> Result<Self, FileError> {
        let run = directory.join("run");
        make_directory(&run)?;
        set_mode(&run, 0o755)?;
        let (store, nodes) = (directory.join("store.json"), directory.join("nodes"));
        let spec = GatewaySpec {
            socket: run.join(layout::SESSIONS_SOCKET),
            group: group.to_owned(),
            store: store.clone(),
            nodes: nodes.clone(),
        };
        let unit = Unit {
            name,
            own_program: own_program.to_owned(),
            launch: Launch {
                program: own_program.to_owned(),
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
        Ok(Self { unit, sockets: run, store, nodes })
    }

    /// Returns the directory that PHP sees as [`layout::SESSIONS`].
    #[must_use]
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// Tells it what keeps the sessions. It follows a list of nodes without a restart; for another
    /// kind of store it ends, and is started anew.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn use_store(&self, settings: &SlotSettings) -> Result<(), FileError> {
        tell_store(&self.store, &self.nodes, &settings.session_store)
    }

    /// Keeps it running as soon as there is a store; it goes on when this process ends.
    pub async fn keep(self, stopping: CancellationToken) {
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

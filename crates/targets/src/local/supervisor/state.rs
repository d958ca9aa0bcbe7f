//! What the supervisor says of itself and its services, in a file for whoever asks.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::error::chain;
use flotilla_host::files::{Access, write_json};
use flotilla_host::unit::UnitState;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const WRITE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The services by name.
pub type UnitStates = BTreeMap<String, UnitState>;

/// The content of `supervisor.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SupervisorState {
    /// The process that wrote it; whether it lives is told by its lock.
    pub pid: u32,
    /// What it is about: `running` once all has been started.
    pub stage: String,
    /// Why it gave up, if it did.
    pub error: Option<String>,
    /// Its services.
    pub units: UnitStates,
    /// What is wrong with services although they may well run.
    pub troubles: BTreeMap<String, String>,
}

/// The state, to be changed by any task.
#[derive(Debug, Clone)]
pub(super) struct State(Arc<watch::Sender<SupervisorState>>);

impl State {
    pub(super) fn new() -> Self {
        let first = SupervisorState {
            pid: std::process::id(),
            stage: "starting".to_owned(),
            ..SupervisorState::default()
        };
        Self(Arc::new(watch::Sender::new(first)))
    }

    pub(super) fn enter(&self, stage: &str) {
        tracing::info!(stage, "The supervisor goes on");
        self.0.send_modify(|state| stage.clone_into(&mut state.stage));
    }

    pub(super) fn fail(&self, error: &dyn Error) {
        self.0.send_modify(|state| state.error = Some(chain(error)));
    }

    pub(super) fn report(&self, name: &str, now: &UnitState) {
        self.0.send_modify(|state| drop(state.units.insert(name.to_owned(), now.clone())));
    }

    pub(super) fn trouble(&self, name: &str, error: &dyn Error) {
        let text = chain(error);
        self.0.send_if_modified(|state| {
            let is_news = state.troubles.get(name) != Some(&text);
            if is_news {
                tracing::warn!(unit = name, error = text, "A service gives trouble");
                state.troubles.insert(name.to_owned(), text);
            }
            is_news
        });
    }

    pub(super) fn well(&self, name: &str) {
        self.0.send_if_modified(|state| state.troubles.remove(name).is_some());
    }

    pub(super) fn forget(&self, name: &str) {
        self.0.send_modify(|state| {
            state.units.remove(name);
            state.troubles.remove(name);
        });
    }
}

/// Writes the state whenever it has changed, and a last time at the end.
pub(super) async fn write_state(state: State, path: PathBuf, stopping: CancellationToken) {
    let mut changes = state.0.subscribe();
    loop {
        let now = changes.borrow_and_update().clone();
        if let Err(error) = write_json(&path, &now, Access::Private) {
            tracing::error!(error = chain(&error), "The supervisor's state cannot be written");
        }
        tokio::select! {
            () = stopping.cancelled() => break,
            () = tokio::time::sleep(WRITE_INTERVAL_MIN) => {}
        }
        tokio::select! {
            () = stopping.cancelled() => break,
            _ = changes.changed() => {}
        }
    }
    let last = changes.borrow().clone();
    if let Err(error) = write_json(&path, &last, Access::Private) {
        tracing::error!(error = chain(&error), "The supervisor's state cannot be written");
    }
}

//! What the engine does to the world: push tables, poll the balancer, upgrade, ask smoke URLs.
//!
//! Each effect runs as a task of its own, at most one of a kind, and hands its result back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_core::id::{DeployId, Revision, Token};
use flotilla_core::table::{BalancerStatus, STATUS_PATH, TABLE_PATH, Table};
use flotilla_host::tasks::Tasks;
use tokio::sync::mpsc;

use crate::smoke::Smoke;
use crate::workshop::Workshop;

const BALANCER_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of an effect.
#[derive(Debug)]
pub enum Finished {
    /// What the balancer said; `None` when it did not answer.
    Balancer(Option<BalancerStatus>),
    /// How the database upgrade went.
    Upgrade(DeployId, Result<(), String>),
    /// How the smoke requests went.
    Smoke(DeployId, Result<(), String>),
}

/// The balancer's control interface.
#[derive(Debug, Clone)]
pub struct Balancer {
    /// Its address.
    pub control: SocketAddr,
    /// The token it accepts.
    pub token: Token,
    /// The client to ask it with.
    pub client: reqwest::Client,
}

/// Everything that effects act on.
#[derive(Debug, Clone)]
pub struct Effects {
    /// Where tables go.
    pub balancer: Balancer,
    /// Where the database is upgraded.
    pub workshop: Arc<Workshop>,
    /// How a release is tried.
    pub smoke: Smoke,
    /// How long an upgrade may take.
    pub upgrade_timeout: Duration,
}

impl Effects {
    pub(crate) fn bind(self, results: mpsc::Sender<Finished>, tasks: Tasks) -> Bound {
        Bound { effects: self, results, tasks, busy: Arc::default() }
    }
}

/// Effects that know where their results go.
pub(crate) struct Bound {
    effects: Effects,
    results: mpsc::Sender<Finished>,
    tasks: Tasks,
    busy: Arc<Busy>,
}

#[derive(Default)]
struct Busy {
    push: AtomicBool,
    poll: AtomicBool,
    upgrade: AtomicBool,
    smoke: AtomicBool,
}

impl Bound {
    pub(crate) fn stop(&self) {
        self.tasks.stopping().cancel();
    }

    pub(crate) fn poll_balancer(&self) {
        let balancer = self.effects.balancer.clone();
        self.run("poll_balancer", |busy| &busy.poll, async move {
            Finished::Balancer(balancer.status().await)
        });
    }

    pub(crate) fn push_table(&self, table: &Table) {
        let balancer = self.effects.balancer.clone();
        let table = table.clone();
        self.run("push_table", |busy| &busy.push, async move {
            Finished::Balancer(balancer.push(&table).await)
        });
    }

    pub(crate) fn upgrade(&self, id: DeployId, revision: Revision) {
        let workshop = Arc::clone(&self.effects.workshop);
        let limit = self.effects.upgrade_timeout;
        self.run("upgrade_database", |busy| &busy.upgrade, async move {
            let outcome = workshop.upgrade_database(&revision, limit).await;
            Finished::Upgrade(id, outcome.map_err(|error| chain(&error)))
        });
    }

    pub(crate) fn smoke(&self, id: DeployId, old: Vec<SocketAddr>) {
        let smoke = self.effects.smoke.clone();
        self.run("ask_smoke_urls", |busy| &busy.smoke, async move {
            Finished::Smoke(id, smoke.run(&old).await)
        });
    }

    fn run(
        &self,
        name: &'static str,
        flag: fn(&Busy) -> &AtomicBool,
        work: impl Future<Output = Finished> + Send + 'static,
    ) {
        if flag(&self.busy).swap(true, Ordering::AcqRel) {
            return;
        }
        let (results, busy, stopping) =
            (self.results.clone(), Arc::clone(&self.busy), self.tasks.stopping());
        self.tasks.spawn(name, async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                finished = work => {
                    flag(&busy).store(false, Ordering::Release);
                    drop(results.send(finished).await);
                }
            }
        });
    }
}

impl Balancer {
    async fn status(&self) -> Option<BalancerStatus> {
        let request = self.client.get(self.url(STATUS_PATH));
        Self::send(request.bearer_auth(self.token.reveal())).await
    }

    /// Sends a table. A balancer that refuses it tells its version in the next poll.
    async fn push(&self, table: &Table) -> Option<BalancerStatus> {
        let request = self.client.put(self.url(TABLE_PATH)).json(table);
        match Self::send(request.bearer_auth(self.token.reveal())).await {
            Some(status) => Some(status),
            None => self.status().await,
        }
    }

    async fn send(request: reqwest::RequestBuilder) -> Option<BalancerStatus> {
        let response = request.timeout(BALANCER_TIMEOUT).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.control)
    }
}

/// Writes an error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

//! What the engine does to the world: push tables, poll the balancer, upgrade, ask smoke URLs.
//!
//! Each effect runs as a task of its own, at most one of a kind, and hands its result back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_core::error::chain;
use flotilla_core::id::{DeployId, Millis, Revision, Token};
use flotilla_core::plan::Upgraded;
use flotilla_core::table::{BalancerStatus, STATUS_PATH, TABLE_PATH, Table};
use flotilla_host::tasks::Tasks;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::maintenance::Maintenance;
use crate::smoke::Smoke;
use crate::upgrade::upgrade;

/// A balancer that does not take a table is left alone for this long.
const PUSH_RETRY: Duration = Duration::from_millis(200);
const BALANCER_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of an effect.
#[derive(Debug)]
pub enum Finished {
    /// What the balancer said; `None` when it did not answer.
    Balancer(Option<BalancerStatus>),
    /// The table that the balancer follows.
    Table(Option<Table>),
    /// The code is ready for the upgrade, or is not, which the upgrade will tell.
    Ready,
    /// How the database upgrade went.
    Upgrade(DeployId, Upgraded),
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
    pub maintenance: Arc<Maintenance>,
    /// How a release is tried.
    pub smoke: Smoke,
    /// How long an upgrade may take.
    pub upgrade_timeout: Duration,
}

impl Effects {
    pub(crate) fn bind(self, results: mpsc::Sender<Finished>, tasks: Tasks) -> Bound {
        Bound {
            effects: self,
            results,
            tasks,
            busy: Arc::default(),
            readied: None,
            upgrading: None,
        }
    }
}

/// Effects that know where their results go.
pub(crate) struct Bound {
    effects: Effects,
    results: mpsc::Sender<Finished>,
    tasks: Tasks,
    busy: Arc<Busy>,
    /// What maintenance was last made ready for.
    readied: Option<Revision>,
    /// The upgrade that was begun last, and until when it may run.
    upgrading: Option<(DeployId, watch::Sender<Millis>)>,
}

#[derive(Default)]
struct Busy {
    push: AtomicBool,
    ready: AtomicBool,
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
            let status = balancer.push(&table).await;
            // The planner asks again as long as the table is not taken.
            if status.as_ref().is_none_or(|status| status.version != table.version) {
                tokio::time::sleep(PUSH_RETRY).await;
            }
            Finished::Balancer(status)
        });
    }

    pub(crate) fn fetch_table(&self) {
        let balancer = self.effects.balancer.clone();
        self.run("fetch_table", |busy| &busy.push, async move {
            let table = balancer.table().await;
            if table.is_none() {
                tokio::time::sleep(PUSH_RETRY).await;
            }
            Finished::Table(table)
        });
    }

    pub(crate) fn ready_upgrade(&mut self, revision: Revision) {
        if self.readied.as_ref() == Some(&revision) {
            return;
        }
        self.readied = Some(revision.clone());
        let maintenance = Arc::clone(&self.effects.maintenance);
        self.run("ready_upgrade", |busy| &busy.ready, async move {
            if let Err(error) = maintenance.check_out(&revision).await {
                tracing::warn!(
                    error = chain(&error),
                    "The code for the upgrade cannot be made ready"
                );
            }
            Finished::Ready
        });
    }

    /// Upgrades the database, or tells the upgrade that runs until when it may; one of another
    /// deploy is ended first.
    pub(crate) fn upgrade(&mut self, id: DeployId, revision: Revision, until: Millis) {
        if self.busy.upgrade.load(Ordering::Acquire) {
            if let Some((_, limit)) = self.upgrading.as_ref().filter(|(one, _)| *one == id) {
                limit.send_replace(until);
            } else {
                self.end_upgrade();
            }
            return;
        }
        let (sender, receiver) = watch::channel(until);
        self.upgrading = Some((id, sender));
        let maintenance = Arc::clone(&self.effects.maintenance);
        let limit = self.effects.upgrade_timeout;
        self.run("upgrade_database", |busy| &busy.upgrade, async move {
            Finished::Upgrade(id, upgrade(&maintenance, &revision, limit, receiver).await)
        });
    }

    /// Ends an upgrade that nobody wants any more; it still tells what came of it.
    pub(crate) fn end_upgrade(&self) {
        if let Some((_, limit)) = &self.upgrading {
            limit.send_replace(Millis(0));
        }
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
    /// Asks how it is; `None` when it does not answer or does not take the token.
    pub(crate) async fn status(&self) -> Option<BalancerStatus> {
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

    async fn table(&self) -> Option<Table> {
        let request = self.client.get(self.url(TABLE_PATH));
        Self::send(request.bearer_auth(self.token.reveal())).await
    }

    async fn send<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Option<T> {
        let response = request.timeout(BALANCER_TIMEOUT).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.control)
    }
}

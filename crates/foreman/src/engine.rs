//! Drives the fleet: gathers what is observed, asks the planner, stores its answer, does the effects.
//!
//! One task owns the fleet's document. Everybody else sends it messages and reads its snapshots.
//! Decisions are in `flotilla_core::plan`; here is only the order "store, then act".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::api::DeployRecord;
use flotilla_core::deploy::{Cause, Outcome, Phase, Policy, Request};
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::fleet::{Accepted, Fleet, Release};
use flotilla_core::id::{DeployId, InstanceName, Millis, Revision};
use flotilla_core::plan::{Effect, Event, Observed, Seen, Upgraded, plan};
use flotilla_core::report::AgentReport;
use flotilla_core::table::{BalancerStatus, Table};
use flotilla_host::tasks::Tasks;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock;
use crate::effects::{Effects, Finished};
use crate::store::{Store, StoreError};

const MESSAGES_MAX: usize = 256;
/// How often the planner looks when nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// How often it looks while a deploy is under way.
const TICK_IN_DEPLOY: Duration = Duration::from_millis(50);
/// A planner that does not come to rest within this many steps has a fault.
const STEPS_MAX: usize = 32;

/// What others can see of the fleet at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The stored document.
    pub fleet: Fleet,
    /// The newest report of each agent.
    pub reports: BTreeMap<InstanceName, Seen>,
    /// What the balancer said last; `None` when it does not answer.
    pub balancer: Option<BalancerStatus>,
}

/// A deploy to start, with what the foreman read out of the repository.
#[derive(Debug, Clone)]
pub struct Order {
    /// The release.
    pub release: Release,
    /// The first line of its commit's message.
    pub subject: String,
    /// Why.
    pub cause: Cause,
    /// Who asked.
    pub author: String,
    /// Whether it may go back over a database upgrade.
    pub is_forced: bool,
    /// Whether it may wait behind another deploy.
    pub waits: bool,
}

/// Who ends the deploy under way.
#[derive(Debug, Clone)]
pub struct CallOff {
    /// Who asked.
    pub author: String,
    /// Whether it may go back over a database upgrade.
    pub is_forced: bool,
}

/// The deploy that was called off; `None` when there was none.
pub type CalledOff = Option<(DeployId, Revision)>;

enum Message {
    Deploy(Order, oneshot::Sender<Result<(DeployId, Accepted), Failure>>),
    Refuse(Order, String, oneshot::Sender<Result<DeployId, Failure>>),
    CallOff(CallOff, oneshot::Sender<Result<CalledOff, Failure>>),
    Resize(u16, oneshot::Sender<Result<(), Failure>>),
    Report(AgentReport),
    Finished(Finished),
}

/// The way to the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    messages: mpsc::Sender<Message>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Engine {
    /// Reads the stored fleet and starts to drive it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(
        store: Store,
        effects: Effects,
        policy: Policy,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let fleet = store.fleet().await?;
        let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
        let snapshot = Snapshot { fleet: fleet.clone(), ..Snapshot::default() };
        let (publisher, snapshots) = watch::channel(Arc::new(snapshot));
        let (finished, mut results) = mpsc::channel(MESSAGES_MAX);
        let driver = Driver {
            store,
            effects: effects.bind(finished, tasks.clone()),
            policy,
            fleet,
            observed: Observed { since: clock::now(), ..Observed::default() },
            publisher,
        };
        let stopping = tasks.stopping();
        let forward = messages.clone();
        tasks.spawn("forward_results", async move {
            while let Some(result) = results.recv().await {
                if forward.send(Message::Finished(result)).await.is_err() {
                    return;
                }
            }
        });
        tasks.spawn("drive_fleet", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = driver.run(inbox) => {}
            }
        });
        Ok(Self { messages, snapshots })
    }

    /// Returns the newest snapshot, and a way to wait for the next.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Asks for a deploy.
    ///
    /// # Errors
    /// As [`Fleet::request`].
    pub async fn deploy(&self, order: Order) -> Result<(DeployId, Accepted), Failure> {
        self.ask(|reply| Message::Deploy(order, reply)).await
    }

    /// Puts a deploy that cannot begin into the history, with the reason.
    ///
    /// # Errors
    /// The foreman is stopping.
    pub async fn refuse(&self, order: Order, reason: String) -> Result<DeployId, Failure> {
        self.ask(|reply| Message::Refuse(order, reason, reply)).await
    }

    /// Ends the deploy under way before its time.
    ///
    /// # Errors
    /// As [`Fleet::call_off`].
    pub async fn call_off(&self, request: CallOff) -> Result<CalledOff, Failure> {
        self.ask(|reply| Message::CallOff(request, reply)).await
    }

    /// Sets the number of instances.
    ///
    /// # Errors
    /// The foreman is stopping or its store failed.
    pub async fn resize(&self, count: u16) -> Result<(), Failure> {
        self.ask(|reply| Message::Resize(count, reply)).await
    }

    /// Hands in an agent's report.
    pub async fn report(&self, report: AgentReport) {
        // A stopping engine has no use for it; the agent will report again.
        drop(self.messages.send(Message::Report(report)).await);
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Message,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Failure::new(ErrorKind::Unavailable, "the foreman is stopping");
        self.messages.send(message(reply)).await.map_err(|_lost| stopping())?;
        answer.await.map_err(|_lost| stopping())?
    }
}

struct Driver {
    store: Store,
    effects: crate::effects::Bound,
    policy: Policy,
    fleet: Fleet,
    observed: Observed,
    publisher: watch::Sender<Arc<Snapshot>>,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut polled_at = Instant::now();
        self.effects.poll_balancer();
        loop {
            let tick = if self.fleet.deploy.is_some() { TICK_IN_DEPLOY } else { TICK };
            let message = tokio::select! {
                message = inbox.recv() => message,
                () = tokio::time::sleep_until(polled_at + tick) => {
                    polled_at = Instant::now();
                    self.effects.poll_balancer();
                    None
                }
            };
            let outcome = self.take(message).await;
            if let Err(error) = outcome.and(self.settle().await) {
                // The document in memory may be ahead of the stored one: only a restart is safe.
                tracing::error!(%error, "The foreman's store failed; stopping so that a restart repairs");
                return self.effects.stop();
            }
            self.publish();
        }
    }

    async fn take(&mut self, message: Option<Message>) -> Result<(), StoreError> {
        self.observed.now = clock::now();
        match message {
            None => {}
            Some(Message::Report(report)) => {
                let seen = Seen { at: self.observed.now, report };
                self.observed.reports.insert(seen.report.instance.clone(), seen);
            }
            Some(Message::Finished(Finished::Table(Some(table)))) => self.adopt(&table).await?,
            Some(Message::Finished(Finished::Upgrade(id, upgraded))) => {
                self.note_upgrade(id, upgraded).await?;
            }
            Some(Message::Finished(finished)) => self.note(finished),
            Some(Message::Resize(count, reply)) => {
                if self.fleet.resize(count, self.observed.now) {
                    self.store.commit(&self.fleet, Vec::new()).await?;
                }
                drop(reply.send(Ok(())));
            }
            Some(Message::Deploy(order, reply)) => {
                let outcome = self.accept(order).await?;
                drop(reply.send(outcome));
            }
            Some(Message::Refuse(order, reason, reply)) => {
                let id = self.refuse(order, reason).await?;
                drop(reply.send(Ok(id)));
            }
            Some(Message::CallOff(request, reply)) => {
                let outcome = self.call_off(&request).await?;
                drop(reply.send(outcome));
            }
        }
        Ok(())
    }

    fn note(&mut self, finished: Finished) {
        match finished {
            Finished::Ready | Finished::Table(_) | Finished::Upgrade(..) => {}
            Finished::Balancer(status) => self.observed.balancer = status,
            Finished::Smoke(id, outcome) => self.observed.smoke = Some((id, outcome)),
        }
    }

    /// Stores what the database says, also when the deploy that upgraded it is over.
    async fn note_upgrade(&mut self, id: DeployId, upgraded: Upgraded) -> Result<(), StoreError> {
        let mut next = self.fleet.clone();
        if next.learn_database(upgraded.database) {
            self.store.commit(&next, Vec::new()).await?;
            self.fleet = next;
        }
        self.observed.upgrade = Some((id, upgraded));
        Ok(())
    }

    /// Goes on from what serves: the store was lost or put back from a backup.
    async fn adopt(&mut self, table: &Table) -> Result<(), StoreError> {
        let mut next = self.fleet.clone();
        let seen = self.observed.reports.values().map(|seen| seen.report.generation).max();
        let abandoned = next.adopt(table, seen.unwrap_or_default());
        if next == self.fleet {
            return Ok(());
        }
        let reason = "the foreman's store was older than the fleet".to_owned();
        let mut records = Vec::new();
        if let Some(request) = abandoned {
            records.extend(self.ended(&request, Outcome::Failed { reason }, None).await?);
        }
        self.store.commit(&next, records).await?;
        self.fleet = next;
        tracing::warn!(
            event = "fleet.adopted",
            version = table.version,
            "The store is older than the fleet; what the balancer serves is taken over"
        );
        Ok(())
    }

    async fn accept(
        &mut self,
        order: Order,
    ) -> Result<Result<(DeployId, Accepted), Failure>, StoreError> {
        let (request, subject) = self.number(order);
        let id = request.id;
        let mut next = self.fleet.clone();
        let accepted = match next.request(request.clone(), self.observed.now) {
            Ok(accepted) => accepted,
            Err(failure) => return Ok(Err(failure)),
        };
        next.last_deploy = id;
        let mut records = vec![record(&request, subject)];
        if let Accepted::Queued { superseded: Some(old), .. } = &accepted {
            let reason = format!("deploy {id} took its place");
            records.extend(self.ended(old, Outcome::Superseded { reason }, None).await?);
        }
        self.store.commit(&next, records).await?;
        self.fleet = next;
        tracing::info!(
            deploy = id.0,
            revision = request.release.revision.as_str(),
            author = request.author,
            "A deploy was accepted"
        );
        Ok(Ok((id, accepted)))
    }

    async fn refuse(&mut self, order: Order, reason: String) -> Result<DeployId, StoreError> {
        let (request, subject) = self.number(order);
        let mut next = self.fleet.clone();
        next.last_deploy = request.id;
        let record = DeployRecord {
            ended_at: Some(self.observed.now),
            outcome: Some(Outcome::Failed { reason }),
            ..record(&request, subject)
        };
        self.store.commit(&next, vec![record]).await?;
        self.fleet = next;
        Ok(request.id)
    }

    /// Makes the next deploy's request of an order; the commit's subject goes into the history.
    fn number(&self, order: Order) -> (Request, String) {
        let request = Request {
            id: DeployId(self.fleet.last_deploy.0 + 1),
            release: order.release,
            cause: order.cause,
            author: order.author,
            requested_at: self.observed.now,
            is_forced: order.is_forced,
            waits: order.waits,
        };
        (request, order.subject)
    }

    async fn call_off(
        &mut self,
        request: &CallOff,
    ) -> Result<Result<CalledOff, Failure>, StoreError> {
        let mut next = self.fleet.clone();
        let called_off = match next.call_off(&request.author, request.is_forced) {
            Ok(Some(called_off)) => called_off,
            Ok(None) => return Ok(Ok(None)),
            Err(failure) => return Ok(Err(failure)),
        };
        let mut records = Vec::new();
        if let Some(waiting) = &called_off.waiting {
            let behind = called_off.request.id;
            let reason = format!("deploy {behind} before it was called off by {}", request.author);
            records.extend(self.ended(waiting, Outcome::Superseded { reason }, None).await?);
        }
        let called_off = (called_off.request.id, called_off.request.release.revision);
        self.store.commit(&next, records).await?;
        self.fleet = next;
        tracing::info!(deploy = called_off.0.0, author = request.author, "A deploy was called off");
        Ok(Ok(Some(called_off)))
    }

    /// Plans until nothing changes; stores each step before its effects are done.
    async fn settle(&mut self) -> Result<(), StoreError> {
        for _ in 0..STEPS_MAX {
            let step = plan(&self.fleet, &self.observed, &self.policy);
            let is_settled = step.next.is_none();
            if let Some(next) = step.next {
                let mut records = Vec::new();
                for event in &step.events {
                    records.extend(self.record_of(event).await?);
                }
                self.store.commit(&next, records).await?;
                self.fleet = next;
            }
            for event in step.events {
                announce(&event);
                if let Event::Left(instance) = event {
                    self.observed.reports.remove(&instance);
                    self.store.revoke(instance).await?;
                }
            }
            if is_settled {
                let is_upgrade = |effect: &Effect| matches!(effect, Effect::UpgradeDatabase(..));
                if !step.effects.iter().any(is_upgrade) {
                    self.effects.end_upgrade();
                }
                for effect in step.effects {
                    self.act(effect);
                }
                return Ok(());
            }
        }
        tracing::error!("The planner does not come to rest; waiting for the next observation");
        Ok(())
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::AdoptTable => self.effects.fetch_table(),
            Effect::PushTable => self.effects.push_table(&self.fleet.table),
            Effect::ReadyUpgrade(revision) => self.effects.ready_upgrade(revision),
            Effect::UpgradeDatabase(id, revision, until) => {
                self.effects.upgrade(id, revision, until);
            }
            Effect::RunSmoke(id) => {
                let old = self.old_slots();
                self.effects.smoke(id, old);
            }
        }
    }

    /// Returns where the release before the one in service can be asked directly.
    fn old_slots(&self) -> Vec<std::net::SocketAddr> {
        let slot = self.fleet.serving.other();
        let revision: Option<&Revision> =
            self.fleet.releases.get(slot).as_ref().map(|release| &release.revision);
        self.observed
            .reports
            .values()
            .map(|seen| seen.report.slots.get(slot))
            .filter(|report| report.is_ready && report.revision.as_ref() == revision)
            .filter_map(|report| report.address)
            .collect()
    }

    async fn record_of(&self, event: &Event) -> Result<Option<DeployRecord>, StoreError> {
        match event {
            Event::Ended(request, outcome, cut_over_at) => {
                self.ended(request, outcome.clone(), *cut_over_at).await
            }
            _ => Ok(None),
        }
    }

    async fn ended(
        &self,
        request: &Request,
        outcome: Outcome,
        cut_over_at: Option<Millis>,
    ) -> Result<Option<DeployRecord>, StoreError> {
        let Some(mut record) = self.store.deploy(request.id).await? else { return Ok(None) };
        let started_at = self
            .fleet
            .deploy
            .as_ref()
            .filter(|deploy| deploy.request.id == request.id)
            .map(|deploy| deploy.started_at);
        record.outcome = Some(outcome);
        record.ended_at = Some(self.observed.now);
        record.took_millis = match (cut_over_at, started_at) {
            (Some(end), Some(start)) => u64::try_from(end.since(start).as_millis()).ok(),
            _ => None,
        };
        Ok(Some(record))
    }

    fn publish(&self) {
        let snapshot = Snapshot {
            fleet: self.fleet.clone(),
            reports: self.observed.reports.clone(),
            balancer: self.observed.balancer.clone(),
        };
        self.publisher.send_replace(Arc::new(snapshot));
    }
}

fn record(request: &Request, subject: String) -> DeployRecord {
    DeployRecord {
        id: request.id,
        release: request.release.clone(),
        subject,
        cause: request.cause,
        author: request.author.clone(),
        requested_at: request.requested_at,
        ended_at: None,
        took_millis: None,
        outcome: None,
    }
}

fn announce(event: &Event) {
    match event {
        Event::Entered(id, Phase::Verifying { .. }) => {
            tracing::info!(
                event = "deploy.cut_over",
                deploy = id.0,
                "The balancer confirmed the cutover"
            );
        }
        Event::Entered(id, phase) => {
            tracing::info!(
                event = "deploy.phase",
                deploy = id.0,
                phase = phase.as_str(),
                "A deploy went on"
            );
        }
        Event::Ended(request, outcome, _) => {
            let (deploy, revision) = (request.id.0, request.release.revision.as_str());
            let name = outcome.as_str();
            match outcome {
                Outcome::Failed { reason } | Outcome::SwappedBack { reason } => {
                    tracing::warn!(
                        event = "deploy.ended",
                        deploy,
                        revision,
                        outcome = name,
                        reason,
                        "A deploy ended without its release in service"
                    );
                }
                _ => tracing::info!(
                    event = "deploy.ended",
                    deploy,
                    revision,
                    outcome = name,
                    "A deploy ended"
                ),
            }
        }
        Event::Left(instance) => {
            tracing::info!(
                event = "instance.left",
                instance = instance.as_str(),
                "An instance left the fleet"
            );
        }
    }
}

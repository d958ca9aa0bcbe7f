//! A steady load of visitors on a fleet, each with a connection of its own that stays open.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flotilla_core::table::REVISION_HEADER;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::exchange::{Exchange, Kind};
use crate::fleet::Fleet;
use crate::program::text_of;
use crate::wait::until;

/// A visitor who hears nothing for so long has failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
const SEEN_LIMIT: Duration = Duration::from_secs(30);
const ORDERS: &str = "/wp-json/flotilla-shop/v1/orders";
const MARK: &str = "<meta name=\"flotilla-shop\" content=\"";
/// A broken answer is shown by its beginning.
const SHOWN_BYTES_MAX: usize = 200;

/// How many visitors do what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Visitors who look at pages.
    pub viewers: usize,
    /// Visitors who place orders.
    pub buyers: usize,
    /// Visitors who ask for [`Self::probe`].
    pub probers: usize,
    /// How long a visitor thinks between an answer and the next request.
    pub pause: Duration,
    /// What they ask for.
    pub page: &'static str,
    /// A page that a broken release fails at.
    pub probe: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            viewers: 4,
            buyers: 2,
            probers: 0,
            pause: Duration::from_millis(80),
            page: "/",
            probe: "/?probe=1",
        }
    }
}

/// A load that goes on until it is ended.
#[derive(Debug)]
pub struct Load {
    began: Instant,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    stop: CancellationToken,
    visitors: JoinSet<()>,
}

impl Load {
    /// Lets visitors come to a fleet. `name` begins the references of their orders.
    ///
    /// # Errors
    /// The fleet never ran.
    pub fn start(fleet: &Fleet, name: &str, plan: &Plan) -> anyhow::Result<Self> {
        let (began, stop) = (Instant::now(), CancellationToken::new());
        let exchanges = Arc::default();
        let mut visitors = JoinSet::new();
        let counts =
            [(Kind::Page, plan.viewers), (Kind::Order, plan.buyers), (Kind::Probe, plan.probers)];
        for (kind, count) in counts {
            for number in 0..count {
                let visitor = Visitor {
                    kind,
                    name: format!("{name}-{number}"),
                    client: client(fleet.address()?)?,
                    host: fleet.host()?,
                    plan: plan.clone(),
                    began,
                    stop: stop.clone(),
                };
                visitors.spawn(visitor.come(Arc::clone(&exchanges)));
            }
        }
        Ok(Self { began, exchanges, stop, visitors })
    }

    /// Returns the time since the load began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns what has happened so far.
    #[must_use]
    pub fn so_far(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this many more requests have been answered well.
    ///
    /// # Errors
    /// They are not within half a minute.
    pub async fn more(&self, count: usize) -> anyhow::Result<()> {
        let well = || self.so_far().iter().filter(|one| one.fault.is_none()).count();
        let goal = well() + count;
        until("more answers", SEEN_LIMIT, async || {
            let now = well();
            if now >= goal { Ok(()) } else { Err(format!("{now} of {goal}")) }
        })
        .await
    }

    /// Waits until these instances have taken orders.
    ///
    /// # Errors
    /// One does not within half a minute.
    pub async fn served_by(&self, instances: &[&str]) -> anyhow::Result<()> {
        until(format!("orders by {instances:?}"), SEEN_LIMIT, async || {
            let all = self.so_far();
            let has = |name: &str| all.iter().any(|one| one.instance.as_deref() == Some(name));
            let missing: Vec<_> = instances.iter().filter(|name| !has(name)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("none by {missing:?}")) }
        })
        .await
    }

    /// Waits until a version has been seen in pages.
    ///
    /// # Errors
    /// It is not within half a minute.
    pub async fn sees(&self, version: &str) -> anyhow::Result<()> {
        until(format!("version {version}"), SEEN_LIMIT, async || {
            let all = self.so_far();
            let is_it =
                |one: &Exchange| one.kind == Kind::Page && one.version.as_deref() == Some(version);
            if all.iter().any(is_it) { Ok(()) } else { Err(format!("{:?}", all.last())) }
        })
        .await
    }

    /// Lets the visitors end their requests and go; returns all that happened.
    pub async fn end(mut self) -> Vec<Exchange> {
        self.stop.cancel();
        while self.visitors.join_next().await.is_some() {}
        self.so_far()
    }
}

fn client(address: SocketAddr) -> anyhow::Result<Client> {
    Ok(flotilla_host::http::client_builder()
        .no_proxy()
        .resolve("localhost", address)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(1)
        .timeout(ANSWER_LIMIT)
        .build()?)
}

struct Visitor {
    kind: Kind,
    name: String,
    client: Client,
    host: String,
    plan: Plan,
    began: Instant,
    stop: CancellationToken,
}

/// What an answer turned out to be.
#[derive(Default)]
struct Answer {
    fault: Option<String>,
    broke_off: bool,
    version: Option<String>,
    revision: Option<String>,
    instance: Option<String>,
    order: Option<u64>,
}

impl Visitor {
    async fn come(self, exchanges: Arc<Mutex<Vec<Exchange>>>) {
        let mut number = 0_u32;
        while !self.stop.is_cancelled() {
            number += 1;
            let reference = format!("{}-{number}", self.name);
            let started = self.began.elapsed();
            let answer = self
                .ask(&reference)
                .await
                .unwrap_or_else(|error| Answer { fault: Some(chain(&error)), ..Answer::default() });
            let exchange = Exchange {
                kind: self.kind,
                started,
                ended: self.began.elapsed(),
                fault: answer.fault,
                broke_off: answer.broke_off,
                version: answer.version,
                revision: answer.revision,
                instance: answer.instance,
                reference: (self.kind == Kind::Order).then_some(reference),
                order: answer.order,
            };
            exchanges.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
            tokio::time::sleep(self.plan.pause).await;
        }
    }

    async fn ask(&self, reference: &str) -> Result<Answer, reqwest::Error> {
        let url = |path: &str| format!("http://{}{path}", self.host);
        let request = match self.kind {
            Kind::Page => self.client.get(url(self.plan.page)),
            Kind::Probe => self.client.get(url(self.plan.probe)),
            Kind::Order => {
                self.client.post(url(ORDERS)).json(&json!({"reference": reference, "item": "mug"}))
            }
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        let header = response.headers().get(REVISION_HEADER);
        let revision = header.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = match response.text().await {
            Ok(body) => body,
            Err(error) => {
                let fault = Some(format!("broke off: {}", chain(&error)));
                return Ok(Answer { fault, broke_off: true, revision, ..Answer::default() });
            }
        };
        let answer =
            if self.kind == Kind::Order { order(status, &body) } else { page(status, &body) };
        Ok(Answer { revision, ..answer })
    }
}

fn page(status: u16, body: &str) -> Answer {
    let version =
        body.split_once(MARK).and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()));
    let is_whole = body.trim_end().ends_with("</html>");
    let is_well = status == 200 && version.is_some() && is_whole;
    Answer { fault: (!is_well).then(|| shown(status, body)), version, ..Answer::default() }
}

fn order(status: u16, body: &str) -> Answer {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let order = value.get("id").and_then(Value::as_u64).filter(|_| status == 201);
    Answer {
        fault: order.is_none().then(|| shown(status, body)),
        version: text_of(&value, "version"),
        instance: text_of(&value, "instance"),
        order,
        ..Answer::default()
    }
}

fn shown(status: u16, body: &str) -> String {
    let start: String = body.chars().take(SHOWN_BYTES_MAX).collect();
    format!("{status} {start}")
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

//! Asking each upstream again and again whether it still runs the release of the table.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_core::id::Revision;
use flotilla_core::table::{HEALTH_PATH, REVISION_HEADER};
use flotilla_host::open_files::is_local_shortage;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::routes::UpstreamState;
use crate::shared::Shared;

/// Largest answer to a health check that is read.
const BODY_BYTES_MAX: usize = 4_096;
/// How often ejected upstreams are looked at.
const READMIT_INTERVAL: Duration = Duration::from_millis(100);

struct Checked {
    upstream: Arc<UpstreamState>,
    version: u64,
    outcome: Result<(), Bad>,
}

/// Why a check did not succeed.
struct Bad {
    reason: String,
    /// This machine could not even ask; that says nothing about the upstream.
    is_local: bool,
}

impl From<String> for Bad {
    fn from(reason: String) -> Self {
        Self { reason, is_local: false }
    }
}

/// Checks all upstreams of the present table until the balancer drains.
pub(crate) async fn check_upstreams(shared: Arc<Shared>) {
    let mut checks: JoinSet<Checked> = JoinSet::new();
    let mut running: HashSet<SocketAddr> = HashSet::new();
    let mut rounds = interval(shared.options.health.interval.max(Duration::from_millis(1)));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut readmissions = interval(READMIT_INTERVAL);
    readmissions.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.draining.cancelled() => break,
            _ = rounds.tick() => begin_round(&shared, &mut checks, &mut running),
            _ = readmissions.tick() => shared.readmit_ejected(),
            Some(checked) = checks.join_next() => match checked {
                Ok(checked) => {
                    running.remove(&checked.upstream.address);
                    note(&shared, &checked);
                }
                Err(error) => {
                    running.clear();
                    tracing::error!(%error, "A health check panicked");
                }
            },
        }
    }
    checks.shutdown().await;
}

/// Begins a check of each upstream that is not being checked still.
fn begin_round(shared: &Shared, checks: &mut JoinSet<Checked>, running: &mut HashSet<SocketAddr>) {
    let routes = shared.routes();
    for upstream in routes.upstreams.iter().chain(&shared.workshop) {
        if !running.insert(upstream.address) {
            continue;
        }
        let upstream = Arc::clone(upstream);
        // The workshop may be ahead of the release.
        let revision = routes.table.revision.clone().filter(|_| !upstream.is_workshop());
        let version = routes.table.version;
        let limit = shared.options.health.timeout;
        checks.spawn(async move {
            let outcome = match timeout(limit, check(upstream.address, revision.as_ref())).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(Bad::from("no answer in time".to_owned())),
            };
            Checked { upstream, version, outcome }
        });
    }
}

fn note(shared: &Shared, checked: &Checked) {
    // A check of an older table looked for another revision.
    if checked.version != shared.version() {
        return;
    }
    if let Err(bad) = &checked.outcome
        && bad.is_local
    {
        tracing::warn!(reason = bad.reason, "This machine has no room for a health check");
        return;
    }
    let health = &shared.options.health;
    let (instance, slot) = (&checked.upstream.instance, checked.upstream.slot);
    let is_good = checked.outcome.is_ok();
    let verdict =
        checked.upstream.note_check(is_good, health.unhealthy_after, health.healthy_after);
    match (verdict, &checked.outcome) {
        (Some(_), Ok(())) => tracing::info!(%instance, %slot, "An upstream is healthy again"),
        (Some(_), Err(Bad { reason, .. })) => {
            tracing::warn!(%instance, %slot, reason, "An upstream is unhealthy");
        }
        (None, _) => return,
    }
    shared.settle_health();
}

async fn check(address: SocketAddr, revision: Option<&Revision>) -> Result<(), Bad> {
    let response = ask(address).await?;
    if response.0.status() != StatusCode::OK {
        return Err(format!("status {}", response.0.status().as_u16()).into());
    }
    let Some(revision) = revision else { return Ok(()) };
    let header = response.0.headers().get(REVISION_HEADER);
    let is_named = header.is_some_and(|value| value.as_bytes() == revision.as_str().as_bytes());
    if is_named || response.1.trim_ascii() == revision.as_str().as_bytes() {
        return Ok(());
    }
    Err("another revision".to_owned().into())
}

async fn ask(address: SocketAddr) -> Result<(Response<()>, Bytes), Bad> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| Bad { reason: error.to_string(), is_local: is_local_shortage(&error) })?;
    let (mut sender, connection) = handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static(HEALTH_PATH);
    let headers = request.headers_mut();
    headers.insert(HOST, http::HeaderValue::from_static("flotilla.internal"));
    headers.insert(CONNECTION, http::HeaderValue::from_static("close"));
    headers.insert(USER_AGENT, http::HeaderValue::from_static("flotilla-balancer"));
    let answer = async {
        let response = sender.send_request(request).await?;
        read(response).await
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => match ended {
            // What the connection had read is still to be taken.
            Ok(()) => answer.await,
            Err(error) => return Err(error.to_string().into()),
        },
    }
    .map_err(|error| error.to_string().into())
}

async fn read(
    response: Response<Incoming>,
) -> Result<(Response<()>, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
    Ok((Response::from_parts(head, ()), body))
}

//! A small web server that stands for a slot and can be told to misbehave.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use flotilla_core::id::InstanceName;
use flotilla_core::slot::SlotName;
use flotilla_core::table::{HEALTH_PATH, HELD_HEADER, HOLD_HEADER, REVISION_HEADER, Upstream};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Size of one piece of a body whose length is not told.
pub(crate) const CHUNK_BYTES: usize = 16 * 1024;

/// The one path that stands for a file: it is answered under a hold.
pub(crate) const FILE: &str = "/wp-content/style.css";

/// Offers a slot to send a request to the workshop, and takes it up.
const WORKSHOP: &str = "x-flotilla-workshop";

/// What the server does with a request that is not a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers.
    Answer,
    /// Reads the request and closes the connection without an answer.
    Reset,
    /// Answers 500.
    Fail,
    /// Answers when it is told to behave otherwise.
    Hang,
    /// Hands requests back for the workshop where that is offered, and answers the others.
    HandBack,
}

#[derive(Debug)]
struct State {
    revision: String,
    behaviour: watch::Sender<Behaviour>,
    is_healthy: AtomicBool,
    hits: AtomicU64,
    connections: AtomicU64,
    seen: Mutex<Vec<String>>,
    ran: Mutex<Vec<String>>,
}

/// The server; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct TestUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) instance: InstanceName,
    pub(crate) slot: SlotName,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

impl TestUpstream {
    /// Starts a server for one slot, running the revision made of this digit.
    pub(crate) async fn start(number: u16, slot: SlotName, digit: char) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            revision: revision(digit),
            behaviour: watch::Sender::new(Behaviour::Answer),
            is_healthy: AtomicBool::new(true),
            hits: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            seen: Mutex::default(),
            ran: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Self { address, instance: InstanceName::numbered(number), slot, state, tasks }
    }

    /// Returns its entry in a table.
    pub(crate) fn entry(&self) -> Upstream {
        Upstream {
            instance: self.instance.clone(),
            slot: self.slot,
            address: self.address,
            workers_max: 4,
        }
    }

    /// Sets what it does from now on, and with requests that hang.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state.behaviour.send_replace(behaviour);
    }

    /// Sets whether it answers health checks with 200.
    pub(crate) fn set_healthy(&self, is_healthy: bool) {
        self.state.is_healthy.store(is_healthy, Ordering::SeqCst);
    }

    /// Counts requests other than health checks.
    pub(crate) fn hits(&self) -> u64 {
        self.state.hits.load(Ordering::SeqCst)
    }

    /// Counts connections that carried such a request.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Returns method and path of each request.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Returns method and path of each request that a hold did not keep from running.
    pub(crate) fn ran(&self) -> Vec<String> {
        self.state.ran.lock().unwrap().clone()
    }

    /// Stops it; its port refuses connections from then on.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Returns the revision made of this digit.
pub(crate) fn revision(digit: char) -> String {
    String::from(digit).repeat(40)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                connections.spawn(serve(stream, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let is_counted = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        if request.uri().path() != HEALTH_PATH && !is_counted.swap(true, Ordering::SeqCst) {
            state.connections.fetch_add(1, Ordering::SeqCst);
        }
        async move { state.answer(request).await }
    });
    // Broken connections are what some tests want.
    drop(Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, io::Error> {
        if request.uri().path() == HEALTH_PATH {
            let is_healthy = self.is_healthy.load(Ordering::SeqCst);
            let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            return Ok(whole(status, format!("{}\n", self.revision)));
        }
        self.hits.fetch_add(1, Ordering::SeqCst);
        let line = format!("{} {}", request.method(), request.uri());
        self.seen.lock().unwrap().push(line.clone());
        let mut behaviours = self.behaviour.subscribe();
        let behaviour =
            *behaviours.wait_for(|behaviour| *behaviour != Behaviour::Hang).await.unwrap();
        if request.headers().contains_key(HOLD_HEADER) && request.uri().path() != FILE {
            let mut response = empty(503);
            response.headers_mut().insert(HELD_HEADER, HeaderValue::from_static("1"));
            return Ok(response);
        }
        if behaviour == Behaviour::HandBack && request.headers().contains_key(WORKSHOP) {
            let mut response = empty(421);
            response.headers_mut().insert(WORKSHOP, HeaderValue::from_static("wanted"));
            return Ok(response);
        }
        self.ran.lock().unwrap().push(line);
        let mut response = match behaviour {
            Behaviour::Reset => {
                // Reading all of it makes sure that the sender has sent all of it.
                request.into_body().collect().await.map_err(io::Error::other)?;
                return Err(io::Error::other("told to reset"));
            }
            Behaviour::Fail => whole(StatusCode::INTERNAL_SERVER_ERROR, "failed".to_owned()),
            Behaviour::Answer | Behaviour::Hang | Behaviour::HandBack => respond(request).await?,
        };
        let revision = HeaderValue::from_str(&self.revision).unwrap();
        response.headers_mut().insert(REVISION_HEADER, revision);
        Ok(response)
    }
}

async fn respond(request: Request<Incoming>) -> Result<Answer, io::Error> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    let kind = parts.next().unwrap_or_default();
    let number: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(match kind {
        "status" => empty(u16::try_from(number).unwrap()),
        "bytes" => whole(StatusCode::OK, "x".repeat(usize::try_from(number).unwrap())),
        "chunks" => chunks(number),
        "head" => {
            let mut response = empty(200);
            let is_head = request.method() == Method::HEAD;
            if is_head {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(number));
            }
            response
        }
        "hop" => {
            let mut response = empty(200);
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("x-private"));
            headers.insert("x-private", HeaderValue::from_static("1"));
            headers.insert("x-public", HeaderValue::from_static("1"));
            headers.insert("x-request-id", HeaderValue::from_static("upstream"));
            response
        }
        _ => echo(request).await?,
    })
}

/// Tells what arrived.
async fn echo(request: Request<Incoming>) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let mut length = 0_u64;
    let mut sum = 0_u64;
    let mut body = body;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            length += u64::try_from(data.len()).unwrap();
            sum += data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
    }
    let told = json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "headers": headers,
        "length": length,
        "sum": sum,
    });
    Ok(whole(StatusCode::OK, told.to_string()))
}

fn whole(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Full::from(text).boxed());
    *response.status_mut() = status;
    response
}

fn empty(status: u16) -> Answer {
    whole(StatusCode::from_u16(status).unwrap(), String::new())
}

fn chunks(count: u64) -> Answer {
    Response::new(Chunks(count).boxed())
}

/// A body of so many pieces, whose length is not told.
struct Chunks(u64);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
        self.0 = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'c'; CHUNK_BYTES])))))
    }
}

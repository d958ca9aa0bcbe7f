//! One visitor connection: its deadlines, and the loop that lets hyper work on it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::lane::Lane;
use crate::metrics::{add, count};
use crate::options::{Options, Timeouts};
use crate::proxy;
use crate::request_body::BodyFailure;
use crate::socket::{Traffic, WatchedStream};
use crate::upgrade::Tunnel;
use crate::worker_place::WorkerPlace;

/// What is going on on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing; the next request may come.
    Idle,
    /// A request head has begun to come.
    Head,
    /// A request is being worked on.
    Service,
    /// A response body is on its way.
    Response,
}

/// The time for a step is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// The connection as its requests see it.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// The other end.
    pub(crate) peer: IpAddr,
    /// The other end, as a header value.
    pub(crate) peer_text: HeaderValue,
    /// Whether the other end is a proxy that is believed.
    pub(crate) is_trusted: bool,
    /// Why the body of the present request could not be sent on.
    pub(crate) body_failure: Cell<Option<BodyFailure>>,
    /// Whether the present request came with a body.
    pub(crate) has_body: Cell<bool>,
    /// Set when both sides have agreed to leave HTTP.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
    /// The present request's place among those that may occupy a PHP worker.
    place: RefCell<Option<Rc<WorkerPlace>>>,
    /// Set while a part of the present request's body is still to come.
    is_body_coming: Cell<bool>,
    bytes_per_second_min: u64,
    traffic: Rc<Traffic>,
    phase: Cell<Phase>,
    deadline: Cell<Instant>,
    extends_by: Cell<Option<Duration>>,
    moved_bytes: Cell<u64>,
    read_mark: Cell<u64>,
    is_due: Cell<bool>,
}

impl Visitor {
    fn new(peer: IpAddr, is_trusted: bool, options: &Options) -> Self {
        // An address is always a valid header value.
        let peer_text = HeaderValue::from_str(&peer.to_string());
        Self {
            peer,
            peer_text: peer_text.unwrap_or_else(|_error| HeaderValue::from_static("unknown")),
            is_trusted,
            body_failure: Cell::new(None),
            has_body: Cell::new(false),
            tunnel: RefCell::new(None),
            place: RefCell::default(),
            is_body_coming: Cell::new(false),
            bytes_per_second_min: options.limits.visitor_bytes_per_second_min,
            traffic: Rc::default(),
            phase: Cell::new(Phase::Idle),
            deadline: Cell::new(Instant::now() + options.timeouts.request_head),
            extends_by: Cell::new(None),
            moved_bytes: Cell::new(0),
            read_mark: Cell::new(0),
            is_due: Cell::new(false),
        }
    }

    /// Notes that a request head is complete.
    pub(crate) fn begin_service(&self) {
        self.phase.set(Phase::Service);
        self.body_failure.set(None);
        self.is_body_coming.set(false);
        self.is_due.set(false);
        self.extends_by.set(None);
    }

    /// Notes that the response head is handed over; its body must keep moving from now on.
    pub(crate) fn begin_response(&self, now: Instant, idle: Duration) {
        self.phase.set(Phase::Response);
        self.extends_by.set(Some(idle));
        self.moved_bytes.set(self.traffic.all_bytes());
        self.deadline.set(now + idle);
    }

    /// Remembers the place of the present request, wherever it was admitted last.
    pub(crate) fn take_place(&self, place: &Rc<WorkerPlace>) {
        self.place.replace(Some(Rc::clone(place)));
    }

    /// Notes that a part of the request body is sent on while it comes.
    pub(crate) fn expect_body(&self) {
        self.is_body_coming.set(true);
    }

    /// Returns whether a part of the request body is still to come.
    pub(crate) const fn is_body_coming(&self) -> bool {
        self.is_body_coming.get()
    }

    /// Notes that the end of the request body is on its way: now PHP begins, and it is PHP's time.
    pub(crate) fn note_body_sent(&self) {
        if !self.is_body_coming.replace(false) {
            return;
        }
        if let Some(place) = &*self.place.borrow() {
            place.take();
        }
        if let (Phase::Service, Some(limit)) = (self.phase.get(), self.extends_by.take()) {
            self.deadline.set(Instant::now() + limit);
        }
    }

    /// Gives the place back when the visitor does not take the response as fast as it comes: from then
    /// on the slot's nginx keeps what PHP makes.
    fn settle_place(&self) {
        if self.phase.get() == Phase::Response
            && self.traffic.is_write_blocked.get()
            && let Some(place) = self.place.take()
        {
            place.give_back();
        }
    }

    /// Notes that the request is over.
    pub(crate) fn begin_idle(&self, now: Instant, timeouts: &Timeouts) {
        self.phase.set(Phase::Idle);
        self.extends_by.set(Some(timeouts.response_body_idle));
        self.moved_bytes.set(self.traffic.all_bytes());
        self.read_mark.set(self.traffic.bytes_read.get());
        self.deadline.set(now + timeouts.keep_alive);
    }

    /// Waits for a future, at most `limit`.
    pub(crate) async fn within<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.until(Instant::now() + limit, None, future).await
    }

    /// Waits for a future; the time begins anew as long as bytes move on the connection.
    pub(crate) async fn within_idle<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.until(Instant::now() + limit, Some(limit), future).await
    }

    /// Waits for a future until a point in time.
    pub(crate) async fn until<F: Future>(
        &self,
        deadline: Instant,
        extends_by: Option<Duration>,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.deadline.set(deadline);
        self.extends_by.set(extends_by);
        self.moved_bytes.set(self.traffic.all_bytes());
        self.is_due.set(false);
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.is_due.get() => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Notices the first byte of a request, from which on its head has less time.
    fn notice_head(&self, timeouts: &Timeouts) {
        if self.phase.get() == Phase::Idle && self.traffic.bytes_read.get() > self.read_mark.get() {
            self.phase.set(Phase::Head);
            self.extends_by.set(None);
            self.deadline.set(Instant::now() + timeouts.request_head);
        }
    }

    /// Returns how many bytes must move in a time to get as much time again.
    fn bytes_wanted(&self, time: Duration) -> u64 {
        let is_visitors_turn = match self.phase.get() {
            Phase::Service => self.is_body_coming.get(),
            Phase::Idle | Phase::Head | Phase::Response => self.traffic.is_write_blocked.get(),
        };
        if !is_visitors_turn {
            return 1;
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        (self.bytes_per_second_min.saturating_mul(millis) / 1000).max(1)
    }

    /// Handles a timer that has run out; returns when to look again, or `None` to give up.
    fn handle_timer(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.deadline.get() > now {
            return Some(self.deadline.get());
        }
        let all_bytes = self.traffic.all_bytes();
        let moved = all_bytes - self.moved_bytes.replace(all_bytes);
        // Between requests only the end of a response that is still being taken buys time.
        let is_blocked = self.traffic.is_write_blocked.get();
        let may_extend = self.phase.get() != Phase::Idle || is_blocked;
        let more = self.extends_by.get().filter(|more| moved >= self.bytes_wanted(*more));
        if let (true, Some(more)) = (may_extend, more) {
            self.deadline.set(now + more);
            return Some(now + more);
        }
        if self.phase.get() != Phase::Service {
            return None;
        }
        // The service sees this when it is polled next, and sets another deadline.
        self.is_due.set(true);
        let later = now + FAR;
        self.deadline.set(later);
        Some(later)
    }
}

/// How long a connection is kept for what a visitor still sends after the last answer.
const LINGER_LIMIT: Duration = Duration::from_secs(5);
const LINGER_BUFFER_BYTES: usize = 16 * 1024;

/// Bytes that the kernel takes ahead of what the network does. More would hide for minutes whether a
/// slow visitor takes anything.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Stands for "no deadline": a wait that has one sets it.
const FAR: Duration = Duration::from_secs(3600);

/// Serves a visitor until either side ends the connection.
pub(crate) async fn serve(lane: Rc<Lane>, stream: TcpStream, peer: SocketAddr) {
    let options = &lane.shared.options;
    let peer = peer.ip().to_canonical();
    let is_trusted = options.trusted_proxies.iter().any(|range| range.contains(peer));
    let visitor = Rc::new(Visitor::new(peer, is_trusted, options));
    // A socket that is already closed refuses this; the next read tells.
    drop(SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX));
    let io = TokioIo::new(WatchedStream::new(stream, Rc::clone(&visitor.traffic)));
    let service = {
        let (lane, visitor) = (Rc::clone(&lane), Rc::clone(&visitor));
        service_fn(move |request| proxy::answer(Rc::clone(&lane), Rc::clone(&visitor), request))
    };
    let mut connection = Builder::new()
        .header_read_timeout(None)
        .half_close(false)
        .max_headers(options.limits.request_headers_max)
        .max_header_size(options.limits.request_head_bytes_max)
        .max_buf_size(options.limits.request_head_bytes_max.max(64 * 1024))
        .serve_connection(io, service);
    let open = OpenConnection::new(&lane);
    let mut armed = visitor.deadline.get();
    let mut timer = pin!(sleep_until(armed));
    let mut is_told = false;
    let outcome = poll_fn(|context| {
        open.remember(context);
        if lane.is_draining() && !is_told {
            is_told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if !run_timer(timer.as_mut(), context, &visitor, &mut armed) {
            return Poll::Ready(None);
        }
        let outcome = Pin::new(&mut connection).poll(context);
        visitor.notice_head(&options.timeouts);
        visitor.settle_place();
        if outcome.is_pending() && visitor.deadline.get() < armed {
            armed = visitor.deadline.get();
            timer.as_mut().reset(armed);
            if !run_timer(timer.as_mut(), context, &visitor, &mut armed) {
                return Poll::Ready(None);
            }
        }
        outcome.map(Some)
    })
    .await;
    match outcome {
        Some(Ok(())) => {
            let tunnel = visitor.tunnel.borrow_mut().take();
            if let Some(tunnel) = tunnel {
                let parts = connection.into_parts();
                tunnel.run(parts.io.into_inner(), parts.read_buf).await;
            } else if visitor.has_body.get() {
                linger(connection.into_parts().io.into_inner()).await;
            }
        }
        Some(Err(error)) => tracing::debug!(%error, "A visitor connection ended"),
        None => tracing::debug!("A visitor connection was too slow"),
    }
}

/// Takes what the visitor still sends after the last answer: closing with unread bytes would reset
/// the connection, and the visitor would never see why the body was refused.
async fn linger(mut stream: WatchedStream) {
    let mut sink = vec![0; LINGER_BUFFER_BYTES];
    let drain = async { while matches!(stream.read(&mut sink).await, Ok(1..)) {} };
    if tokio::time::timeout(LINGER_LIMIT, drain).await.is_err() {
        tracing::debug!("A visitor went on sending after the answer");
    }
}

/// Polls the timer, so that it wakes the connection; returns whether the connection may go on.
fn run_timer(
    mut timer: Pin<&mut Sleep>,
    context: &mut Context<'_>,
    visitor: &Visitor,
    armed: &mut Instant,
) -> bool {
    while timer.as_mut().poll(context).is_ready() {
        let Some(next) = visitor.handle_timer() else { return false };
        *armed = next;
        timer.as_mut().reset(next);
    }
    true
}

/// Counts a connection as open, and lets the thread wake it when draining begins.
struct OpenConnection<'lane> {
    lane: &'lane Lane,
    key: u64,
    is_known: Cell<bool>,
}

impl<'lane> OpenConnection<'lane> {
    fn new(lane: &'lane Lane) -> Self {
        count(&lane.metrics.connections);
        count(&lane.metrics.connections_open);
        Self { lane, key: lane.metrics.connections.load(Relaxed), is_known: Cell::new(false) }
    }

    fn remember(&self, context: &Context<'_>) {
        if !self.is_known.replace(true) {
            self.lane.wakers.borrow_mut().insert(self.key, context.waker().clone());
        }
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.lane.wakers.borrow_mut().remove(&self.key);
        add(&self.lane.metrics.connections_open, u64::MAX);
    }
}

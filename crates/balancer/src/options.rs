//! What the person or program that starts the balancer may set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::id::Token;

use crate::address_range::AddressRange;
use crate::workshop::WorkshopOptions;

/// Everything the balancer needs to start; see [`Options::new`] for the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where visitors are served; port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Where the control interface listens.
    pub control: SocketAddr,
    /// What the control interface wants as bearer token.
    pub control_token: Token,
    /// Where the present table is kept over restarts.
    pub state_file: PathBuf,
    /// How many threads serve visitors; `None` takes the number of available cores.
    pub threads: Option<usize>,
    /// The file that gets one JSON line per request.
    pub access_log: Option<PathBuf>,
    /// Peers whose `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Upper bounds.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// How upstreams are checked.
    pub health: HealthOptions,
    /// How failed requests are tried again.
    pub retries: RetryOptions,
    /// The workshop, when there is one.
    pub workshop: Option<WorkshopOptions>,
}

impl Options {
    /// Fills in the defaults for everything that has one.
    #[must_use]
    pub fn new(
        listen: Vec<SocketAddr>,
        control: SocketAddr,
        control_token: Token,
        state_file: PathBuf,
    ) -> Self {
        Self {
            listen,
            control,
            control_token,
            state_file,
            threads: None,
            access_log: None,
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            health: HealthOptions::default(),
            retries: RetryOptions::default(),
            workshop: None,
        }
    }
}

/// Upper bounds, so that no visitor and no upstream can take all memory or all workers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body in bytes; larger ones are answered 413.
    pub request_body_bytes_max: u64,
    /// Bytes of a request body that are read before an upstream is chosen.
    pub request_buffer_bytes: usize,
    /// Largest request head in bytes.
    pub request_head_bytes_max: usize,
    /// Most header lines of a request.
    pub request_headers_max: usize,
    /// Open visitor connections per thread; more wait in the kernel's queue. Fewer when the process
    /// may not open so many files.
    pub connections_per_thread_max: usize,
    /// Requests that may occupy a PHP worker of one upstream, as a multiple of its workers. What looks
    /// like a file may go up to twice as far, so that pages which hang do not stop files.
    pub busy_per_worker: u32,
    /// Requests in flight to one upstream, also those of slow visitors, which occupy no PHP worker. Its
    /// nginx and php-fpm must have room for them (`worker_connections`, `listen.backlog`).
    pub in_flight_max: u64,
    /// Bytes in a second that a visitor must send of a request body, or take of a response, as long as
    /// nobody but the visitor is waited for. Looked at over [`Timeouts::request_body_idle`] and
    /// [`Timeouts::response_body_idle`], not at each moment.
    pub visitor_bytes_per_second_min: u64,
    /// Requests that wait for room on an upstream; more are answered 503.
    pub queue_max: u64,
    /// Requests that wait because of a hold; more are answered 503.
    pub holding_max: u64,
    /// Idle connections kept to one upstream by one thread.
    pub idle_connections_per_upstream: usize,
}

impl Limits {
    /// Returns how long the slowest visitor may take for so many bytes.
    pub(crate) fn visitor_seconds(&self, bytes: u64) -> Duration {
        Duration::from_secs(bytes / self.visitor_bytes_per_second_min.max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body_bytes_max: 64 * 1024 * 1024,
            request_buffer_bytes: 64 * 1024,
            request_head_bytes_max: 64 * 1024,
            request_headers_max: 100,
            connections_per_thread_max: 16_384,
            busy_per_worker: 8,
            in_flight_max: 1_000,
            visitor_bytes_per_second_min: 1_024,
            queue_max: 1_000,
            holding_max: 10_000,
            idle_connections_per_upstream: 64,
        }
    }
}

/// Deadlines of the steps of a request.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From the first byte of a request head to its end.
    pub request_head: Duration,
    /// Between two requests of one visitor connection.
    pub keep_alive: Duration,
    /// Between two pieces of a request body.
    pub request_body_idle: Duration,
    /// Between two pieces of a response that the visitor takes or the upstream makes.
    pub response_body_idle: Duration,
    /// To connect to an upstream.
    pub connect: Duration,
    /// From the end of sending a request to the head of its response.
    pub response_head: Duration,
    /// In the queue for room on an upstream.
    pub queue: Duration,
    /// How long an unused connection to an upstream is kept.
    pub upstream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            request_body_idle: Duration::from_secs(30),
            response_body_idle: Duration::from_secs(60),
            connect: Duration::from_secs(2),
            response_head: Duration::from_secs(60),
            queue: Duration::from_secs(10),
            upstream_idle: Duration::from_secs(20),
        }
    }
}

/// How upstreams are checked and when they are left out.
#[derive(Debug, Clone)]
pub struct HealthOptions {
    /// Time between two checks of one upstream.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// Checks in a row that must fail before an upstream is left out.
    pub unhealthy_after: u32,
    /// Checks in a row that must succeed before it is used again.
    pub healthy_after: u32,
    /// Failed requests in a row after which an upstream is left out for [`Self::eject_for`].
    pub eject_after: u32,
    /// How long a request failure leaves an upstream out.
    pub eject_for: Duration,
    /// When more than this share of the upstreams (in percent) looks bad, health is ignored.
    pub fail_static_percent: u32,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            unhealthy_after: 2,
            healthy_after: 2,
            eject_after: 2,
            eject_for: Duration::from_secs(2),
            fail_static_percent: 50,
        }
    }
}

/// How failed requests are tried again.
#[derive(Debug, Clone)]
pub struct RetryOptions {
    /// Further attempts for one request at most.
    pub attempts_max: u32,
    /// Retries allowed as a share of all requests, in percent.
    pub budget_percent: u32,
    /// Retries that each thread may make in ten seconds whatever the share.
    pub budget_floor: u32,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { attempts_max: 2, budget_percent: 20, budget_floor: 100 }
    }
}

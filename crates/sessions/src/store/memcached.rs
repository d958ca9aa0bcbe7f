//! A memcached node: one connection, on which the requests of all clients follow each other.
//!
//! Requests are put into one buffer and go out together; answers come in the order of the requests.
//! That costs a fraction of a system call for each, however many clients there are.
//!
//! A node that has not answered for [`Limits::answer_timeout`] is *hung*: all who wait are told that
//! it is unreachable, and nobody is made to wait for it again. Its connection is kept, because what
//! was sent to it may still be carried out: only when all of that has been answered is the node up
//! again, so no forgotten write can come after a new one. When the connection ends instead, it is
//! made anew, with pauses that grow up to [`Limits::pause_max`].
//!
//! Needs the command `mg`, which tells when an item expires: memcached 1.6.

mod answer;
mod connection;
mod request;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Answer, Answered, Request, Standing, Store, StoreError};

/// How many requests may be under way to one node.
const REQUESTS_MAX: usize = 65_536;
/// How many bytes may wait to be sent to one node.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// How long a node may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For a connection.
    pub(crate) connect_timeout: Duration,
    /// For an answer, before the node counts as hung.
    pub(crate) answer_timeout: Duration,
    /// The longest pause between two attempts to connect.
    pub(crate) pause_max: Duration,
    /// How long a node must have been up to count as settled, and away to count as gone: longer than
    /// it takes any gateway to notice that a node is back.
    pub(crate) settle_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_millis(500),
            answer_timeout: Duration::from_millis(200),
            pause_max: Duration::from_millis(400),
            settle_time: Duration::from_millis(800),
        }
    }
}

/// A memcached node; its connection ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Memcached {
    link: Arc<Link>,
    tried: watch::Receiver<bool>,
    _stop: DropGuard,
}

/// What the task that keeps the connection shares with those who ask.
#[derive(Debug)]
struct Link {
    address: String,
    is_up: AtomicBool,
    channel: Mutex<Channel>,
    /// There is something to send.
    wake: Notify,
    /// Counts how often nodes were up again.
    returned: watch::Sender<u64>,
    settle_time: Duration,
}

/// Requests that are to be sent, and those that wait for an answer, in order.
#[derive(Debug, Default)]
struct Channel {
    output: Vec<u8>,
    waiting: VecDeque<Waiting>,
    /// Since when the node is up or away; `None` when that is so from the start.
    changed_at: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// `None` when nobody waits any more, but the node will still answer.
    client: Option<oneshot::Sender<Answered>>,
}

impl Memcached {
    /// Connects to a node in the background; `returned` is raised whenever it is up.
    pub(crate) fn connect(
        address: &str,
        limits: Limits,
        returned: watch::Sender<u64>,
        tasks: &Tasks,
    ) -> Self {
        let channel = Channel { changed_at: Some(Instant::now()), ..Channel::default() };
        let link = Arc::new(Link {
            address: address.to_owned(),
            is_up: AtomicBool::new(false),
            channel: Mutex::new(channel),
            wake: Notify::new(),
            returned,
            settle_time: limits.settle_time,
        });
        // Not the token of all tasks: locks are given back after that one was cancelled.
        let stop = CancellationToken::new();
        let (tell_tried, tried) = watch::channel(false);
        let keep = connection::keep(Arc::clone(&link), limits, tell_tried, stop.clone());
        tasks.spawn("keep_node", keep);
        Self { link, tried, _stop: stop.drop_guard() }
    }

    /// Waits until the first attempt to connect has ended, which the connect timeout bounds.
    pub(crate) async fn wait_tried(&self) {
        // An error means that the task has ended, so nothing is left to wait for.
        drop(self.tried.clone().wait_for(|tried| *tried).await);
    }
}

impl Link {
    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self) -> StoreError {
        StoreError::Unreachable { store: self.address.clone() }
    }

    fn refuses(&self, reason: &[u8]) -> StoreError {
        let reason = String::from_utf8_lossy(reason).trim_end().to_owned();
        StoreError::Refuses { store: self.address.clone(), reason }
    }
}

impl Store for Memcached {
    fn name(&self) -> &str {
        &self.link.address
    }

    fn is_up(&self) -> bool {
        self.link.is_up.load(Ordering::Relaxed)
    }

    fn standing(&self) -> Standing {
        let changed_at = self.link.channel().changed_at;
        let is_lasting = changed_at.is_none_or(|at| at.elapsed() >= self.link.settle_time);
        match (self.is_up(), is_lasting) {
            (true, true) => Standing::Settled,
            (true, false) => Standing::Fresh,
            (false, true) => Standing::Gone,
            (false, false) => Standing::Leaving,
        }
    }

    fn ask(&self, request: Request<'_>) -> Answer {
        let mut channel = self.link.channel();
        // Looked at under the lock, so that nothing is put into a channel that was just emptied.
        if !self.is_up() {
            return Answer::ready(Err(self.link.unreachable()));
        }
        if channel.waiting.len() >= REQUESTS_MAX || channel.output.len() >= OUTPUT_BYTES_MAX {
            return Answer::ready(Err(StoreError::Busy { store: self.link.address.clone() }));
        }
        let was_empty = channel.output.is_empty();
        request::encode(request, &mut channel.output);
        let (client, receiver) = oneshot::channel();
        channel.waiting.push_back(Waiting { since: Instant::now(), client: Some(client) });
        drop(channel);
        if was_empty {
            self.link.wake.notify_one();
        }
        Answer::waiting(receiver)
    }
}

//! What a gateway is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::counters::Counters;
use crate::store::dynamodb::Table;

/// What php-memcached puts before the id of a session.
pub const SESSION_PREFIX: &str = "memc.sess.key.";

/// libmemcached gives up a connection that has not answered for five seconds, and PHP's session with
/// it. When it is told before that the lock is not free yet, php-memcached asks again, as often as
/// `memcached.sess_lock_retries` says (five times), so a request waits for nearly half a minute.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(4500);

/// Where the gateway listens, and where it keeps sessions.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where PHP connects to: a socket.
    pub socket: Option<Socket>,
    /// Where test tools may connect to: a port on loopback. Port 0 is any free one.
    pub port: Option<SocketAddr>,
    /// Where sessions are kept.
    pub backend: Backend,
    /// On how many nodes each session is kept: two, or one.
    pub copies: usize,
    /// What the keys of sessions begin with; their locks have `lock.` after it.
    pub session_prefix: String,
    /// How many clients may be connected.
    pub connections_max: usize,
    /// How long a client waits for a lock at most; below the time after which it gives up its
    /// connection.
    pub lock_wait_max: Duration,
    /// How long a node may take to answer before it is left out.
    pub node_timeout: Duration,
    /// How long sessions live at most, so how long nodes that left the list are still asked.
    pub session_lifetime: Duration,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// A socket in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its path, absolute, for `session.save_path`.
    pub path: PathBuf,
    /// Who may connect, such as `0o660`.
    pub mode: u32,
    /// The group that owns it, by number; `None` leaves the group of this process.
    pub group: Option<u32>,
}

/// Where sessions are kept.
#[derive(Debug, Clone)]
pub enum Backend {
    /// In memcached nodes, `host:port`. The list may change at any time.
    Memcached(watch::Receiver<Vec<String>>),
    /// In the nodes of an ElastiCache cluster for memcached, which are found by its configuration
    /// endpoint, `host:port`.
    ElastiCache(String),
    /// In a DynamoDB table. Who may use it is found as AWS' own tools do: in the environment, in
    /// profiles, by the instance's role.
    DynamoDb(Table),
    /// In this process, so only as long as it lives.
    Memory,
}

impl Options {
    /// Returns the usual options for a backend; nothing listens yet.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        Self {
            socket: None,
            port: None,
            backend,
            copies: 2,
            session_prefix: SESSION_PREFIX.to_owned(),
            connections_max: 4096,
            lock_wait_max: LOCK_WAIT_MAX,
            node_timeout: Duration::from_millis(200),
            session_lifetime: Duration::from_secs(30 * 24 * 60 * 60),
            counters: Arc::default(),
        }
    }
}

//! What all connections of a gateway share, and how they come in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::copies::Copies;
use crate::counters::Counters;
use crate::locks::{ClientId, Locks};

const TOO_MANY: &[u8] = b"SERVER_ERROR too many connections\r\n";
/// How long a client that is turned away may take to be told.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after the system refused to accept, as when it has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) copies: Arc<Copies>,
    pub(crate) locks: Arc<Locks>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) connections_max: usize,
    pub(crate) started_at: Instant,
    pub(crate) stop: CancellationToken,
    pub(crate) last_client: AtomicU64,
}

impl Gateway {
    /// Returns the number of a new client.
    pub(crate) fn next_client(&self) -> ClientId {
        self.last_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Serves a client in a task of its own, or turns it away.
    fn take<S>(self: &Arc<Self>, mut stream: S, tasks: &Tasks)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let open = self.counters.snapshot().curr_connections;
        if usize::try_from(open).unwrap_or(usize::MAX) < self.connections_max {
            let counted = self.counters.open_connection();
            let connection = Connection::new(Arc::clone(self), stream);
            tasks.spawn("serve_client", async move {
                connection.serve().await;
                drop(counted);
            });
        } else {
            self.counters.count(|counts| &counts.rejected_connections);
            tasks.spawn("reject_client", async move {
                // It may be gone already.
                drop(timeout(REJECTION_TIMEOUT, stream.write_all(TOO_MANY)).await);
            });
        }
    }

    /// Accepts clients on a socket until the gateway stops.
    pub(crate) async fn accept_unix(self: Arc<Self>, listener: UnixListener, tasks: Tasks) {
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => self.take(stream, &tasks),
                    Err(error) => pause(&error).await,
                }
            }
        };
        self.stop.run_until_cancelled(accept).await;
    }

    /// Accepts clients on a port until the gateway stops.
    pub(crate) async fn accept_tcp(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Without it, small answers wait for each other.
                        drop(stream.set_nodelay(true));
                        self.take(stream, &tasks);
                    }
                    Err(error) => pause(&error).await,
                }
            }
        };
        self.stop.run_until_cancelled(accept).await;
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "Cannot accept a client");
    sleep(ACCEPT_PAUSE).await;
}

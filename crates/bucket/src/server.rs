//! The server: binds, accepts, and goes on until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::BucketError;
use crate::index::expire_uploads;
use crate::options::Options;
use crate::patient::PatientStream;
use crate::service::serve;
use crate::store::Store;
use crate::timestamp::Timestamp;

/// How long requests have to end when the store is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the index has to end its last changes.
const INDEX_TIMEOUT: Duration = Duration::from_secs(10);
/// How often unfinished uploads are looked through.
const EXPIRE_PERIOD: Duration = Duration::from_secs(60 * 60);
/// How long accepting rests after it failed, for want of open files, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What hyper keeps of a connection's bytes at most.
const CONNECTION_BUFFER_BYTES: usize = 256 * 1024;
/// Headers of a request at most; an object's own take a part of them.
const HEADERS_MAX: usize = 128;

/// A store that runs.
#[derive(Debug)]
pub struct Bucket {
    address: SocketAddr,
    directory: PathBuf,
    /// The caller wants it to stop.
    told: CancellationToken,
    /// It stops, because it was told to or because its index failed.
    stopping: CancellationToken,
    index: JoinHandle<()>,
}

/// Opens the store, binds its address and serves until `tasks` is told to stop.
///
/// # Errors
/// The directory is in use or cannot be used, or the address is taken.
pub async fn start(options: Options, tasks: &Tasks) -> Result<Bucket, BucketError> {
    let address = options.listen;
    if !address.ip().is_loopback() {
        return Err(BucketError::OpenAddress(address));
    }
    let listen = |source| BucketError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let told = tasks.stopping();
    let stopping = told.child_token();
    let (store, index) = Store::open(&options, stopping.clone())?;
    let store = Arc::new(store);
    let acceptor = Acceptor {
        store: Arc::clone(&store),
        permits: Arc::new(Semaphore::new(options.limits.connections_max)),
        tasks: tasks.clone(),
        stopping: stopping.clone(),
    };
    tasks.spawn("accept_connections", acceptor.run(listener));
    tasks.spawn("expire_uploads", expire_until_stopped(store, stopping.clone()));
    tracing::info!(%address, bucket = options.bucket, "The store listens");
    Ok(Bucket { address, directory: options.directory, told, stopping, index })
}

/// Runs a store until it is told to stop.
///
/// # Errors
/// It cannot start, or its index failed.
pub async fn run(options: Options, tasks: &Tasks) -> Result<(), BucketError> {
    start(options, tasks).await?.ended().await
}

impl Bucket {
    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped: requests have ended or had their time, and the index is closed.
    ///
    /// # Errors
    /// Nobody told it to stop; its index failed.
    pub async fn ended(self) -> Result<(), BucketError> {
        self.stopping.cancelled().await;
        let is_broken = !self.told.is_cancelled();
        // The thread ends when the last request has let go of the store.
        let index = self.index;
        let closing = spawn_blocking(move || index.join().is_ok());
        if !matches!(timeout(DRAIN_TIMEOUT + INDEX_TIMEOUT, closing).await, Ok(Ok(true))) {
            tracing::warn!(
                "The index of the store was not closed in time; the next start mends it"
            );
        }
        if is_broken { Err(BucketError::Broken { path: self.directory }) } else { Ok(()) }
    }
}

/// Takes connections.
struct Acceptor {
    store: Arc<Store>,
    permits: Arc<Semaphore>,
    tasks: Tasks,
    stopping: CancellationToken,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let accepting = async {
            loop {
                // Whoever comes when there are too many waits in the kernel.
                let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => self.begin(stream, permit),
                    Err(error) => {
                        tracing::warn!(%error, "A connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = accepting => {}
        }
    }

    fn begin(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        // Answers are small, or written in large pieces: waiting for more only costs time.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "A connection keeps small pieces back");
        }
        let (store, stopping) = (Arc::clone(&self.store), self.stopping.clone());
        self.tasks.spawn("connection", async move {
            serve_connection(store, stream, stopping).await;
            drop(permit);
        });
    }
}

async fn serve_connection(store: Arc<Store>, stream: TcpStream, stopping: CancellationToken) {
    let stream = PatientStream::new(stream, store.limits.body_idle_timeout);
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(store.limits.head_timeout)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .max_headers(HEADERS_MAX);
    let service = service_fn(move |request| serve(Arc::clone(&store), request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "A connection broke off");
    }
}

/// Gives up uploads that nobody will finish.
async fn expire_until_stopped(store: Arc<Store>, stopping: CancellationToken) {
    let age_max = u64::try_from(store.limits.upload_age_max.as_millis()).unwrap_or(u64::MAX);
    let expiring = async {
        let mut period = interval(EXPIRE_PERIOD);
        loop {
            period.tick().await;
            let before = Timestamp(Timestamp::now().0.saturating_sub(age_max));
            // A hundred at a time, so that others get their turn.
            while let Ok(expired @ 1..) =
                store.index.change(move |change| expire_uploads(change, before)).await
            {
                tracing::info!(expired, "Unfinished uploads were given up");
            }
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = expiring => {}
    }
}

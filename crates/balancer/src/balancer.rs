//! Starting and stopping: every port is bound before anything runs, and every thread is awaited.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flotilla_core::id::Token;
use flotilla_core::table::BalancerStatus;
use flotilla_host::open_files;
use flotilla_host::tasks::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::control::Control;
use crate::error::BalancerError;
use crate::health::check_upstreams;
use crate::lane;
use crate::listen::{bind_alone, bind_shared};
use crate::options::Options;
use crate::random::Random;
use crate::shared::Shared;
use crate::state_file;

/// Open files that are kept for everything but visitors and their requests: listeners, the control
/// interface, health checks, the state file, logs. Half of the limit, when that is less.
const RESERVED_FILES: u64 = 256;
/// A visitor's connection and the one on which the visitor's request is sent on.
const FILES_PER_VISITOR: u64 = 2;
/// How long the control interface may take to stop.
const CONTROL_STOP_LIMIT: Duration = Duration::from_secs(2);

/// A running balancer; dropping it stops it without draining.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    control_address: SocketAddr,
    stop_control: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    running: watch::Receiver<usize>,
    control_running: watch::Receiver<usize>,
    cut_off: Arc<AtomicUsize>,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had not ended when the time was over.
    pub cut_off: usize,
}

/// Tells how many threads are left, also when one of them panics.
struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running = running.saturating_sub(1));
    }
}

/// Binds every port, takes up the saved table, and serves.
///
/// # Errors
///
/// Returns what could not be bound, read or started; nothing is left running then.
pub fn start(mut options: Options) -> Result<Balancer, BalancerError> {
    if options.control_token.reveal().is_empty() {
        return Err(BalancerError::EmptyToken);
    }
    if options.listen.is_empty() {
        return Err(BalancerError::NoListenAddress);
    }
    let available = thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(available).max(1);
    limit_connections(&mut options, threads)?;
    let (addresses, listeners) = bind_all(&options.listen, threads)?;
    let control = bind_alone(options.control)?;
    let control_address = control
        .local_addr()
        .map_err(|source| BalancerError::Bind { address: options.control, source })?;
    for address in &addresses {
        tracing::info!(%address, threads, "Listening for visitors");
    }
    tracing::info!(address = %control_address, "Listening for the foreman");

    let path = options.state_file.clone();
    let saved =
        state_file::load(&path).map_err(|source| BalancerError::StateFile { path, source })?;
    let mut handles = Vec::new();
    let access_log = match &options.access_log {
        Some(path) => {
            let (log, thread) = AccessLog::open(path)
                .map_err(|source| BalancerError::AccessLog { path: path.clone(), source })?;
            handles.push(thread);
            log
        }
        None => AccessLog::default(),
    };
    let shared = Arc::new(Shared::new(options, access_log, threads));
    if let Some(saved) = saved {
        tracing::info!(version = saved.table.version, "Serving with the saved table");
        shared.publish(saved.table, Some(saved.since_version));
    }
    let (running_sender, running) = watch::channel(0);
    let (control_sender, control_running) = watch::channel(0);
    let mut balancer = Balancer {
        shared,
        addresses,
        control_address,
        stop_control: CancellationToken::new(),
        threads: handles,
        running,
        control_running,
        cut_off: Arc::default(),
    };
    balancer.start_control(control, &control_sender)?;
    for (number, listeners) in listeners.into_iter().enumerate() {
        balancer.start_lane(number, listeners, &running_sender)?;
    }
    Ok(balancer)
}

impl Balancer {
    /// Returns where visitors are served, in the order of [`Options::listen`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns where the control interface listens.
    #[must_use]
    pub const fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// Returns what the control interface tells the foreman.
    #[must_use]
    pub fn status(&self) -> BalancerStatus {
        self.shared.status()
    }

    /// Takes these tokens at the control interface from now on, and no other; while a token is
    /// replaced there are two. None at all, or an empty one, is ignored.
    pub fn set_control_tokens(&self, tokens: Vec<Token>) {
        if !tokens.is_empty() && tokens.iter().all(|token| !token.reveal().is_empty()) {
            self.shared.control_tokens.store(Arc::new(tokens));
        }
    }

    /// Has the access log opened again by its name, after it was rotated.
    pub fn reopen_log(&self) {
        self.shared.access_log.reopen();
    }

    /// Waits until a thread ends that nobody stopped; a balancer without all its threads is to be
    /// restarted.
    pub async fn failed(&self) {
        let (mut lanes, mut control) = (self.running.clone(), self.control_running.clone());
        let all = self.shared.metrics.len();
        tokio::select! {
            _ = lanes.wait_for(|running| *running < all) => {}
            _ = control.wait_for(|running| *running < 1) => {}
        }
    }

    /// Stops accepting, lets requests end for at most `limit`, and waits for all threads.
    pub async fn shut_down(mut self, limit: Duration) -> Drained {
        self.shared.begin_drain(limit);
        // Both waits end by themselves: the threads keep the deadline.
        drop(self.running.wait_for(|running| *running == 0).await);
        self.stop_control.cancel();
        drop(self.control_running.wait_for(|running| *running == 0).await);
        self.shared.access_log.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("A thread of the balancer panicked");
            }
        }
        Drained { cut_off: self.cut_off.load(Ordering::Relaxed) }
    }

    fn start_control(
        &mut self,
        listener: TcpListener,
        sender: &watch::Sender<usize>,
    ) -> Result<(), BalancerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| BalancerError::System { what: "the control runtime", source })?;
        let shared = Arc::clone(&self.shared);
        let stopping = self.stop_control.clone();
        let is_loopback = self.control_address.ip().to_canonical().is_loopback();
        let body = move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let tasks = Tasks::new();
                let control = Control::new(Arc::clone(&shared), is_loopback);
                tasks.spawn("check_upstreams", check_upstreams(shared));
                tasks.spawn("serve_control", control.serve(listener, stopping.clone()));
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = tasks.stopping().cancelled_owned() => {}
                }
                stopping.cancel();
                tasks.shut_down(CONTROL_STOP_LIMIT).await;
                Ok(())
            })
        };
        self.start_thread("control".to_owned(), sender, body)
    }

    fn start_lane(
        &mut self,
        number: usize,
        listeners: Vec<TcpListener>,
        sender: &watch::Sender<usize>,
    ) -> Result<(), BalancerError> {
        let random = Random::seeded()
            .map_err(|source| BalancerError::System { what: "the random numbers", source })?;
        let shared = Arc::clone(&self.shared);
        let Some(metrics) = shared.metrics.get(number).cloned() else { return Ok(()) };
        let cut_off = Arc::clone(&self.cut_off);
        let body = move || {
            let count = lane::run(shared, metrics, random, listeners)?;
            cut_off.fetch_add(count, Ordering::Relaxed);
            Ok(())
        };
        self.start_thread(format!("lane-{number}"), sender, body)
    }

    fn start_thread(
        &mut self,
        name: String,
        sender: &watch::Sender<usize>,
        body: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), BalancerError> {
        sender.send_modify(|running| *running += 1);
        let running = Running(sender.clone());
        let run = move || {
            if let Err(error) = body() {
                tracing::error!(%error, "A thread of the balancer failed");
            }
            drop(running);
        };
        let thread = thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(|source| BalancerError::System { what: "a thread", source })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.begin_drain(Duration::ZERO);
        self.stop_control.cancel();
        self.shared.access_log.close();
    }
}

/// Takes no more visitors than the process may open files for: one that is not accepted waits in the
/// kernel, but one that is accepted and cannot be served is lost.
fn limit_connections(options: &mut Options, threads: usize) -> Result<(), BalancerError> {
    let files = open_files::limit()
        .map_err(|source| BalancerError::System { what: "with the limit of open files", source })?;
    let wanted = options.limits.connections_per_thread_max;
    let possible = connections_possible(files, threads);
    if possible < wanted {
        tracing::warn!(
            open_files_max = files,
            connections_per_thread_max = possible,
            "Fewer visitors at a time than intended; raise the hard limit of open files"
        );
        options.limits.connections_per_thread_max = possible;
    }
    Ok(())
}

/// Returns how many visitors each thread can have when the process may open so many files.
fn connections_possible(files: u64, threads: usize) -> usize {
    let threads = u64::try_from(threads).unwrap_or(u64::MAX);
    let for_visitors = files - RESERVED_FILES.min(files / 2);
    let each = for_visitors / FILES_PER_VISITOR / threads.max(1);
    usize::try_from(each).unwrap_or(usize::MAX).max(1)
}

/// Binds every address for every thread; returns the addresses and the listeners of each thread.
fn bind_all(
    addresses: &[SocketAddr],
    threads: usize,
) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), BalancerError> {
    let mut bound = Vec::with_capacity(addresses.len());
    let mut per_thread: Vec<Vec<TcpListener>> = (0..threads).map(|_| Vec::new()).collect();
    for address in addresses {
        let listeners = bind_shared(*address, threads)?;
        let local = listeners.first().map(TcpListener::local_addr);
        bound.push(local.and_then(Result::ok).unwrap_or(*address));
        for (mine, listener) in per_thread.iter_mut().zip(listeners) {
            mine.push(listener);
        }
    }
    Ok((bound, per_thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_and_their_requests_fit_into_the_open_files() {
        for (files, threads, expected) in
            [(1024, 1, 384), (1024, 2, 192), (524_288, 2, 131_008), (100, 1, 25), (1, 4, 1)]
        {
            assert_eq!(connections_possible(files, threads), expected, "{files} {threads}");
        }
    }
}

//! The process that answers for a mount. It may be killed at any time.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::MediaError;
use crate::filesystem::MediaFilesystem;
use crate::options::Options;
use crate::store::Store;
use crate::takeover;
use crate::volume::Volume;

/// How many threads work on what must be waited for.
const WORKERS: usize = 2;
/// How many threads may wait for the disk.
const DISK_THREADS_MAX: usize = 32;
/// How long what is under way may take when the daemon stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is tried to find out what the bucket's server can do.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Answers the kernel's questions, which come on the standard input, until told to stop (SIGTERM)
/// or until the mount is gone.
///
/// # Errors
/// The local files cannot be used, the kernel does not talk to us, or a task panicked. The keeper
/// starts another one.
pub fn run_daemon(options: Options) -> Result<(), MediaError> {
    // Without its keeper nobody would ever end it.
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| MediaError::Session(errno.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(DISK_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(MediaError::Session)?;
    let connection = std::io::stdin().as_fd().try_clone_to_owned().map_err(MediaError::Session)?;
    let outcome = runtime.block_on(serve(options, connection));
    // Threads that wait for the kernel end with the process.
    runtime.shutdown_background();
    outcome
}

async fn serve(options: Options, connection: OwnedFd) -> Result<(), MediaError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(MediaError::Session)?;
    let tasks = Tasks::new();
    let store = Store::new(&options.store)?;
    let path = options.directory.clone();
    let volume = Volume::open(options, store, tasks.clone())
        .map_err(|fault| MediaError::Files { path, reason: flotilla_core::error::chain(&fault) })?;
    let filesystem = MediaFilesystem::new(volume.clone(), tokio::runtime::Handle::current());
    let session =
        takeover::take_over(filesystem, connection.as_fd()).map_err(MediaError::Session)?;
    volume.set_notifier(session.notifier());
    if let Err(error) = takeover::resend(connection.as_fd()) {
        tracing::debug!(%error, "The kernel does not ask again what was not answered");
    }
    tasks.spawn("media.settle", settle(volume.clone(), tasks.stopping()));
    tracing::info!("The media daemon answers");
    let ended = tokio::task::spawn_blocking(move || session.run());
    let stopping = tasks.stopping();
    tokio::select! {
        outcome = ended => match outcome {
            Ok(outcome) => outcome.map_err(MediaError::Session),
            Err(_) => Err(MediaError::Panicked),
        },
        _ = terminate.recv() => {
            tasks.shut_down(STOP_TIMEOUT).await;
            Ok(())
        }
        () = stopping.cancelled() => Err(MediaError::Panicked),
    }
}

/// Does what has to be done beside answering, as soon as the bucket can be used.
async fn settle(volume: Volume, stopping: CancellationToken) {
    probe(&volume, &stopping).await;
    if !stopping.is_cancelled() {
        volume.keep_deny_list(stopping).await;
    }
}

/// Finds out whether the bucket can be used and what its server can be relied on for.
async fn probe(volume: &Volume, stopping: &CancellationToken) {
    let mut last_error = String::new();
    loop {
        let error = match volume.store().probe().await {
            Ok(abilities) => {
                volume.set_abilities(abilities);
                if !abilities.keeps_first {
                    tracing::warn!(
                        "The media bucket's server ignores If-None-Match: files that two instances create at once may overwrite each other"
                    );
                }
                if !abilities.keeps_version {
                    tracing::warn!(
                        "The media bucket's server ignores If-Match: lines that two instances append at once may be lost"
                    );
                }
                return;
            }
            Err(error) => error.to_string(),
        };
        if error != last_error {
            tracing::error!(error, "The media bucket cannot be used");
            last_error = error;
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
        }
    }
}

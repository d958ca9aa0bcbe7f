//! A service of this machine that outlives whoever started it: started or found running, kept
//! running with back-off, stopped in a bounded time.
//!
//! The lock of [`Launch`] is the only record of it, so there is nothing that could be stale.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use flotilla_core::error::chain;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::files::tail;
use crate::launch::Launch;
use crate::lock::lock_holder;
use crate::session;

const POLL_INTERVAL: Duration = Duration::from_millis(100);
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(20);
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STEADY_AFTER: Duration = Duration::from_secs(10);
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const WORDS_BYTES_MAX: u64 = 16 * 1024;
const LOG_LINES_SHOWN: usize = 12;

/// How to start and stop a service.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its name in messages.
    pub name: String,
    /// This program, which launches all others.
    pub own_program: PathBuf,
    /// What to launch.
    pub launch: Launch,
    /// The signal that stops it in good order.
    pub stop_signal: Signal,
    /// How long it may take to stop before it is killed.
    pub stop_timeout: Duration,
}

/// What is known of a service that is kept running.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitState {
    /// Its process; `None` while it does not run.
    pub pid: Option<i32>,
    /// How often it was started again after it had ended.
    pub restarts: u32,
    /// Why it ended or did not start, the last time that happened.
    pub last_error: Option<String>,
}

/// Says what a service did not do.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// It ended at once, or could not be launched.
    #[error("`{name}` did not start{}", detail(.words))]
    Start {
        /// The service.
        name: String,
        /// What the launcher said, or the end of its log.
        words: String,
    },
    /// It ran to its end, and that was not a good one.
    #[error("`{name}` failed with {status}{}", detail(.words))]
    Failed {
        /// The service.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        words: String,
    },
    /// It took too long and was killed.
    #[error("`{name}` did not end within {} s{}", limit.as_secs(), detail(.words))]
    TimedOut {
        /// The service.
        name: String,
        /// The time it had.
        limit: Duration,
        /// The end of its log.
        words: String,
    },
    /// The machine refused.
    #[error("cannot control `{name}`")]
    System {
        /// The service.
        name: String,
        /// Why.
        source: io::Error,
    },
}

fn detail(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

impl Unit {
    /// Returns the process id of the running service.
    ///
    /// # Errors
    /// Its lock file cannot be read.
    pub fn holder(&self) -> Result<Option<Pid>, UnitError> {
        let holder = lock_holder(&self.launch.lock).map_err(|source| self.system(source))?;
        Ok(holder.map(Pid::from_raw).filter(|pid| session::is_alive(*pid)))
    }

    /// Starts the service unless it runs; returns whether it was started.
    ///
    /// # Errors
    /// It ended at once; what it said is in the error.
    pub async fn start(&self) -> Result<bool, UnitError> {
        if self.holder()?.is_some() {
            return Ok(false);
        }
        let (launcher, words) = self.launch().await?;
        match self.holder()? {
            // Dropping the handle lets the runtime reap it; its lock says whether it lives.
            Some(pid) => Ok(launcher.id().and_then(|id| id.try_into().ok()) == Some(pid.as_raw())),
            None => Err(self.start_error(words)),
        }
    }

    /// Launches a program that does one thing, and waits for its good end. A run that an earlier
    /// caller left behind is stopped first.
    ///
    /// # Errors
    /// It failed, or took longer than `limit` and was killed.
    pub async fn run_to_end(&self, limit: Duration) -> Result<(), UnitError> {
        self.stop().await?;
        let (mut launcher, words) = self.launch().await?;
        let Ok(ended) = tokio::time::timeout(limit, launcher.wait()).await else {
            self.stop().await?;
            let words = tail(&self.launch.log, LOG_LINES_SHOWN);
            return Err(UnitError::TimedOut { name: self.name.clone(), limit, words });
        };
        let status = ended.map_err(|source| self.system(source))?;
        if status.success() {
            return Ok(());
        }
        if !words.is_empty() {
            return Err(self.start_error(words));
        }
        let words = tail(&self.launch.log, LOG_LINES_SHOWN);
        Err(UnitError::Failed { name: self.name.clone(), status, words })
    }

    /// Stops the service: asks, waits, kills. Returns whether it ran.
    ///
    /// # Errors
    /// It cannot be signalled, or lives on after SIGKILL.
    pub async fn stop(&self) -> Result<bool, UnitError> {
        stop_holder(&self.name, &self.launch.lock, self.stop_signal, self.stop_timeout).await
    }

    /// Keeps the service running until told otherwise; leaves it running then.
    pub async fn keep(&self, stopping: CancellationToken) {
        self.keep_reporting(stopping, |_| {}).await;
    }

    /// Does what [`Self::keep`] does and tells about each change.
    pub async fn keep_reporting(
        &self,
        stopping: CancellationToken,
        mut report: impl FnMut(&UnitState),
    ) {
        let mut state = UnitState::default();
        let mut has_run = false;
        let mut back_off = BACK_OFF_FIRST;
        while !stopping.is_cancelled() {
            let started_at = Instant::now();
            match self.start().await {
                Ok(was_started) => {
                    if was_started {
                        tracing::info!(unit = self.name, "A service was started");
                        state.restarts += u32::from(has_run);
                    }
                    has_run = true;
                    state.pid = self.holder().ok().flatten().map(Pid::as_raw);
                    report(&state);
                    self.watch(&stopping).await;
                    if stopping.is_cancelled() {
                        return;
                    }
                    let log = tail(&self.launch.log, 3);
                    tracing::warn!(unit = self.name, log, "A service ended");
                    state.last_error = Some(format!("`{}` ended{}", self.name, detail(&log)));
                    if started_at.elapsed() > STEADY_AFTER {
                        back_off = BACK_OFF_FIRST;
                    }
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(unit = self.name, error, "A service does not start");
                    state.last_error = Some(error);
                }
            }
            state.pid = None;
            report(&state);
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(back_off) => {}
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// Starts the launcher and waits until it has become the program or has ended; returns what it
    /// said. It says nothing when it has become the program.
    async fn launch(&self) -> Result<(Child, String), UnitError> {
        if let Some(pid) = lock_holder(&self.launch.lock).map_err(|source| self.system(source))? {
            // The service itself is dead, but a child of it holds the lock, and perhaps a port.
            if !session::is_alive(Pid::from_raw(pid)) {
                kill_leftovers(&self.name, &self.launch.lock).await?;
            }
        }
        let spec = serde_json::to_string(&self.launch)
            .map_err(|error| self.system(io::Error::other(error)))?;
        let mut command = tokio::process::Command::new(&self.own_program);
        command.args(["internal", "launch", &spec]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut launcher = command.spawn().map_err(|source| self.system(source))?;
        let mut words = Vec::new();
        if let Some(errors) = launcher.stderr.take() {
            let mut errors = errors.take(WORDS_BYTES_MAX);
            let end = tokio::time::timeout(START_TIMEOUT, errors.read_to_end(&mut words)).await;
            if end.is_err() {
                launcher.kill().await.map_err(|source| self.system(source))?;
                return Err(self.start_error(format!("it took longer than {START_TIMEOUT:?}")));
            }
        }
        Ok((launcher, String::from_utf8_lossy(&words).trim().to_owned()))
    }

    fn start_error(&self, words: String) -> UnitError {
        let words = if words.is_empty() { tail(&self.launch.log, LOG_LINES_SHOWN) } else { words };
        UnitError::Start { name: self.name.clone(), words }
    }

    async fn watch(&self, stopping: &CancellationToken) {
        while matches!(self.holder(), Ok(Some(_))) {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    fn system(&self, source: io::Error) -> UnitError {
        system(&self.name, source)
    }
}

/// Stops whatever holds a lock: asks, waits, kills. Returns whether anything did.
///
/// # Errors
/// It cannot be signalled, or lives on after SIGKILL.
pub async fn stop_holder(
    name: &str,
    lock: &Path,
    stop_signal: Signal,
    stop_timeout: Duration,
) -> Result<bool, UnitError> {
    let deadline = Instant::now() + stop_timeout;
    let mut asked = None;
    while let Some(number) = lock_holder(lock).map_err(|source| system(name, source))? {
        let pid = Pid::from_raw(number);
        if !session::is_alive(pid) {
            break;
        }
        if asked != Some(pid) {
            match kill(pid, stop_signal) {
                Ok(()) | Err(Errno::ESRCH) => asked = Some(pid),
                Err(errno) => return Err(system(name, errno.into())),
            }
        }
        if Instant::now() > deadline {
            tracing::warn!(unit = name, "A service did not stop in time and is killed");
            break;
        }
        tokio::time::sleep(STOP_POLL_INTERVAL).await;
    }
    let was_left = kill_leftovers(name, lock).await?;
    Ok(asked.is_some() || was_left)
}

/// Kills what holds a lock until nothing does; returns whether anything did.
async fn kill_leftovers(name: &str, lock: &Path) -> Result<bool, UnitError> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    let mut was_held = false;
    while let Some(number) = lock_holder(lock).map_err(|source| system(name, source))? {
        was_held = true;
        session::kill_all(Pid::from_raw(number)).map_err(|source| system(name, source))?;
        if Instant::now() > deadline {
            return Err(system(name, io::Error::from(io::ErrorKind::TimedOut)));
        }
        tokio::time::sleep(STOP_POLL_INTERVAL).await;
    }
    Ok(was_held)
}

fn system(name: &str, source: io::Error) -> UnitError {
    UnitError::System { name: name.to_owned(), source }
}

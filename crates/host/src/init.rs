//! The first process of a room with its own process ids: keeps a few programs running.
//!
//! `flotilla internal launch` becomes `flotilla internal init SPEC`, which starts this first
//! process. When it dies, however it dies, the kernel kills everything in the room: no worker is
//! left over that holds a port. It must reap whatever is handed to it, so nothing else in it may
//! wait for children.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, Uid};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::launch::{find_user, is_own_program, reachable};
use crate::open_files;

/// A program that dies sooner than this after its start is not started again at once.
const STEADY_AFTER: Duration = Duration::from_secs(5);
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A program to keep running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name in messages.
    pub name: String,
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The number of the signal that ends it after its last request.
    pub stop_signal: i32,
    /// The number of the signal that makes it read its configuration again, when the first process is
    /// sent SIGHUP.
    #[serde(default)]
    pub reload_signal: Option<i32>,
    /// The user to run as; only root can change it.
    pub user: Option<String>,
}

/// What the first process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// In the order of their start; they are stopped in reverse.
    pub programs: Vec<Program>,
    /// Whether a program that ends is started again. If not, the room ends with the first that ends.
    pub restarts: bool,
    /// Seconds that a program may take to stop before it is killed.
    pub stop_timeout_seconds: u64,
    /// Removed before the programs start: sockets and pid files of a run that was killed.
    pub leftovers: Vec<PathBuf>,
}

/// The outer half: starts the first process and ends as it ends.
///
/// # Errors
/// The first process could not be started.
pub fn run_outer(own_program: &Path, spec: &str) -> io::Result<i32> {
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let program = reachable(own_program, is_own_program(own_program));
        let mut child = tokio::process::Command::new(program)
            .args(["internal", "init-inner", spec])
            .stdin(Stdio::piped())
            .spawn()?;
        // Closes when this process dies, which the first process sees.
        let _lifeline = child.stdin.take();
        let number = child.id().map(i32::try_from).transpose().map_err(io::Error::other)?;
        let pid = Pid::from_raw(number.unwrap_or_default());
        loop {
            let asked = tokio::select! {
                status = child.wait() => {
                    let status = status?;
                    let signalled = status.signal().map(|signal| 128 + signal);
                    return Ok(status.code().or(signalled).unwrap_or(1));
                }
                _ = terminate.recv() => Signal::SIGTERM,
                _ = interrupt.recv() => Signal::SIGINT,
                _ = hangup.recv() => Signal::SIGHUP,
            };
            // When it is gone already, the next wait tells.
            let _ = kill(pid, asked);
        }
    })
}

/// The first process itself; returns when it was told to stop and all have ended.
///
/// # Errors
/// The kernel refuses signals or the first start of a program fails.
pub fn run_inner(init: &Init) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if Pid::this().as_raw() == 1 {
        // Where this is refused (an ordinary user, a container that masks /proc), the programs see
        // the outer /proc.
        let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>);
    }
    // The lock of this unit tells what lives; the programs have no business with it.
    keep_files_from_children()?;
    for path in &init.leftovers {
        drop(std::fs::remove_file(path));
    }
    runtime()?.block_on(Keeper::new(init).run())
}

#[expect(unsafe_code, reason = "what was inherited is known by its number only")]
fn keep_files_from_children() -> io::Result<()> {
    for number in open_files::numbers()?.into_iter().filter(|number| *number > libc::STDERR_FILENO)
    {
        // SAFETY: nothing closes a file meanwhile, because no other thread or task runs yet; a
        // number that leads nowhere is refused by the kernel.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        // The listing's own descriptor is among them and closed already.
        let _ = fcntl(file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

struct Child {
    pid: Option<Pid>,
    has_run: bool,
    started_at: Instant,
    due_at: Instant,
    back_off: Duration,
}

struct Keeper<'a> {
    init: &'a Init,
    children: BTreeMap<usize, Child>,
}

impl<'a> Keeper<'a> {
    fn new(init: &'a Init) -> Self {
        let now = Instant::now();
        let child = || Child {
            pid: None,
            has_run: false,
            started_at: now,
            due_at: now,
            back_off: BACK_OFF_FIRST,
        };
        let children = (0..init.programs.len()).map(|index| (index, child())).collect();
        Self { init, children }
    }

    async fn run(mut self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut ended = signal(SignalKind::child())?;
        // The kernel's signal at the parent's death comes too late for a parent that died before
        // it was asked for; the end of the standard input does not.
        let mut lifeline = lifeline();
        loop {
            self.start_due()?;
            let due = self.next_due();
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload(),
                () = closed(&mut lifeline) => return Ok(()),
                _ = ended.recv() => {
                    let has_lost_one = self.reap();
                    if has_lost_one && !self.init.restarts {
                        break;
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
        self.stop().await;
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        self.children.values().filter(|child| child.pid.is_none()).map(|child| child.due_at).min()
    }

    fn start_due(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for (index, program) in self.init.programs.iter().enumerate() {
            let Some(child) = self.children.get_mut(&index) else { continue };
            if child.pid.is_some() || child.due_at > now {
                continue;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "supervised here for as long as it lives"
            )]
            let mut command = std::process::Command::new(&program.program);
            // Its own group, so that its workers can be killed when it was killed alone.
            command.args(&program.args).stdin(Stdio::null()).process_group(0);
            if let Some(user) = program.user.as_deref().filter(|_| Uid::effective().is_root()) {
                // Gives up the other groups, too.
                let (uid, gid) = find_user(user).map_err(io::Error::other)?;
                command.uid(uid.as_raw()).gid(gid.as_raw());
            }
            let spawned = command.spawn();
            child.started_at = now;
            match spawned {
                Ok(process) => {
                    let number = i32::try_from(process.id()).map_err(io::Error::other)?;
                    child.pid = Some(Pid::from_raw(number));
                    child.has_run = true;
                }
                // Its file is gone for a moment while its package is upgraded.
                Err(_) if child.has_run => child.wait_longer(now),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reload(&self) {
        for (index, program) in self.init.programs.iter().enumerate() {
            let pid = self.children.get(&index).and_then(|child| child.pid);
            let asked = program.reload_signal.and_then(|number| Signal::try_from(number).ok());
            if let (Some(pid), Some(asked)) = (pid, asked) {
                // One that has just died is started with the newest configuration.
                let _ = kill(pid, asked);
            }
        }
    }

    /// Returns whether one of the programs was among those that have ended.
    fn reap(&mut self) -> bool {
        let now = Instant::now();
        let mut has_lost_one = false;
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid() else { break };
            for child in self.children.values_mut().filter(|child| child.pid == Some(pid)) {
                // Workers of a killed master would keep its socket and go on with old settings.
                let _ = killpg(pid, Signal::SIGKILL);
                child.pid = None;
                has_lost_one = true;
                if now.saturating_duration_since(child.started_at) >= STEADY_AFTER {
                    child.back_off = BACK_OFF_FIRST;
                    child.due_at = now;
                } else {
                    child.wait_longer(now);
                }
            }
        }
        has_lost_one
    }

    async fn stop(mut self) {
        let deadline = Instant::now() + Duration::from_secs(self.init.stop_timeout_seconds);
        for (index, program) in self.init.programs.iter().enumerate().rev() {
            let Some(pid) = self.children.get(&index).and_then(|child| child.pid) else { continue };
            let _ = kill(pid, Signal::try_from(program.stop_signal).unwrap_or(Signal::SIGTERM));
            loop {
                self.reap();
                let lives = self.children.get(&index).is_some_and(|child| child.pid == Some(pid));
                if !lives || Instant::now() > deadline {
                    break;
                }
                tokio::time::sleep(STOP_POLL_INTERVAL).await;
            }
        }
        // The kernel kills what is left when this process ends.
    }
}

impl Child {
    fn wait_longer(&mut self, now: Instant) {
        self.due_at = now + self.back_off;
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }
}

fn lifeline() -> Option<pipe::Receiver> {
    let input = io::stdin().as_fd().try_clone_to_owned().ok()?;
    pipe::Receiver::from_owned_fd(input).ok()
}

async fn closed(lifeline: &mut Option<pipe::Receiver>) {
    let Some(pipe) = lifeline else { return std::future::pending().await };
    let mut buffer = [0_u8; 16];
    while pipe.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

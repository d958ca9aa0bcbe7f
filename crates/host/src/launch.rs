//! Becoming another program: own session, lock, log, user, and a private view of the file system.
//!
//! A service is started as `flotilla internal launch SPEC`. That process is single-threaded; it
//! arranges everything and then becomes the program. It takes a lock on a file that the program
//! inherits, so "the lock is held" means "it or a child of it lives", whoever started it. Nothing
//! else is inherited: a service that was started by another one must not keep that one's lock.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Gid, Uid, User, close, setgid, setgroups, setsid, setuid};
use serde::{Deserialize, Serialize};

use crate::lock::hold_lock;
use crate::open_files;
use crate::room::{Room, RoomError};

/// What to become, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment; parts of our own also get what concerns AWS and certificates.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub directory: PathBuf,
    /// The file whose lock says that it lives; its content is the process id.
    pub lock: PathBuf,
    /// Where its output is appended.
    pub log: PathBuf,
    /// The user to run as; only root can change it.
    pub user: Option<String>,
    /// A private view of the file system.
    pub room: Option<Room>,
}

/// Says why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It runs already.
    #[error("`{0}` is locked: it runs already")]
    Running(PathBuf),
    /// A file is in the way.
    #[error("cannot open `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such user.
    #[error("there is no user `{0}` on this machine")]
    User(String),
    /// The kernel refused.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The private view could not be made.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The program could not be executed.
    #[error("cannot run `{program}`")]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Does what the specification says and becomes the program; returns only when that failed.
///
/// Must be the first thing that a process does: every open file but the standard ones is closed.
/// Whoever starts it learns from its standard error, which the program does not inherit, why it
/// failed, and from the end of that stream that it did not.
#[must_use]
pub fn become_program(launch: &Launch) -> LaunchError {
    match prepare(launch) {
        Err(error) => error,
        Ok(mut command) => {
            LaunchError::Execute { program: launch.program.clone(), source: command.exec() }
        }
    }
}

fn prepare(launch: &Launch) -> Result<std::process::Command, LaunchError> {
    close_inherited()
        .map_err(|source| LaunchError::System { action: "list the open files", source })?;
    open_files::raise_limit().map_err(|source| LaunchError::System {
        action: "raise the limit of open files",
        source,
    })?;
    let log = open_log(&launch.log)?;
    // A process that was started in a terminal must survive it; and the session's number, which is
    // the process id in the lock file, is not given to a stranger while a child still lives.
    let _ = setsid();
    ignore_hangup().map_err(|source| LaunchError::System { action: "ignore a signal", source })?;
    match hold_lock(&launch.lock) {
        Ok(true) => {}
        Ok(false) => return Err(LaunchError::Running(launch.lock.clone())),
        Err(source) => return Err(LaunchError::Open { path: launch.lock.clone(), source }),
    }
    let identity = launch.user.as_deref().map(find_user).transpose()?;
    let is_own_program = is_own_program(&launch.program);
    let is_own_part = is_own_program && launch.room.is_none() && launch.user.is_none();
    let kept = std::env::vars_os().filter(|(name, _)| is_own_part && is_kept(name));
    if let Some(room) = &launch.room {
        room.enter()?;
    }
    become_user(identity)?;
    #[expect(clippy::disallowed_methods, reason = "this process becomes the command")]
    let mut command = std::process::Command::new(reachable(&launch.program, is_own_program));
    let errors = log
        .try_clone()
        .map_err(|source| LaunchError::System { action: "share the log", source })?;
    command
        .args(&launch.args)
        .env_clear()
        .envs(kept)
        .envs(launch.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
        .current_dir(&launch.directory)
        .stdin(std::process::Stdio::null())
        .stdout(log)
        .stderr(errors);
    Ok(command)
}

/// Returns whether our own parts pass a variable on to each other: those in which AWS' tools look for
/// credentials, and those that say whose certificates are trusted. In arguments, everybody on the
/// machine could read them. Programs of others, and whoever has a user or a room, get none.
fn is_kept(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"AWS_") || matches!(name, b"SSL_CERT_FILE" | b"SSL_CERT_DIR")
}

/// Returns whether a program is the one that this process runs.
pub(crate) fn is_own_program(program: &Path) -> bool {
    std::env::current_exe().is_ok_and(|own| own == program)
}

/// Returns the program's path, or for this process' own program one that always leads to it: inside
/// a room it may be covered, or lie where the new user cannot look.
pub(crate) fn reachable(program: &Path, is_own_program: bool) -> &Path {
    if is_own_program && fs::metadata(program).is_err() {
        Path::new("/proc/self/exe")
    } else {
        program
    }
}

fn close_inherited() -> io::Result<()> {
    for number in open_files::numbers()?.into_iter().filter(|number| *number > libc::STDERR_FILENO)
    {
        // The listing's own descriptor is among them and closed already.
        let _ = close(number);
    }
    Ok(())
}

/// A closed terminal is no end of a service, nor is a reload that is asked for before it listens.
#[expect(unsafe_code, reason = "it says what happens with a signal, for which nix has no safe way")]
fn ignore_hangup() -> io::Result<()> {
    // SAFETY: no handler is set that could run at a bad time; the kernel drops the signal.
    unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) }?;
    Ok(())
}

fn open_log(path: &Path) -> Result<File, LaunchError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| LaunchError::Open { path: path.to_owned(), source })
}

/// Looks a user up.
///
/// # Errors
/// There is no such user.
pub fn find_user(name: &str) -> Result<(Uid, Gid), LaunchError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        _ => Err(LaunchError::User(name.to_owned())),
    }
}

/// Gives up root for a user; an ordinary user stays who it is.
pub(crate) fn become_user(identity: Option<(Uid, Gid)>) -> Result<(), LaunchError> {
    let Some((uid, gid)) = identity.filter(|_| Uid::effective().is_root()) else { return Ok(()) };
    let system =
        |action| move |errno: nix::Error| LaunchError::System { action, source: errno.into() };
    setgroups(&[gid]).map_err(system("set the groups"))?;
    setgid(gid).map_err(system("set the group"))?;
    setuid(uid).map_err(system("set the user"))
}

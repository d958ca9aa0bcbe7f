//! The process that owns a mount: it makes it, in a mount namespace of its own, holds the connection
//! to the kernel, and keeps a daemon running that answers.
//!
//! It does next to nothing, so there is next to nothing that it could die of. While a daemon is dead,
//! programs wait; the next one answers them. Slots see the mount because their rooms begin in this
//! process' namespaces.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use flotilla_host::room;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::error::MediaError;
use crate::options::Options;
use crate::takeover::{self, Kernel};

const BACK_OFF_FIRST: Duration = Duration::from_millis(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A daemon that lives longer than this is started again at once when it dies.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// How long a daemon may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the options are looked at.
const OPTIONS_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What a keeper is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// Where the mount appears, in the keeper's namespace only. Made when it is not there.
    pub mount_point: PathBuf,
    /// What daemons are told; the keeper removes what an earlier mount left half written.
    pub options: Options,
    /// The daemon's program.
    pub program: PathBuf,
    /// Its arguments. Its standard input is the connection to the kernel.
    pub args: Vec<String>,
    /// The file that the daemon reads its options from: when it is replaced, another daemon follows.
    pub options_file: PathBuf,
}

/// Makes the mount and keeps it until told to stop (SIGTERM or SIGINT). Must be called by the only
/// thread of a process.
///
/// # Errors
/// The kernel refuses, the daemon cannot be started, or it died and cannot be followed.
pub fn run_keeper(keeper: &Keeper) -> Result<(), MediaError> {
    room::unshare_mounts()?;
    prepare(keeper)?;
    let connection = mount_at(&keeper.mount_point)?;
    let kernel = takeover::greet(connection.as_fd()).map_err(MediaError::Session)?;
    if !kernel.can_resend {
        tracing::warn!(
            "This kernel cannot hand a media directory over to another daemon; when the daemon dies, \
             slots start anew"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MediaError::Session)?;
    runtime.block_on(keep(keeper, &connection, kernel))
}

fn prepare(keeper: &Keeper) -> Result<(), MediaError> {
    let files_error = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| MediaError::Files { path, reason: error.to_string() }
    };
    let staging = keeper.options.staging_directory();
    fs::create_dir_all(&staging).map_err(files_error(&staging))?;
    // Programs that had these files open are gone with the mount that they had them from.
    for entry in fs::read_dir(&staging).map_err(files_error(&staging))?.flatten() {
        fs::remove_file(entry.path()).map_err(files_error(&staging))?;
    }
    fs::create_dir_all(&keeper.mount_point).map_err(files_error(&keeper.mount_point))
}

fn mount_at(path: &Path) -> Result<File, MediaError> {
    let connection = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_CLOEXEC)
        .open("/dev/fuse")
        .map_err(MediaError::Device)?;
    // The kernel compares permission bits with who asks; anybody may ask.
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
        connection.as_raw_fd(),
        Uid::effective(),
        Gid::effective()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    mount(Some("flotilla-media"), path, Some("fuse.flotilla"), flags, Some(options.as_str()))
        .map_err(|errno| MediaError::Mount { path: path.to_owned(), source: errno.into() })?;
    Ok(connection)
}

async fn keep(keeper: &Keeper, connection: &File, kernel: Kernel) -> Result<(), MediaError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(MediaError::Session)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(MediaError::Session)?;
    let mut back_off = BACK_OFF_FIRST;
    loop {
        let started_at = Instant::now();
        let options = identity(&keeper.options_file);
        let mut daemon = start(keeper, connection)?;
        let status = tokio::select! {
            status = daemon.wait() => status,
            _ = terminate.recv() => return stop(daemon).await,
            _ = interrupt.recv() => return stop(daemon).await,
            () = replaced(&keeper.options_file, options), if kernel.can_resend => {
                tracing::info!("The media daemon is told other options");
                stop(daemon).await?;
                continue;
            }
        };
        match status {
            Ok(status) => tracing::warn!(%status, "The media daemon ended"),
            Err(error) => tracing::warn!(%error, "The media daemon cannot be watched"),
        }
        if takeover::is_over(connection.as_fd()) {
            return Err(MediaError::Gone);
        }
        if !kernel.can_resend {
            return Err(MediaError::NoTakeover);
        }
        if started_at.elapsed() > STEADY_AFTER {
            back_off = BACK_OFF_FIRST;
        }
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Tells one state of a file from another: files are replaced, never changed.
fn identity(file: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.modified().ok()?))
}

async fn replaced(file: &Path, before: Option<(u64, SystemTime)>) {
    loop {
        tokio::time::sleep(OPTIONS_POLL_INTERVAL).await;
        let now = identity(file);
        if now.is_some() && now != before {
            return;
        }
    }
}

fn start(keeper: &Keeper, connection: &File) -> Result<Child, MediaError> {
    let failed = |source| MediaError::Daemon { program: keeper.program.clone(), source };
    let connection = connection.try_clone().map_err(failed)?;
    #[expect(clippy::disallowed_methods, reason = "supervised here for as long as it lives")]
    let mut command = std::process::Command::new(&keeper.program);
    command.args(&keeper.args).stdin(Stdio::from(connection));
    Command::from(command).kill_on_drop(true).spawn().map_err(failed)
}

async fn stop(mut daemon: Child) -> Result<(), MediaError> {
    if let Some(pid) = daemon.id().and_then(|id| i32::try_from(id).ok()) {
        // When it is gone already, waiting tells.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(STOP_TIMEOUT, daemon.wait()).await.is_err() {
        tracing::warn!("The media daemon did not stop in time and is killed");
        drop(daemon.kill().await);
    }
    Ok(())
}

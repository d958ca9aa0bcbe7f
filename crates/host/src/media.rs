//! Where a machine has a site's media: a mount of the bucket that all machines share, or a directory.
//!
//! The mount belongs to a unit of its own, in whose namespaces it is seen (`flotilla internal
//! media-keeper`); rooms begin there. Agent and foreman both have one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::layout;
use flotilla_core::media::MediaSettings;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::files::{Access, FileError, make_directory, read_json, write_json};
use crate::launch::{Launch, find_user};
use crate::ownership::make_directory_of;
use crate::room::{Base, Bind};
use crate::unit::Unit;

/// The lock of a mount's unit, in the directory of the mount.
pub const MOUNT_LOCK: &str = "media.lock";
/// Its log, in a directory of its own there.
pub const MOUNT_LOG: &str = "log/media.log";

const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const SPEC: &str = "mount.json";
const MOUNTED: &str = "mounted";
/// What the mount's processes keep on the disk: the cache, and files that are being written.
const DATA: &str = "data";
const LOG: &str = "log";
/// In [`DATA`]: the directories that are not for visitors, one a line.
const PRIVATE: &str = "private-directories";

/// A site's media, as a machine has them.
#[derive(Debug, Clone)]
pub enum Media {
    /// A directory of this machine.
    Directory(PathBuf),
    /// The bucket, mounted.
    Mount(Box<MediaMount>),
}

/// A mount of the bucket.
#[derive(Debug, Clone)]
pub struct MediaMount {
    directory: PathBuf,
    unit: Unit,
    user: Option<String>,
}

/// What the mount's processes are told, as JSON in a file that they follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// The bucket.
    pub settings: MediaSettings,
    /// Where it appears, in the unit's namespaces only.
    pub mount_point: PathBuf,
    /// The directory that the processes may fill.
    pub directory: PathBuf,
    /// Whose files appear to be.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
}

impl Media {
    /// Makes the directories; starts nothing.
    ///
    /// # Errors
    /// Names the directory that cannot be made.
    pub fn make(&self, user: Option<&str>) -> Result<(), FileError> {
        match self {
            Self::Directory(path) => make_directory_of(path, user),
            Self::Mount(mount) => {
                [DATA, LOG].iter().try_for_each(|name| make_directory(&mount.directory.join(name)))
            }
        }
    }

    /// Tells the mount how it reaches the bucket; it follows without a restart.
    ///
    /// # Errors
    /// The file cannot be written, or there is no such user.
    pub fn configure(&self, settings: Option<&MediaSettings>) -> Result<(), FileError> {
        match (self, settings) {
            (Self::Mount(mount), Some(settings)) => mount.configure(settings),
            _ => Ok(()),
        }
    }

    /// Keeps the mount as soon as it was configured; it goes on when this process ends.
    pub async fn keep(self, stopping: CancellationToken) {
        if let Self::Mount(mount) = self {
            mount.keep(stopping).await;
        }
    }

    /// Shows the media to a room at [`layout::UPLOADS`].
    #[must_use]
    pub fn bind(&self) -> Bind {
        let source = match self {
            Self::Directory(path) => path.clone(),
            Self::Mount(mount) => mount.mount_point(),
        };
        Bind::writable(source, layout::UPLOADS)
    }

    /// Returns where a room has to begin to see them.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        match self {
            Self::Directory(_) => None,
            Self::Mount(mount) => Some(mount.base()),
        }
    }

    /// Whether a process in a room has a mount that is gone: its unit died, and another one was
    /// started. Everything that the process does there fails.
    #[must_use]
    pub fn is_lost_to(&self, pid: i32) -> bool {
        self.base().is_some_and(|base| base.is_lost_to(pid, Path::new(layout::UPLOADS)))
    }

    /// Returns the file with the directories that are not for visitors, one a line and relative to the
    /// media; `None` where nobody looks for them.
    #[must_use]
    pub fn private_directories(&self) -> Option<PathBuf> {
        match self {
            Self::Directory(_) => None,
            Self::Mount(mount) => Some(mount.directory.join(DATA).join(PRIVATE)),
        }
    }
}

impl MediaMount {
    /// Names a mount; its directory is its own. `user` is whose files appear to be where this process
    /// is root.
    #[must_use]
    pub fn new(
        name: String,
        own_program: PathBuf,
        directory: PathBuf,
        user: Option<String>,
    ) -> Self {
        let spec = directory.join(SPEC).to_string_lossy().into_owned();
        let launch = Launch {
            program: own_program.clone(),
            args: vec!["internal".into(), "media-keeper".into(), spec],
            env: vec![("LANG".into(), "C.UTF-8".into())],
            directory: PathBuf::from("/"),
            lock: directory.join(MOUNT_LOCK),
            log: directory.join(MOUNT_LOG),
            user: None,
            room: None,
        };
        let unit = Unit {
            name,
            own_program,
            launch,
            stop_signal: Signal::SIGTERM,
            stop_timeout: STOP_TIMEOUT,
        };
        Self { directory, unit, user }
    }

    fn configure(&self, settings: &MediaSettings) -> Result<(), FileError> {
        let path = self.directory.join(SPEC);
        let (uid, gid) = match self.user.as_deref().filter(|_| Uid::effective().is_root()) {
            Some(user) => find_user(user).map_err(|error| FileError::Write {
                path: path.clone(),
                source: std::io::Error::other(error),
            })?,
            None => (Uid::effective(), Gid::effective()),
        };
        let spec = MountSpec {
            settings: settings.clone(),
            mount_point: self.mount_point(),
            directory: self.directory.join(DATA),
            uid: uid.as_raw(),
            gid: gid.as_raw(),
        };
        // Whoever replaces it makes another daemon follow.
        if read_json(&path).is_ok_and(|there| there.as_ref() == Some(&spec)) {
            return Ok(());
        }
        // It holds keys.
        write_json(&path, &spec, Access::Private)
    }

    async fn keep(self, stopping: CancellationToken) {
        let spec = self.directory.join(SPEC);
        while !spec.exists() {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        self.unit.keep(stopping).await;
    }

    fn mount_point(&self) -> PathBuf {
        self.directory.join(MOUNTED)
    }

    fn base(&self) -> Base {
        Base { lock: self.unit.launch.lock.clone(), mount_point: self.mount_point() }
    }
}

//! A private view of the file system for a child process: constant paths under `/srv/flotilla`,
//! its own `/tmp`, and, if asked, its own process ids, so that killing the first kills all.
//!
//! Nothing outside is touched: the mounts live in a mount namespace and vanish with its processes.
//! As an ordinary user it needs the kernel to allow user namespaces.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flotilla_core::layout;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chdir, chroot};
use serde::{Deserialize, Serialize};

pub use base::Base;

mod base;

/// The directory that is hidden behind the private view; every Debian has it.
const COVERED: &str = "/srv";

/// Shows one file or directory at another path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// What to show.
    pub source: PathBuf,
    /// Where to show it; below [`layout::ROOT`].
    pub target: PathBuf,
    /// Whether it may be written to.
    pub is_writable: bool,
}

impl Bind {
    /// Shows something that cannot be changed.
    #[must_use]
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), is_writable: false }
    }

    /// Shows something that can be changed.
    #[must_use]
    pub fn writable(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), is_writable: true }
    }
}

/// What a process sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Room {
    /// In this order; a later one may lie within an earlier one.
    pub binds: Vec<Bind>,
    /// What it sees as `/tmp`.
    pub tmp: Option<PathBuf>,
    /// Whether its children get process ids of their own.
    pub has_own_pids: bool,
    /// Directories that vanish with the room.
    #[serde(default)]
    pub scratch: Option<Scratch>,
    /// Whose mounts it sees besides those of the machine; sources of `binds` may lie in them.
    #[serde(default)]
    pub base: Option<Base>,
}

/// Empty directories in memory, open to all in the room, that share one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scratch {
    /// Where they lie; below [`layout::ROOT`].
    pub root: PathBuf,
    /// Where they are shown too; existing directories.
    pub targets: Vec<PathBuf>,
    /// How much they hold together, in bytes.
    pub bytes_max: u64,
}

/// Says why a view could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The kernel does not give this user namespaces.
    #[error(
        "the kernel refuses a private mount namespace to this user; run flotilla as root, or allow \
         user namespaces (`sysctl user.max_user_namespaces`; a chroot never has them)"
    )]
    Namespace(#[source] io::Error),
    /// The room's base is not there.
    #[error("`{mount_point}` is not mounted by the unit of `{lock}`: {reason}")]
    Base {
        /// The unit's lock.
        lock: PathBuf,
        /// What it was to mount.
        mount_point: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// A mount failed.
    #[error("cannot show `{source_path}` as `{target}`")]
    Mount {
        /// What to show.
        source_path: PathBuf,
        /// Where.
        target: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Room {
    /// Puts this process into the view. The process must have one thread.
    ///
    /// # Errors
    /// The kernel refuses, or a source is not there.
    pub fn enter(&self) -> Result<(), RoomError> {
        if let Some(base) = &self.base {
            base.enter()?;
        }
        let pids = if self.has_own_pids { CloneFlags::CLONE_NEWPID } else { CloneFlags::empty() };
        unshare_all(CloneFlags::CLONE_NEWNS | pids).map_err(RoomError::Namespace)?;
        make_private().map_err(|error| mount_error(Path::new("/"), Path::new("/"), error))?;
        // Opened before `/srv` is covered: a source may lie in it.
        let sources: Vec<(&Bind, File)> = self
            .binds
            .iter()
            .map(|bind| {
                open_path(&bind.source)
                    .map(|file| (bind, file))
                    .map_err(|error| mount_error(&bind.source, &bind.target, error))
            })
            .collect::<Result<_, _>>()?;
        let tmp = match &self.tmp {
            Some(path) => {
                Some(open_path(path).map_err(|error| mount_error(path, Path::new("/tmp"), error))?)
            }
            None => None,
        };
        let covered = Path::new(COVERED);
        mount(
            Some("flotilla"),
            covered,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=0755,size=1m"),
        )
        .map_err(|errno| mount_error(Path::new("tmpfs"), covered, errno.into()))?;
        make_world_readable(Path::new(layout::ROOT))
            .map_err(|error| mount_error(covered, Path::new(layout::ROOT), error))?;
        for (bind, file) in &sources {
            show(bind, file).map_err(|error| mount_error(&bind.source, &bind.target, error))?;
        }
        if let Some(scratch) = &self.scratch {
            scratch.show().map_err(|(target, error)| mount_error(&scratch.root, &target, error))?;
        }
        if let (Some(path), Some(file)) = (&self.tmp, &tmp) {
            let bind = Bind::writable(path, "/tmp");
            show(&bind, file).map_err(|error| mount_error(path, Path::new("/tmp"), error))?;
        }
        Ok(())
    }
}

/// Gives this process mounts of its own, which nobody sees but processes that enter its namespaces.
/// The process must have one thread.
///
/// # Errors
/// The kernel refuses.
pub fn unshare_mounts() -> Result<(), RoomError> {
    unshare_all(CloneFlags::CLONE_NEWNS).map_err(RoomError::Namespace)?;
    make_private().map_err(|error| mount_error(Path::new("/"), Path::new("/"), error))
}

/// Leaves namespaces, and as an ordinary user gets the right to do so first.
fn unshare_all(flags: CloneFlags) -> io::Result<()> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    if uid.is_root() {
        return Ok(unshare(flags)?);
    }
    unshare(flags | CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

impl Scratch {
    fn show(&self) -> Result<(), (PathBuf, io::Error)> {
        let at_root = |error| (self.root.clone(), error);
        make_world_readable(&self.root).map_err(at_root)?;
        let options = format!("mode=0755,size={}", self.bytes_max);
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("flotilla-scratch"), &self.root, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|errno| at_root(errno.into()))?;
        for (number, target) in self.targets.iter().enumerate() {
            let own = self.root.join(number.to_string());
            let show = || -> io::Result<()> {
                fs::create_dir(&own)?;
                fs::set_permissions(&own, fs::Permissions::from_mode(0o1777))?;
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                Ok(mount(Some(&own), target, None::<&str>, flags, None::<&str>)?)
            };
            show().map_err(|error| (target.clone(), error))?;
        }
        Ok(())
    }
}

/// Keeps what is mounted from now on in this namespace.
fn make_private() -> io::Result<()> {
    let root = Path::new("/");
    let set = || {
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, root, None::<&str>, flags, None::<&str>)
    };
    if set() != Err(Errno::EINVAL) {
        return Ok(set()?);
    }
    // In a plain chroot `/` is a directory of a mount, not a mount: make it one and step into it.
    mount(Some(root), root, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    chdir("/..")?;
    chroot(".")?;
    Ok(set()?)
}

fn open_path(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(path)
}

fn show(bind: &Bind, source: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let from = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    if !bind.target.exists() {
        if fs::metadata(&from)?.is_dir() {
            make_world_readable(&bind.target)?;
        } else {
            if let Some(parent) = bind.target.parent().filter(|parent| !parent.exists()) {
                make_world_readable(parent)?;
            }
            File::create(&bind.target)?;
        }
    }
    let target = bind.target.as_path();
    // With what is mounted below it: without that, the kernel refuses it to an ordinary user.
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&from), target, None::<&str>, flags, None::<&str>)?;
    if !bind.is_writable {
        let flags =
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept_flags(target)?;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// Returns the flags that an unprivileged remount must repeat, or the kernel refuses it.
fn kept_flags(target: &Path) -> io::Result<MsFlags> {
    let now = statvfs(target)?.flags();
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(pairs
        .into_iter()
        .filter(|(has, _)| now.contains(*has))
        .fold(MsFlags::empty(), |all, (_, flag)| all | flag))
}

fn make_world_readable(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn mount_error(source_path: &Path, target: &Path, source: io::Error) -> RoomError {
    RoomError::Mount { source_path: source_path.to_owned(), target: target.to_owned(), source }
}

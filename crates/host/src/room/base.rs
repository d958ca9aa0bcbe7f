//! Beginning a room in the namespaces of a running unit, to see what that unit has mounted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{chroot, fchdir};
use serde::{Deserialize, Serialize};

use super::RoomError;
use crate::lock::lock_holder;

/// How long a unit that was just started may take to mount, at most.
const WAITS_MAX: u32 = 400;
const WAIT: Duration = Duration::from_millis(20);

/// A unit that has mounted something in a mount namespace of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The lock file of the unit.
    pub lock: PathBuf,
    /// What it has mounted. Without this being mounted the room is not entered: what would be
    /// written to the empty directory below it would be lost.
    pub mount_point: PathBuf,
}

impl Base {
    /// Puts this process into the unit's namespaces. The process must have one thread.
    pub(super) fn enter(&self) -> Result<(), RoomError> {
        let pid = self.mounter()?;
        let namespace = |name: &str| File::open(format!("/proc/{pid}/ns/{name}"));
        let enter = || -> io::Result<()> {
            // Opened first: what shows them may not be visible from inside.
            let (user, mounts) = (namespace("user")?, namespace("mnt")?);
            let root = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
                .open(format!("/proc/{pid}/root"))?;
            if !is_own("user", pid)? {
                setns(user, CloneFlags::CLONE_NEWUSER)?;
            }
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
            // The unit's own `/` is another one than its namespace's where all runs in a chroot.
            fchdir(root)?;
            Ok(chroot(".")?)
        };
        enter().map_err(|error| self.error(error.to_string()))
    }

    /// Whether a process sees a mount at a path that is not the one that the unit has now.
    pub(crate) fn is_lost_to(&self, pid: i32, path: &Path) -> bool {
        let Ok(Ok(unit)) = self.look() else { return false };
        let device = |pid: i32, path: &Path| {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
            mounts.lines().rev().find_map(|line| device_at(line, path))
        };
        let (own, seen) = (device(unit, &self.mount_point), device(pid, path));
        own.is_some() && seen.is_some() && own != seen
    }

    /// Waits until the unit has mounted and returns its process.
    fn mounter(&self) -> Result<i32, RoomError> {
        let mut seen = String::new();
        for _ in 0..WAITS_MAX {
            match self.look() {
                Ok(Ok(pid)) => return Ok(pid),
                Ok(Err(reason)) => reason.clone_into(&mut seen),
                Err(error) => seen = error.to_string(),
            }
            #[expect(clippy::disallowed_methods, reason = "one thread, and no runtime in it")]
            std::thread::sleep(WAIT);
        }
        Err(self.error(seen))
    }

    fn look(&self) -> io::Result<Result<i32, &'static str>> {
        let Some(pid) = lock_holder(&self.lock)? else { return Ok(Err("the unit does not run")) };
        if is_own("mnt", pid)? {
            return Ok(Err("the unit has no mounts of its own"));
        }
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let is_mounted = mounts.lines().any(|line| device_at(line, &self.mount_point).is_some());
        Ok(if is_mounted { Ok(pid) } else { Err("the unit has not mounted it") })
    }

    fn error(&self, reason: String) -> RoomError {
        RoomError::Base { lock: self.lock.clone(), mount_point: self.mount_point.clone(), reason }
    }
}

/// Returns whether another process is in the same namespace as this one.
fn is_own(name: &str, pid: i32) -> io::Result<bool> {
    let own = fs::read_link(format!("/proc/self/ns/{name}"))?;
    Ok(fs::read_link(format!("/proc/{pid}/ns/{name}"))? == own)
}

/// Returns the device of a line of `/proc/PID/mountinfo`, as `major:minor`, when it is about a path;
/// blanks in it are written `\040`.
fn device_at(line: &str, path: &Path) -> Option<String> {
    let mut fields = line.split(' ').skip(2);
    let (device, there) = (fields.next()?, fields.nth(1)?);
    let there = there.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    (Path::new(&there.replace("\\134", "\\")) == path).then(|| device.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_its_path() {
        let line = r"36 35 98:0 / /a\040b/media rw,noatime - fuse.flotilla flotilla-media rw";
        assert_eq!(device_at(line, Path::new("/a b/media")).as_deref(), Some("98:0"));
        assert_eq!(device_at(line, Path::new("/a b")), None);
        assert_eq!(device_at("", Path::new("/")), None);
    }
}

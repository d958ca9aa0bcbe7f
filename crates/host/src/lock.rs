//! The lock of a service: "it is held" means "the service or a child of it lives".
//!
//! The lock belongs to the open file (`F_OFD_SETLK`), because asking who holds such a lock does not
//! take it for a moment, as a try would. The file's content says which process that is; a child of
//! the service may have the file open too and may have written anything, so a process is believed to
//! be the holder only when the kernel says that it is.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;

use crate::session::session_of;

/// How often a lock file is read again while its holder has not yet written its process id.
const HOLDER_READS_MAX: u32 = 1_000;
/// A launcher has little open when it takes its lock, so the lock is among the first numbers.
const LIKELY_NUMBERS: std::ops::Range<u32> = 3..8;
/// How proc(5) tells that an open file holds such a lock.
const LOCK_IN_FDINFO: &str = "OFDLCK";

/// Takes the lock of a file for the rest of this process and of what it becomes; returns whether it
/// was free.
pub(crate) fn hold_lock(path: &Path) -> io::Result<bool> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    // The descriptor stays open on purpose: closing it would free the lock.
    std::mem::forget(OwnedFd::from(file));
    Ok(true)
}

/// Returns the process id of whoever took a lock; `None` when nobody holds it.
///
/// The process itself may be dead while a child of it still holds the lock: then it is the number
/// of the session that the child belongs to, which is the process id of the dead one.
///
/// # Errors
/// The lock file cannot be read, or its holder cannot be found.
pub fn lock_holder(path: &Path) -> io::Result<Option<i32>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let identity = file.metadata()?;
    for _ in 0..HOLDER_READS_MAX {
        if !is_locked(&file)? {
            return Ok(None);
        }
        let content = fs::read_to_string(path).unwrap_or_default();
        let written = content.strip_suffix('\n').and_then(|number| number.parse().ok());
        if let Some(pid) = written.filter(|pid| *pid > 1 && holds(*pid, &identity)) {
            return Ok(Some(pid));
        }
        if let Some(pid) = written.and_then(|_| any_holder(&identity)) {
            return Ok(Some(pid));
        }
        // It takes the lock first and writes right after.
        std::thread::yield_now();
    }
    match any_holder(&identity) {
        None if is_locked(&file)? => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`{}` is locked by an unknown process", path.display()),
        )),
        found => Ok(found),
    }
}

fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// Finds the session of some process that holds the lock of a file.
fn any_holder(identity: &Metadata) -> Option<i32> {
    let processes = fs::read_dir("/proc").ok()?;
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut holders = numbers.filter(|pid: &i32| holds(*pid, identity));
    holders.find_map(session_of)
}

/// Returns whether a process holds the lock of a file; whoever only asks has it open without.
fn holds(pid: i32, identity: &Metadata) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let is_it = |number: &str| {
        let file = fs::metadata(process.join("fd").join(number));
        file.is_ok_and(|file| file.ino() == identity.ino() && file.dev() == identity.dev())
            && fs::read_to_string(process.join("fdinfo").join(number))
                .is_ok_and(|info| info.contains(LOCK_IN_FDINFO))
    };
    if LIKELY_NUMBERS.into_iter().any(|number| is_it(&number.to_string())) {
        return true;
    }
    let files = fs::read_dir(process.join("fd"));
    files
        .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_str().is_some_and(is_it)))
}

fn whole_file(kind: i32) -> libc::flock {
    let short = |number: i32| i16::try_from(number).unwrap_or_default();
    libc::flock {
        l_type: short(kind),
        l_whence: short(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

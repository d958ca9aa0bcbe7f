//! How many files a process may have open at a time.
//!
//! A process starts with a low soft limit, often 1024, because of old programs that cannot count
//! further. What we run can, and a web server has a socket for each visitor.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More helps nobody, and some programs go through all numbers up to the limit to close them.
const OPEN_FILES_MAX: u64 = 524_288;

/// Raises this process' soft limit as far as the hard one allows; what it becomes or starts inherits
/// it.
///
/// # Errors
/// The kernel refused.
pub fn raise_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(OPEN_FILES_MAX);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}

/// Returns how many files this process may have open.
///
/// # Errors
/// The kernel refused.
pub fn limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Returns whether an error says that this machine has run out of something that a connection
/// needs: then it says nothing about the other end.
#[must_use]
pub fn is_local_shortage(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | EADDRNOTAVAIL | ENOBUFS | ENOMEM))
}

/// Returns the numbers of the files that this process has open.
pub(crate) fn numbers() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

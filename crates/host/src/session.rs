//! The processes of one service: all that share the session its launcher made.
//!
//! As long as one of them lives, the kernel gives the session's number to nobody else, so killing
//! by it cannot hit a stranger.

use std::{fs, io};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Returns whether a process runs; one that has ended and waits to be reaped does not.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    stat(pid.as_raw()).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Kills a process and all that belong to its session.
///
/// # Errors
/// The kernel refuses to show or to kill them.
pub fn kill_all(leader: Pid) -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let is_of_session = stat(number).is_some_and(|stat| stat.session == leader.as_raw());
        if !is_of_session && number != leader.as_raw() {
            continue;
        }
        match kill(Pid::from_raw(number), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Returns the number of the session that a process belongs to.
pub(crate) fn session_of(pid: i32) -> Option<i32> {
    stat(pid).map(|stat| stat.session)
}

struct Stat {
    state: char,
    session: i32,
}

/// Reads `/proc/PID/stat`; the name in it may contain anything, so counting starts after it.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let session = fields.nth(2)?.parse().ok()?;
    Some(Stat { state, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_in_its_session() {
        assert!(is_alive(Pid::this()));
        let session = nix::unistd::getsid(None).unwrap().as_raw();
        assert_eq!(stat(Pid::this().as_raw()).unwrap().session, session);
    }
}

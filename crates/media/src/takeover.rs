//! Talking to the kernel in two halves: a keeper agrees with it on a protocol once, and daemons come
//! and go on the same connection after that.
//!
//! `fuser` always begins with that agreement, so a daemon lets it have it with a socket that asks the
//! same question, and then puts the real connection in the socket's place, under the same number.

use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::{Config, Filesystem, InitFlags, KernelConfig, Request, Session, SessionACL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{dup2, write};

/// The largest write that the kernel sends at once, in bytes; as much as it ever does.
const WRITE_BYTES_MAX: u32 = 1024 * 1024;
/// How many requests that nobody waits for, such as reading ahead, are under way.
const BACKGROUND_MAX: u16 = 64;
/// How many threads read what the kernel asks.
const THREADS: usize = 4;
/// The request with which the kernel begins.
/// <https://github.com/torvalds/linux/blob/master/include/uapi/linux/fuse.h>
const FUSE_INIT: u32 = 26;
const PROTOCOL_MAJOR: u32 = 7;
const PROTOCOL_MINOR: u32 = 40;
/// Tells the kernel to ask again what was not answered.
const FUSE_NOTIFY_RESEND: i32 = 7;
const HEADER_BYTES: u32 = 16;

/// What the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Whether another daemon can take over.
    pub(crate) can_resend: bool,
}

/// Agrees with the kernel on a protocol. Every later daemon is bound by it.
pub(crate) fn greet(connection: BorrowedFd<'_>) -> io::Result<Kernel> {
    let can_resend = Arc::new(AtomicBool::new(false));
    let greeter = Greeter { can_resend: Arc::clone(&can_resend) };
    let connection = connection.try_clone_to_owned()?;
    // Dropping the session closes only its own descriptor.
    drop(Session::from_fd(greeter, connection, SessionACL::All, Config::default())?);
    Ok(Kernel { can_resend: can_resend.load(Ordering::Relaxed) })
}

/// Makes a session on a connection that is agreed on already.
pub(crate) fn take_over<FS: Filesystem>(
    filesystem: FS,
    connection: BorrowedFd<'_>,
) -> io::Result<Session<FS>> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    write(&ours, &init_request())?;
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    let session = Session::from_fd(filesystem, theirs, SessionACL::All, config)?;
    replace(&session, connection)?;
    Ok(session)
}

/// Asks the kernel to send again what an earlier daemon was sent and did not answer.
pub(crate) fn resend(connection: BorrowedFd<'_>) -> io::Result<()> {
    let mut message = Vec::new();
    message.extend_from_slice(&HEADER_BYTES.to_ne_bytes());
    message.extend_from_slice(&FUSE_NOTIFY_RESEND.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    File::from(connection.try_clone_to_owned()?).write_all(&message)
}

/// Returns whether the kernel has ended the connection: the mount is gone, or was aborted.
pub(crate) fn is_over(connection: BorrowedFd<'_>) -> bool {
    let mut ask = [PollFd::new(connection, PollFlags::POLLIN)];
    let answer = poll(&mut ask, PollTimeout::ZERO);
    let [asked] = ask;
    answer.is_ok() && asked.revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR))
}

#[expect(unsafe_code, reason = "the number belongs to the session, which lends it for this")]
fn replace<FS: Filesystem>(session: &Session<FS>, connection: BorrowedFd<'_>) -> io::Result<()> {
    let number = session.as_fd().as_raw_fd();
    // SAFETY: the session owns the number and keeps it open, and is not used before this function
    // returns; the second owner made here is never dropped, so the number is closed once.
    let mut borrowed = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    dup2(connection, &mut borrowed)?;
    Ok(())
}

/// Returns what the kernel would say first; the answer is for nobody.
fn init_request() -> Vec<u8> {
    const INIT_WORDS: u32 = 16;
    const IN_HEADER_BYTES: u32 = 40;
    let mut message = Vec::new();
    let mut word = |value: u32| message.extend_from_slice(&value.to_ne_bytes());
    word(IN_HEADER_BYTES + INIT_WORDS * 4);
    word(FUSE_INIT);
    // A number, a node, a user, a group, a process, and lengths that do not matter.
    [2, 0, 0, 0, 0, 0, 0, 0].into_iter().for_each(&mut word);
    [PROTOCOL_MAJOR, PROTOCOL_MINOR, WRITE_BYTES_MAX].into_iter().for_each(&mut word);
    (3..INIT_WORDS).for_each(|_| word(0));
    message
}

/// Answers the kernel's first question and nothing else.
struct Greeter {
    can_resend: Arc<AtomicBool>,
}

impl Filesystem for Greeter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.can_resend
            .store(config.capabilities().contains(InitFlags::FUSE_HAS_RESEND), Ordering::Relaxed);
        // Emptying a file when it is opened is one step, or another instance would see it empty.
        config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC).map_err(|_missing| {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel is too old")
        })?;
        // What is missing of these makes things slower, or mappings of files being written fail.
        for wish in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
            InitFlags::FUSE_HAS_RESEND,
        ] {
            let _ = config.add_capabilities(wish);
        }
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_has_the_length_that_it_says() {
        let message = init_request();
        let length = u32::from_ne_bytes(message.get(..4).unwrap().try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), message.len());
        assert_eq!(message.len(), 104);
    }
}

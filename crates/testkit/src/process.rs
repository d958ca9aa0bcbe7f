//! The machine's processes, as `/proc` tells about them.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its command line, words separated by blanks.
    pub command: String,
}

/// Lists all processes that can be seen; the dead that nobody has waited for are none.
#[must_use]
pub fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&words).replace('\0', " ").trim().to_owned();
    (!is_dead).then_some(Process { pid, parent, command })
}

/// Returns all descendants of a process.
#[must_use]
pub fn descendants(of: i32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// Returns the processes that have to do with a directory of this name: by their command line,
/// their working directory, an open file or a mount.
#[must_use]
pub fn using(name: &str) -> Vec<Process> {
    let own = std::process::id();
    let is_own = |process: &Process| process.pid.unsigned_abs() == own;
    all().into_iter().filter(|process| !is_own(process) && uses(process, name)).collect()
}

fn uses(process: &Process, name: &str) -> bool {
    let entry = format!("/proc/{}", process.pid);
    let has_link = |path: &Path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains(name))
    };
    let files = std::fs::read_dir(format!("{entry}/fd")).into_iter().flatten().flatten();
    process.command.contains(name)
        || has_link(Path::new(&format!("{entry}/cwd")))
        || files.into_iter().any(|file| has_link(&file.path()))
        || std::fs::read_to_string(format!("{entry}/mountinfo"))
            .is_ok_and(|text| text.contains(name))
}

/// Sends a signal; a process that is gone already is as good.
///
/// # Errors
/// The kernel refuses.
pub fn send(pid: i32, signal: Signal) -> anyhow::Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

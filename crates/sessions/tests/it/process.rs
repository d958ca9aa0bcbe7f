//! Child processes that end with the test, whatever becomes of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that is killed when this is dropped, and by the kernel when the test dies.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// Begins a command of a program that the kernel kills when this thread ends.
#[expect(clippy::disallowed_methods, reason = "`Process` and the kernel end it with the test")]
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).stdin(Stdio::null());
    command
}

/// Finds a program; a test that needs one which is missing fails.
pub(crate) fn find(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/sbin", "/usr/bin"]);
    let found =
        directories.map(|directory| Path::new(directory).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not installed; `make packages` installs it"))
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn wait(&mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

//! Programs that run beside a measurement and end with it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clock::{Moment, sleep};

const STOP_LIMIT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A program that runs until this is dropped.
pub(crate) struct Background {
    name: String,
    child: Child,
}

impl Background {
    /// Starts a program whose output goes to a file. It also ends when this process does.
    #[expect(clippy::disallowed_methods, reason = "it shall run beside; its end is bounded below")]
    pub(crate) fn start(name: &str, words: &[String], log: &Path) -> anyhow::Result<Self> {
        let output = std::fs::File::create(log)
            .with_context(|| format!("cannot write `{}`", log.display()))?;
        let errors = output.try_clone().context("cannot share a log")?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot run `{name}`"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid()), signal)
            .with_context(|| format!("cannot send {signal} to `{}`", self.name))
    }

    /// Fails when it is over already.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("`{}` ended: {status}", self.name),
            Err(error) => Err(error).with_context(|| format!("cannot watch `{}`", self.name)),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.signal(Signal::SIGTERM));
        let started_at = Moment::now();
        while started_at.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(POLL_INTERVAL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until a condition holds.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let started_at = Moment::now();
    while !holds()? {
        if started_at.elapsed() > limit {
            bail!("{what} did not happen within {} s", limit.as_secs());
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

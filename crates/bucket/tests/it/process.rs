//! A store as a process of its own, which can be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::Client;
use crate::store::LIMIT;

pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// Returns the program that cargo builds beside the tests.
pub(crate) fn program() -> PathBuf {
    let built = std::env::current_exe().unwrap();
    built.parent().and_then(Path::parent).unwrap().join("examples/bucket")
}

impl Process {
    pub(crate) async fn start(directory: &Path) -> Self {
        let mut command = Command::new(program());
        command.arg(directory);
        Self::of(command).await
    }

    /// Starts a command that becomes a store.
    pub(crate) async fn of(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
        let address = address.expect("the store says where it listens");
        Self { child, address: address.parse().unwrap() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Kills it, as `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

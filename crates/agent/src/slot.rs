//! One slot: a web server over a release, and the proof that it was prepared.

use std::net::SocketAddr;

use flotilla_core::id::Revision;
use flotilla_core::slot::SlotName;
use flotilla_core::storage::{SCRATCH, UPLOADS};
use flotilla_host::files::{Access, FileError, read_json, write_json};
use flotilla_host::git::{Git, Keep, Worktree};
use flotilla_host::session_gateway::SessionGateway;
use flotilla_host::web_server::{Plan, WebServer};
use serde::{Deserialize, Serialize};

use crate::Options;

/// The proof that a slot was prepared to its end, written last and removed first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What it holds.
    pub revision: Revision,
    /// The boot of the machine it was prepared in: files of an earlier boot are checked again.
    pub boot: String,
}

/// A slot of this instance.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Which one.
    pub name: SlotName,
    /// What serves from it.
    pub server: WebServer,
    git: Git,
}

impl Slot {
    /// Makes the slot's directories; starts nothing.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(
        options: &Options,
        name: SlotName,
        sessions: &SessionGateway,
    ) -> Result<Self, FileError> {
        let directory = options.directory.join(name.as_str());
        let server = WebServer::open(Plan {
            name: format!("{}-{name}", options.instance),
            lock: directory.join("slot.lock"),
            directory,
            address: SocketAddr::new(options.listen_ip, *options.ports.get(name)),
            trusted: options.trusted.clone(),
            labels: [options.instance.to_string(), name.to_string()],
            own_program: options.own_program.clone(),
            nginx: options.nginx.clone(),
            php_fpm: options.php_fpm.clone(),
            user: options.php_user.clone(),
            group: options.php_group.clone(),
            php: options.directory.join("php"),
            sessions: sessions.sockets().to_owned(),
            is_writable: false,
            media: options.media.clone(),
        })?;
        Ok(Self { name, server, git: Git::new(options.directory.join("repository.git")) })
    }

    /// Returns the checked out code.
    #[must_use]
    pub fn worktree(&self) -> Worktree {
        let site = self.server.directory.join("site");
        Worktree::new(self.git.clone(), self.name.as_str(), site)
    }

    /// Returns what in the code's directory is not code.
    #[must_use]
    pub fn kept(&self) -> Keep {
        Keep::directories(std::iter::once(UPLOADS).chain(SCRATCH))
    }

    /// Reads the mark of a prepared slot.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        read_json(&self.server.directory.join("mark.json")).ok().flatten()
    }

    /// Says that the slot is prepared to its end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_mark(&self, mark: &Mark) -> Result<(), FileError> {
        write_json(&self.server.directory.join("mark.json"), mark, Access::Private)
    }

    /// Says that the slot is about to be changed.
    pub fn remove_mark(&self) {
        drop(std::fs::remove_file(self.server.directory.join("mark.json")));
        drop(std::fs::remove_file(self.server.directory.join("run/revision")));
    }
}

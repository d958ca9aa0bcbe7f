//! Which port of the loopback address each part of a fleet has.
//!
//! A fleet has a block of ports below the range from which the kernel takes ports for outgoing
//! connections. Its supervisor listens on the block's first port as long as it lives; that is the
//! claim by which two fleets of a machine never take the same block, even when they start at once.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use flotilla_core::id::InstanceName;
use flotilla_core::slot::SlotName;
use flotilla_host::files::{Access, FileError, read_json, write_json};
use serde::{Deserialize, Serialize};

use super::layout::Layout;

/// The database's port.
pub const DATABASE: &str = "database";
/// The ports of the session store's nodes.
pub const SESSIONS: [&str; 2] = ["sessions-1", "sessions-2"];
/// The object cache's port.
pub const CACHE: &str = "cache";
/// The port of the store of media.
pub const BUCKET: &str = "bucket";
/// The foreman's port.
pub const FOREMAN: &str = "foreman";
/// The port on which the foreman speaks to the balancer.
pub const BALANCER_CONTROL: &str = "balancer-control";
/// Visitors, where the configuration leaves the port open.
pub const BALANCER: &str = "balancer";
/// The workshop's port.
pub const WORKSHOP: &str = "workshop";

const BLOCK_PORTS: u16 = 256;
const FIRST_BLOCK_AT: u16 = 20_000;
const EPHEMERAL_FIRST_DEFAULT: u16 = 32_768;

/// Says why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// All blocks are in use.
    #[error("all ports between {FIRST_BLOCK_AT} and {before} are in use")]
    NoBlock {
        /// The end of the range.
        before: u16,
    },
    /// The block is used up.
    #[error("no port is free for `{role}` between {first} and {last}")]
    NoPort {
        /// What needs it.
        role: String,
        /// The first port of the block.
        first: u16,
        /// Its last one.
        last: u16,
    },
    /// The ports cannot be remembered.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The remembered ports of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The first port of the block, which is the claim.
    first: u16,
    /// The port of each role.
    roles: BTreeMap<String, u16>,
}

impl Book {
    /// Reads the ports of a fleet; `None` when it never ran.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(layout: &Layout) -> Result<Option<Self>, FileError> {
        read_json(&layout.ports())
    }

    /// Returns the port of a role.
    #[must_use]
    pub fn port(&self, role: &str) -> Option<u16> {
        self.roles.get(role).copied()
    }
}

/// Names the role of a slot.
#[must_use]
pub fn slot_role(instance: &InstanceName, slot: SlotName) -> String {
    format!("{instance}/{slot}")
}

/// The ports of a fleet, to be given out; only its supervisor has this.
#[derive(Debug)]
pub struct Ports {
    path: PathBuf,
    book: Book,
    _claim: Option<TcpListener>,
}

impl Ports {
    /// Claims the fleet's block of ports, or another one when a stranger has it.
    ///
    /// With `has_services`, parts of the fleet are running on their ports, so the block stays.
    ///
    /// # Errors
    /// No block is free, or the file cannot be read or written.
    pub fn claim(layout: &Layout, has_services: bool) -> Result<Self, PortsError> {
        let path = layout.ports();
        if let Some(book) = Book::read(layout)? {
            let claim = listen(book.first);
            if claim.is_some() || has_services {
                return Ok(Self { path, book, _claim: claim });
            }
        }
        let before = ephemeral_first().max(FIRST_BLOCK_AT + BLOCK_PORTS);
        let count = (before - FIRST_BLOCK_AT) / BLOCK_PORTS;
        // Fleets that are down hold no claim: starting at different places keeps them apart.
        let mut hasher = DefaultHasher::new();
        layout.data_dir().hash(&mut hasher);
        let start = u16::try_from(hasher.finish() % u64::from(count)).unwrap_or_default();
        for index in 0..count {
            let first = FIRST_BLOCK_AT + (start + index) % count * BLOCK_PORTS;
            let Some(claim) = listen(first) else { continue };
            if !is_quiet(first) {
                continue;
            }
            let book = Book { first, roles: BTreeMap::new() };
            write_json(&path, &book, Access::Private)?;
            return Ok(Self { path, book, _claim: Some(claim) });
        }
        Err(PortsError::NoBlock { before })
    }

    /// Returns the remembered ports.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// Returns the port of a role whose service runs, or is not known to be stopped.
    ///
    /// # Errors
    /// The block is used up, or the file cannot be written.
    pub fn port(&mut self, role: &str) -> Result<u16, PortsError> {
        match self.book.port(role) {
            Some(port) => Ok(port),
            None => self.allot(role),
        }
    }

    /// Returns a port that can be used now, for a role whose service does not run: its own, or
    /// another one when a stranger has taken that.
    ///
    /// # Errors
    /// The block is used up, or the file cannot be written.
    pub fn free_port(&mut self, role: &str) -> Result<u16, PortsError> {
        match self.book.port(role).filter(|port| listen(*port).is_some()) {
            Some(port) => Ok(port),
            None => self.allot(role),
        }
    }

    /// Forgets the ports of an instance that is gone.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn release(&mut self, instance: &InstanceName) -> Result<(), PortsError> {
        for slot in SlotName::ALL {
            self.book.roles.remove(&slot_role(instance, slot));
        }
        Ok(write_json(&self.path, &self.book, Access::Private)?)
    }

    fn allot(&mut self, role: &str) -> Result<u16, PortsError> {
        let (first, last) = (self.book.first, self.book.first + (BLOCK_PORTS - 1));
        let port = (first + 1..=last)
            .filter(|port| !self.book.roles.values().any(|taken| taken == port))
            .find(|port| listen(*port).is_some())
            .ok_or_else(|| PortsError::NoPort { role: role.to_owned(), first, last })?;
        self.book.roles.insert(role.to_owned(), port);
        write_json(&self.path, &self.book, Access::Private)?;
        Ok(port)
    }
}

/// Takes a port for as long as the result lives; `None` when somebody has it.
fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

/// Returns whether nobody uses the ports of a block that a fleet takes first: another fleet may
/// have no supervisor just now, and yet run.
fn is_quiet(first: u16) -> bool {
    (first + 1..first + BLOCK_PORTS).all(|port| listen(port).is_some())
}

fn ephemeral_first() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_ascii_whitespace().next()?.parse().ok())
        .map_or(EPHEMERAL_FIRST_DEFAULT, |first: u16| first.min(EPHEMERAL_FIRST_DEFAULT))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn fleet() -> (TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path()).unwrap();
        layout.make().unwrap();
        (directory, layout)
    }

    #[test]
    fn two_fleets_that_start_at_once_have_different_ports() {
        let fleets: Vec<_> = (0..4).map(|_| fleet()).collect();
        let mut ports: Vec<u16> = std::thread::scope(|scope| {
            let started: Vec<_> = fleets
                .iter()
                .map(|(_, layout)| scope.spawn(|| Ports::claim(layout, false).unwrap()))
                .collect();
            let mut claims: Vec<_> = started.into_iter().map(|one| one.join().unwrap()).collect();
            claims.iter_mut().map(|ports| ports.free_port(DATABASE).unwrap()).collect()
        });
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 4);
        assert!(ports.iter().all(|port| *port < ephemeral_first()));
    }

    #[test]
    fn a_role_keeps_its_port_until_a_stranger_has_it() {
        let (_directory, layout) = fleet();
        let mut ports = Ports::claim(&layout, false).unwrap();
        let (database, sessions) =
            (ports.free_port(DATABASE).unwrap(), ports.free_port(SESSIONS[0]).unwrap());
        assert_ne!(database, sessions);
        drop(ports);
        let stranger = listen(database).unwrap();
        let mut ports = Ports::claim(&layout, false).unwrap();
        assert_eq!(ports.port(DATABASE).unwrap(), database, "a running service keeps it");
        let other = ports.free_port(DATABASE).unwrap();
        assert!(other != database && other != sessions);
        assert_eq!(ports.free_port(SESSIONS[0]).unwrap(), sessions);
        drop(stranger);
        assert_eq!(Book::read(&layout).unwrap().unwrap().port(DATABASE), Some(other));
    }

    #[test]
    fn a_block_that_another_fleet_took_meanwhile_is_given_up_unless_services_run_on_it() {
        let (_directory, layout) = fleet();
        let first = Ports::claim(&layout, false).unwrap().book().first;
        let _other_fleet = listen(first).unwrap();
        assert_eq!(Ports::claim(&layout, true).unwrap().book().first, first);
        assert_ne!(Ports::claim(&layout, false).unwrap().book().first, first);
    }

    #[test]
    fn the_ports_of_an_instance_that_is_gone_are_given_out_again() {
        let (_directory, layout) = fleet();
        let mut ports = Ports::claim(&layout, false).unwrap();
        let (one, two) = (InstanceName::numbered(1), InstanceName::numbered(2));
        let blue = ports.free_port(&slot_role(&one, SlotName::Blue)).unwrap();
        ports.release(&one).unwrap();
        assert_eq!(ports.free_port(&slot_role(&two, SlotName::Blue)).unwrap(), blue);
    }

    #[test]
    fn a_full_block_is_an_error_that_names_the_role() {
        let (_directory, layout) = fleet();
        let mut ports = Ports::claim(&layout, false).unwrap();
        for number in 1..BLOCK_PORTS {
            ports.book.roles.insert(format!("role-{number}"), ports.book.first + number);
        }
        let error = ports.free_port("one-more").unwrap_err().to_string();
        assert!(error.starts_with("no port is free for `one-more`"), "{error}");
    }
}

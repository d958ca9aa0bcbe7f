//! The agent of an instance: receives revisions into slots, keeps the slots running, reports.
//!
//! It decides nothing about the fleet: it compares what it shall hold with what it holds
//! (`flotilla_core::converge`). It serves no request, and its slots go on when it dies.

pub mod agent;
mod drift;
pub mod foreman;
pub mod prepare;
pub mod receive;
pub mod slot;
mod sync;
mod watch;

use std::net::IpAddr;
use std::path::PathBuf;

use flotilla_core::id::InstanceName;
use flotilla_core::slot::Slots;
use flotilla_host::media::Media;

/// Everything an agent is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name in the inventory.
    pub instance: InstanceName,
    /// The directory it may fill; its token is in it.
    pub directory: PathBuf,
    /// The base URL of the foreman, without a slash at the end.
    pub foreman: String,
    /// Where its slots listen.
    pub listen_ip: IpAddr,
    /// The slots' ports.
    pub ports: Slots<u16>,
    /// From where requests may come that tell the visitor's address: addresses or networks.
    pub trusted: Vec<String>,
    /// The site's media.
    pub media: Media,
    /// This program.
    pub own_program: PathBuf,
    /// nginx.
    pub nginx: PathBuf,
    /// php-fpm.
    pub php_fpm: PathBuf,
    /// The user of PHP's workers; the agent's own where it is not root.
    pub php_user: String,
    /// The user's group.
    pub php_group: String,
}

//! The memcacheds of a fleet, on the loopback address: two nodes for sessions, of which one may be
//! lost, and one for the object cache, so that what is cached never pushes out a cart.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_host::launch::find_user;
use flotilla_host::unit::Unit;
use nix::unistd::Uid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::packages::Machine;
use super::services::{Foreign, Services};

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECTIONS_MAX: u16 = 4096;
const GREETING: &[u8] = b"VERSION ";
/// Whom root runs it as: the first that is there.
const USERS: [&str; 2] = ["memcache", "nobody"];

/// Says why there is no memcached.
#[derive(Debug, thiserror::Error)]
pub enum MemcachedError {
    /// It is not installed.
    #[error("there is no `memcached` on this machine")]
    Missing,
    /// It does not answer.
    #[error("memcached does not answer on port {port}")]
    Silent {
        /// Its port.
        port: u16,
        /// What the last attempt met.
        source: io::Error,
    },
}

/// One memcached of a fleet.
#[derive(Debug, Clone)]
pub struct Memcached {
    name: &'static str,
    port: u16,
    memory_mb: u32,
    program: PathBuf,
}

impl Memcached {
    /// Finds the program for the service of this name.
    ///
    /// # Errors
    /// It is not installed.
    pub fn find(
        machine: &Machine,
        name: &'static str,
        port: u16,
        memory_mb: u32,
    ) -> Result<Self, MemcachedError> {
        let program = machine.find("memcached").ok_or(MemcachedError::Missing)?;
        Ok(Self { name, port, memory_mb, program })
    }

    /// The service.
    #[must_use]
    pub fn unit(&self, services: &Services) -> Unit {
        let user = USERS.into_iter().find(|user| find_user(user).is_ok());
        let args = [
            "-l".to_owned(),
            Ipv4Addr::LOCALHOST.to_string(),
            "-p".to_owned(),
            self.port.to_string(),
            // No UDP.
            "-U".to_owned(),
            "0".to_owned(),
            "-m".to_owned(),
            self.memory_mb.to_string(),
            "-c".to_owned(),
            CONNECTIONS_MAX.to_string(),
        ];
        services.foreign(Foreign {
            name: self.name,
            program: self.program.clone(),
            args: args.into(),
            directory: PathBuf::from("/"),
            user: user.filter(|_| Uid::effective().is_root()).map(str::to_owned),
            room: None,
        })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It does not within the limit.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), MemcachedError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let asked = tokio::time::timeout(ASK_TIMEOUT, self.ask()).await;
            let source = match asked {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_elapsed) => io::ErrorKind::TimedOut.into(),
            };
            if tokio::time::Instant::now() > deadline {
                return Err(MemcachedError::Silent { port: self.port, source });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn ask(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream.write_all(b"version\r\n").await?;
        let mut answer = [0; GREETING.len()];
        stream.read_exact(&mut answer).await?;
        if answer == GREETING { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

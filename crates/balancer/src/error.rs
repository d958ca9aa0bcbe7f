//! Why the balancer could not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Says what stopped the balancer from starting.
#[derive(Debug, thiserror::Error)]
pub enum BalancerError {
    /// A port could not be bound.
    #[error(
        "cannot listen on `{address}`; stop the program that has it (`ss -ltnp` names it), choose \
         another address, or give the right to bind ports below 1024"
    )]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No address to serve visitors on was given.
    #[error("no address to listen on was given")]
    NoListenAddress,
    /// The control token is empty, so anybody could steer the balancer.
    #[error("the control token is empty")]
    EmptyToken,
    /// The state file exists and cannot be read, or cannot be written.
    #[error("cannot use the state file `{}`", path.display())]
    StateFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log `{}`", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A thread, a runtime or randomness was refused by the system.
    #[error("cannot start `{what}`")]
    System {
        /// Which part.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

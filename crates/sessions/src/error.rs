//! Why the gateway could not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Says what stopped the gateway from starting.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The socket cannot be made.
    #[error("cannot listen on the socket `{}`", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another gateway listens on the socket.
    #[error("another process listens on the socket `{}`; stop it first", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The port cannot be bound.
    #[error("cannot listen on `{address}`")]
    Port {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A port was asked for that others than this machine can reach; the protocol knows no
    /// passwords.
    #[error("`{address}` can be reached from other machines; the address must be on loopback")]
    PortNotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// There is nothing to listen on.
    #[error("neither a socket nor a port to listen on was given")]
    NoListener,
    /// The number of copies is not one or two.
    #[error("`{copies}` copies of a session cannot be kept; one or two can")]
    Copies {
        /// What was asked for.
        copies: usize,
    },
    /// The table cannot be talked to from here.
    #[error("cannot use the DynamoDB table `{table}`")]
    Table {
        /// Its name.
        table: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The system gives no random numbers.
    #[error("cannot get random numbers")]
    Random(#[source] io::Error),
}

//! The session gateway: PHP's sessions, as if the fleet were one machine.
//!
//! PHP speaks memcached's ASCII protocol to a socket on its instance. The gateway behind it keeps
//! each session on two nodes, so that losing one loses nothing, and lets one request of a visitor at
//! a time have a session, over the whole fleet.
//!
//! The way of a request: `connection` reads a `protocol::command`; a lock goes to `locks`, all else
//! by way of `execute` to `copies`, which asks the `store`s that own the key by the `topology`.
//!
//! It runs as a process of its own, because a process that does more dies of more. It knows nothing
//! of PHP's session format, decides nothing about the fleet, and keeps nothing on disk.

mod clock;
mod connection;
mod copies;
mod counters;
mod discovery;
mod envelope;
mod error;
mod execute;
mod expiry;
mod gateway;
mod join;
mod listen;
mod locks;
mod node_file;
mod nodes;
mod options;
mod protocol;
mod run;
mod stats;
mod store;
mod topology;

pub use counters::{Counters, Snapshot};
pub use error::SessionsError;
pub use node_file::follow_node_file;
pub use options::{Backend, Options, SESSION_PREFIX, Socket};
pub use run::run;
pub use store::dynamodb::Table;

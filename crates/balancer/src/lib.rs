//! The HTTP/1.1 balancer: takes the visitors' requests and hands each to one slot of the fleet.
//!
//! One thread per core, each with its own listener, connections and upstream pool; what the cores
//! share is a handful of atomics and the upstream table, which is replaced by one swap. A further
//! thread holds the control interface, the health checks and the state file, so the balancer goes
//! on serving while the foreman is away.
//!
//! It does not terminate TLS, cache pages or decide what the fleet looks like: the table comes from
//! the foreman.

mod access_log;
mod address_range;
mod admission;
mod balancer;
mod choice;
mod client_address;
mod clock;
mod connection;
mod control;
mod error;
mod exchange;
mod forward;
mod headers;
mod health;
mod lane;
mod lane_routes;
mod listen;
mod metrics;
mod options;
mod page;
mod paths;
mod proxy;
mod random;
mod record;
mod request_body;
mod request_head;
mod response_body;
mod retry_budget;
mod routes;
mod shared;
mod socket;
mod state_file;
mod upgrade;
mod worker_place;
mod workshop;

pub use address_range::{AddressRange, AddressRangeError};
pub use balancer::{Balancer, Drained, start};
pub use error::BalancerError;
pub use options::{HealthOptions, Limits, Options, RetryOptions, Timeouts};
pub use workshop::WorkshopOptions;

//! A whole fleet on this machine: real parts as processes with their own data directories, nothing
//! of the system touched.
//!
//! A supervisor process keeps the database, the session store, the foreman, the balancer and the
//! agents running. All of them outlive it and are found running again by the next one.

pub mod database;
pub mod layout;
pub mod live;
pub mod memcached;
pub mod packages;
pub mod ports;
pub mod services;
pub mod supervisor;
pub mod teardown;

pub use layout::Layout;
pub use teardown::{destroy, down, is_running, running, stop_slots};

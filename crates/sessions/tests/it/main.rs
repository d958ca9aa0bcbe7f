//! The real gateway before real memcached nodes, with real PHP.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is unexpected fails the test, also in its helpers"
)]

mod backends;
mod client;
mod commands;
mod contract;
mod copies;
mod differential;
mod fleet;
mod locks;
mod php;
mod process;
mod tools;

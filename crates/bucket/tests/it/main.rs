//! The store as its clients see it: over sockets, as a process that is killed, on a disk that is
//! full.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what is unexpected fails the test, and what was counted is told"
)]

mod client;
mod conformance;
mod crash;
mod disk;
mod large;
mod objects;
mod process;
mod start_stop;
mod store;

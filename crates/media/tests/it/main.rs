//! The media directory, really mounted, with real servers behind it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod appends;
mod bench;
mod crash;
mod faults;
mod fleet;
mod heavy;
mod model;
mod posix;
mod promises;
mod proxy;
mod server;
mod tls;
mod tools;

//! A local fleet, really run: MariaDB, memcached and the supervisor, as root and as an ordinary
//! user.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod bench;
mod database;
mod memcached;
mod packages;
mod supervisor;

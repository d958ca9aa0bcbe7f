//! The real balancer between real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is unexpected fails the test, also in its helpers"
)]

mod client;
mod control;
mod cutover;
mod few_files;
mod forwarding;
mod health;
mod hold;
mod http1;
mod limits;
mod retries;
mod site;
mod start_stop;
mod upstream;
mod workshop;

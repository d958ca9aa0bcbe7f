//! What people change in the workshop becomes commits: byte by byte, once, and never by halves.

mod bench;
mod branch;
mod kill;
mod message;
mod rest;
mod traps;

pub(crate) use bench::Bench;

//! What flotilla decides, without doing any of it.
//!
//! No I/O, no clock, no randomness, no runtime: time and observations are arguments, so that every
//! decision can be run in a seeded simulation. The other crates act on what is decided here.

mod adopt;
pub mod api;
pub mod audit;
pub mod capture;
pub mod config;
pub mod constants;
pub mod converge;
pub mod deploy;
pub mod error;
pub mod fleet;
pub mod id;
pub mod layout;
pub mod media;
pub mod php;
pub mod plan;
pub mod report;
pub mod rotation;
pub mod slot;
pub mod storage;
pub mod table;
pub mod template;
pub mod wp_config;

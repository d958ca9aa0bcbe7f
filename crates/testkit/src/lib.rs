//! For tests of whole fleets: real fleets, a steady load of visitors, and what must hold of it.
//!
//! Nothing here stands in for a part of flotilla: a [`fleet::Fleet`] is started by the program
//! itself, its visitors come through its balancer, and whoever kills a part kills a real process.

pub mod admin;
pub mod browser;
pub mod code;
pub mod dynamodb;
pub mod exchange;
pub mod fleet;
pub mod load;
pub mod orders;
pub mod parts;
pub mod process;
pub mod program;
pub mod s3;
pub mod tls;
pub mod wait;
pub mod wordpress;

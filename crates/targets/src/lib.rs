//! Where a fleet runs. `local`: all of it on this machine, as processes with their own data.

pub mod local;

//! Media: `wp-content/uploads` as a directory that is the same on every instance, backed by a bucket.
//!
//! Two processes make it: a *keeper*, which owns the mount, and a *daemon*, which answers for it and
//! may be killed. It does not know what a fleet is, nor that there is a WordPress.

mod cache;
mod daemon;
mod error;
mod fault;
mod filesystem;
mod keeper;
mod nodes;
mod options;
mod path;
mod staged;
mod store;
mod takeover;
mod transfer;
mod upload;
mod version;
mod volume;

pub use daemon::run_daemon;
pub use error::MediaError;
pub use keeper::{Keeper, run_keeper};
pub use options::{Credentials, Options, Owner, StoreOptions};
pub use store::{Abilities, Metadata, Object, Store, StoreError};
pub use transfer::{
    Import, ImportReport, Problem, Progress, TransferError, VerifyReport, import, verify,
};

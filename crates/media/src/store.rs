//! A bucket, through the S3 interface: what the file system needs of it and no more.
//!
//! Every request is signed, bounded in time, and tried again where that is safe. It knows keys and
//! bytes, not files.

mod appends;
mod breaker;
mod client;
mod error;
mod key;
mod list;
mod metadata;
mod multipart;
mod object;
mod probe;
mod send;

pub use client::Store;
pub use error::StoreError;
pub use metadata::Metadata;
pub use object::Object;
pub use probe::Abilities;

pub(crate) use appends::{Appends, TailId};
pub(crate) use list::Depth;
pub(crate) use multipart::{PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, Part, Upload};
pub(crate) use object::{CopyMetadata, Wanted};
pub(crate) use send::hexadecimal;

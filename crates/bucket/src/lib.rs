//! The S3-compatible store that a fleet on one machine keeps its media in.
//!
//! One directory, one bucket, one pair of keys. It speaks the part of the S3 interface that media
//! need, so that the same code runs against it and against Amazon; what it leaves out it refuses by
//! name. It has no TLS, so it listens on loopback only.
//!
//! An upload is visible only when it is whole and on the disk. Objects are files with random names,
//! which are never changed; which object consists of which files stands in an index, and one of its
//! transactions is the instant at which an object appears, changes or vanishes. A process that is
//! killed leaves files that nothing names; the next start removes them.

mod answer;
mod auth;
mod blobs;
mod bucket;
mod call;
mod checksum;
mod chunked;
mod condition;
mod copy_source;
mod epoch;
mod error;
mod fault;
mod index;
mod intake;
mod key;
mod listings;
mod multipart;
mod object_headers;
mod operation;
mod options;
mod outlet;
mod patient;
mod payload;
mod range;
mod reading;
mod server;
mod service;
mod signature;
mod store;
mod target;
mod timestamp;
mod writing;
mod xml;

pub use error::{BucketError, IndexError};
pub use options::{Limits, Options};
pub use server::{Bucket, run, start};

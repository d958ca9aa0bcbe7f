//! How the machines of a fleet reach the bucket that a site's media are kept in.

use serde::{Deserialize, Serialize};

use crate::id::Token;

/// The bucket, and how much of it a machine may keep and for how long it may trust what it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSettings {
    /// The server's address, such as `http://127.0.0.1:9000`; `None` is AWS itself.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// What every key begins with; empty, or with a slash at its end.
    pub prefix: String,
    /// The keys; `None` asks the environment, the profile, or the machine's role, in that order.
    pub keys: Option<MediaKeys>,
    /// How much of its disk a machine may use for what it has read, in bytes.
    pub cache_bytes_max: u64,
    /// Milliseconds for which a name and its size may be remembered.
    pub staleness_millis: u64,
}

/// A pair of keys to a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaKeys {
    /// Says who asks.
    pub access_key_id: String,
    /// Signs the requests.
    pub secret_access_key: Token,
}

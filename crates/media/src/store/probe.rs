//! Finds out whether a bucket can be used, and which promises its server keeps.

use bytes::Bytes;

use super::client::Store;
use super::error::StoreError;
use super::metadata::Metadata;
use super::object::{Wanted, random_text};
use crate::path::RESERVED;

/// What a server does with conditions. Some ignore them without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Refuses to replace an object with `If-None-Match: *`. Without it, two instances may create a
    /// file of the same name at once.
    pub keeps_first: bool,
    /// Refuses to replace another version with `If-Match`. Without it, lines that two instances
    /// append at once may be lost.
    pub keeps_version: bool,
}

impl Store {
    /// Writes, reads and removes an object of a name of its own.
    ///
    /// # Errors
    /// Says why the bucket cannot be used.
    pub async fn probe(&self) -> Result<Abilities, StoreError> {
        // It tells a missing bucket from a missing object.
        self.has_any(RESERVED).await?;
        let key = format!("{RESERVED}/probe-{}", random_text());
        let metadata = Metadata::default();
        let put = |wanted: Wanted| {
            let (key, metadata) = (key.clone(), metadata.clone());
            async move { self.put(&key, Bytes::new(), &metadata, "text/plain", &wanted).await }
        };
        let first = put(Wanted::Absent).await;
        let outcome = match first {
            Ok(_) => {
                let again = put(Wanted::Absent).await;
                let other =
                    put(Wanted::Version("00000000000000000000000000000000".to_owned())).await;
                refused(again).and_then(|keeps_first| {
                    Ok(Abilities { keeps_first, keeps_version: refused(other)? })
                })
            }
            Err(error) => Err(error),
        };
        self.delete(&key).await?;
        outcome
    }
}

fn refused(outcome: Result<String, StoreError>) -> Result<bool, StoreError> {
    match outcome {
        Ok(_) => Ok(false),
        Err(StoreError::Changed(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

//! The name of an object. Any text may be one: the store never makes a path of it.

use crate::fault::{Code, Fault};

/// S3's limit for the name of an object.
const KEY_BYTES_MAX: usize = 1_024;

/// The name of an object: 1 to 1,024 bytes of UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    /// Takes a name as a client sent it, with percent encoding already undone.
    ///
    /// # Errors
    /// It is empty, too long, or not UTF-8.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.is_empty() {
            return Err(Fault::new(Code::InvalidArgument, "the key of an object is never empty"));
        }
        if bytes.len() > KEY_BYTES_MAX {
            let message = format!("the key is longer than {KEY_BYTES_MAX} bytes");
            return Err(Fault::new(Code::KeyTooLong, message));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_error| Fault::new(Code::InvalidUri, "the key is not valid UTF-8"))?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as the index stores it: byte order is S3's order of listing.
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

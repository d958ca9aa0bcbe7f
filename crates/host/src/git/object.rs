//! Names of git objects, and the name that bytes would have as a blob.

use std::fmt;

use sha1::{Digest, Sha1};

/// The name of an object: a SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub [u8; 20]);

impl ObjectId {
    /// Returns the name that these bytes have as a blob.
    #[must_use]
    pub fn of_blob(bytes: &[u8]) -> Self {
        let mut hash = BlobHash::new(bytes.len() as u64);
        hash.update(bytes);
        hash.finish()
    }

    /// Reads 40 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        if text.len() != 40 {
            return None;
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Works out the name of a blob whose bytes come in pieces.
#[derive(Debug, Clone)]
pub struct BlobHash(Sha1);

impl BlobHash {
    /// Begins a blob of this size in bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let mut hash = Sha1::new();
        hash.update(format!("blob {size}\0"));
        Self(hash)
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the name.
    #[must_use]
    pub fn finish(self) -> ObjectId {
        ObjectId(self.0.finalize().into())
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_the_name_that_git_gives_it() {
        let empty = ObjectId::of_blob(b"");
        assert_eq!(empty.to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(ObjectId::from_hex(empty.to_string().as_bytes()), Some(empty));
        assert_eq!(ObjectId::from_hex(b"e69d"), None);
    }
}

//! Names of files below the mount, and what they are called in the bucket.
//!
//! A path has no slash at its ends; the root is the empty one. A directory's own object, its
//! *marker*, is its key with a slash at the end.

use std::ffi::OsStr;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest key that S3 takes, in bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// The longest name of one file, in bytes, as on other file systems.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// A name at the root that is ours and that nobody sees.
pub(crate) const RESERVED: &str = ".flotilla";

/// The number that the kernel gives the root.
pub(crate) const ROOT_ID: u64 = 1;
/// The bits of a node's number that come from a digest. The others stay free, and numbers stay
/// positive for programs that read them as signed.
const ID_BITS: u64 = (1 << 60) - 1;
/// Below it are numbers with a meaning.
const ID_MIN: u64 = 1024;

/// A place below the mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MediaPath(String);

/// Says why a name cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameError {
    /// It, or the key it leads to, is too long.
    TooLong,
    /// It is not UTF-8, which keys must be.
    NotText,
    /// It is ours.
    Reserved,
}

impl MediaPath {
    /// Returns the path of the mount itself.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// Returns the path that a key stands for; `None` for keys that no path leads to.
    pub(crate) fn from_relative_key(key: &str) -> Option<Self> {
        let is_sound = key.split('/').all(is_plain_name);
        (is_sound && key.len() <= KEY_BYTES_MAX).then(|| Self(key.to_owned()))
    }

    /// Returns the path of an entry of this directory.
    pub(crate) fn child(&self, name: &OsStr, prefix_bytes: usize) -> Result<Self, NameError> {
        let name = name.to_str().ok_or(NameError::NotText)?;
        if self.is_root() && name == RESERVED {
            return Err(NameError::Reserved);
        }
        let path = if self.is_root() { name.to_owned() } else { format!("{}/{name}", self.0) };
        // A directory's key has one more byte.
        if name.len() > NAME_BYTES_MAX || prefix_bytes + path.len() + 1 > KEY_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self(path))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the directory that this is an entry of; the root's is the root.
    pub(crate) fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned())
    }

    /// Returns what all keys below this directory begin with, relative to the bucket's prefix.
    pub(crate) fn inside(&self) -> String {
        if self.is_root() { String::new() } else { format!("{}/", self.0) }
    }

    /// Returns this path as it is after a directory above it, or it itself, was renamed.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(&from.0)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| Self(format!("{}{rest}", to.0)))
    }

    /// Returns the number of a directory.
    pub(crate) fn directory_id(&self) -> u64 {
        if self.is_root() { ROOT_ID } else { digest_id(&[self.0.as_bytes(), b"/"]) }
    }

    /// Returns the number of one version of a file.
    pub(crate) fn version_id(&self, etag: &str) -> u64 {
        digest_id(&[self.0.as_bytes(), b"\0", etag.as_bytes()])
    }
}

impl fmt::Display for MediaPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { formatter.write_str(".") } else { formatter.write_str(&self.0) }
    }
}

/// Returns the next number to try when two things have the same.
pub(crate) fn next_id(id: u64) -> u64 {
    ((id + 1) & ID_BITS).max(ID_MIN)
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= NAME_BYTES_MAX
        && !name.contains('\0')
}

fn digest_id(parts: &[&[u8]]) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    let number =
        digest.finalize().iter().take(8).fold(0, |all, byte| (all << 8) | u64::from(*byte));
    (number & ID_BITS).max(ID_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> MediaPath {
        MediaPath::from_relative_key(text).unwrap()
    }

    #[test]
    fn keys_that_no_path_leads_to_are_not_shown() {
        for key in ["", "a//b", "/a", "a/", "../a", "a/./b", "a\0b"] {
            assert_eq!(MediaPath::from_relative_key(key), None, "{key:?}");
        }
        assert_eq!(path("2026/11/a b.jpg").as_str(), "2026/11/a b.jpg");
    }

    #[test]
    fn names_that_cannot_be_stored_are_told_apart() {
        use std::os::unix::ffi::OsStrExt;
        let root = MediaPath::root();
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(root.child(OsStr::new(&long), 0), Err(NameError::TooLong));
        assert_eq!(root.child(OsStr::from_bytes(b"\xff"), 0), Err(NameError::NotText));
        assert_eq!(root.child(OsStr::new(RESERVED), 0), Err(NameError::Reserved));
        assert_eq!(root.child(OsStr::new("a"), KEY_BYTES_MAX - 1), Err(NameError::TooLong));
        assert_eq!(root.child(OsStr::new("a"), KEY_BYTES_MAX - 2), Ok(path("a")));
        assert_eq!(path("a").child(OsStr::new(RESERVED), 0), Ok(path("a/.flotilla")));
    }

    #[test]
    fn a_renamed_directory_takes_only_its_own_entries_along() {
        let (from, to) = (path("2026/11"), path("old"));
        assert_eq!(path("2026/11/a").moved(&from, &to), Some(path("old/a")));
        assert_eq!(path("2026/11").moved(&from, &to), Some(path("old")));
        assert_eq!(path("2026/110/a").moved(&from, &to), None);
    }

    #[test]
    fn numbers_are_of_a_version_and_never_the_root() {
        assert_eq!(MediaPath::root().directory_id(), ROOT_ID);
        assert_ne!(path("a").version_id("1"), path("a").version_id("2"));
        assert_ne!(path("a").directory_id(), path("a").version_id(""));
        assert_eq!(path("a/b").parent(), path("a"));
        assert_eq!(path("a").parent(), MediaPath::root());
    }
}

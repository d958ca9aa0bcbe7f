//! Git's index file, read and written here: it remembers which blob a file held, and its `stat` then.
//!
//! Writing it ourselves spares a second pass over the tree, and `git status` stays instant for a
//! person who looks. Only versions 2 and 3 are known; anything else counts as "nothing remembered".
//! Format: <https://git-scm.com/docs/index-format>.

use std::collections::BTreeMap;

use nix::sys::stat::FileStat;
use sha1::{Digest, Sha1};

use super::object::ObjectId;

const SIGNATURE: &[u8; 4] = b"DIRC";
const ENTRY_BYTES: usize = 62;
const FLAG_EXTENDED: u16 = 0x4000;
const FLAG_STAGE: u16 = 0x3000;
const NAME_BYTES_MAX: usize = 0xfff;
const EXTENDED_SKIP_WORKTREE: u16 = 0x4000;

/// What tells whether a file was touched since; git keeps only 32 bits of each. The default one is no
/// file's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    changed: (u32, u32),
    modified: (u32, u32),
    device: u32,
    inode: u32,
    user: u32,
    group: u32,
    size: u32,
}

impl Stat {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the format keeps the low 32 bits"
    )]
    pub(super) const fn of(stat: &FileStat) -> Self {
        Self {
            changed: (stat.st_ctime as u32, stat.st_ctime_nsec as u32),
            modified: (stat.st_mtime as u32, stat.st_mtime_nsec as u32),
            device: stat.st_dev as u32,
            inode: stat.st_ino as u32,
            user: stat.st_uid,
            group: stat.st_gid,
            size: stat.st_size as u32,
        }
    }

    /// Whether the file is as it was; the device number may differ between mount namespaces.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Self { device: 0, ..*self } == Self { device: 0, ..*other }
    }

    /// The time of modification in seconds.
    pub(super) const fn modified_seconds(&self) -> u32 {
        self.modified.0
    }

    /// Returns when anything of the file changed last, in milliseconds since 1970. Nobody can set it.
    #[must_use]
    pub fn changed_millis(&self) -> u64 {
        u64::from(self.changed.0) * 1_000 + u64::from(self.changed.1 / 1_000_000)
    }

    /// Returns all that [`Self::is_same`] compares, to be hashed.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        let numbers = [
            self.changed.0,
            self.changed.1,
            self.modified.0,
            self.modified.1,
            self.inode,
            self.user,
            self.group,
            self.size,
        ];
        let mut bytes = [0; 32];
        for (part, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            part.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// One file of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How the file looked when its bytes were last read or written.
    pub stat: Stat,
    /// Git's mode.
    pub mode: u32,
    /// The blob that it held then.
    pub object: ObjectId,
    /// Not wanted in the tree; git calls it skip-worktree.
    pub is_skipped: bool,
}

/// The index: entries by path.
pub type Index = BTreeMap<Vec<u8>, Entry>;

/// Reads an index; `None` when it is damaged or of another version.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Index> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(20)?)?;
    if Sha1::digest(body).as_slice() != checksum {
        return None;
    }
    let mut rest = body.strip_prefix(SIGNATURE)?;
    let version = take_u32(&mut rest)?;
    if !matches!(version, 2 | 3) {
        return None;
    }
    let count = take_u32(&mut rest)?;
    let mut index = Index::new();
    for _ in 0..count {
        let (path, entry) = read_entry(&mut rest)?;
        index.insert(path, entry);
    }
    Some(index)
}

fn read_entry(rest: &mut &[u8]) -> Option<(Vec<u8>, Entry)> {
    let before = rest.len();
    let changed = (take_u32(rest)?, take_u32(rest)?);
    let modified = (take_u32(rest)?, take_u32(rest)?);
    let (device, inode, mode) = (take_u32(rest)?, take_u32(rest)?, take_u32(rest)?);
    let (user, group, size) = (take_u32(rest)?, take_u32(rest)?, take_u32(rest)?);
    let object = ObjectId(take(rest, 20)?.try_into().ok()?);
    let flags = take_u16(rest)?;
    let extended = if flags & FLAG_EXTENDED == 0 { 0 } else { take_u16(rest)? };
    if flags & FLAG_STAGE != 0 {
        return None;
    }
    let length = rest.iter().position(|byte| *byte == 0)?;
    let path = take(rest, length)?.to_vec();
    let used = before - rest.len();
    take(rest, 8 - used % 8)?;
    let stat = Stat { changed, modified, device, inode, user, group, size };
    let is_skipped = extended & EXTENDED_SKIP_WORKTREE != 0;
    Some((path, Entry { stat, mode, object, is_skipped }))
}

/// Writes an index as bytes.
#[must_use]
pub fn write(index: &Index) -> Vec<u8> {
    let version: u32 = if index.values().any(|entry| entry.is_skipped) { 3 } else { 2 };
    let mut bytes = Vec::with_capacity(index.len() * (ENTRY_BYTES + 60) + 32);
    bytes.extend(SIGNATURE);
    bytes.extend(version.to_be_bytes());
    bytes.extend(u32::try_from(index.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (path, entry) in index {
        write_entry(&mut bytes, path, entry);
    }
    let checksum = Sha1::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

fn write_entry(bytes: &mut Vec<u8>, path: &[u8], entry: &Entry) {
    let start = bytes.len();
    let stat = &entry.stat;
    for number in [
        stat.changed.0,
        stat.changed.1,
        stat.modified.0,
        stat.modified.1,
        stat.device,
        stat.inode,
        entry.mode,
        stat.user,
        stat.group,
        stat.size,
    ] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(entry.object.0);
    let length = u16::try_from(path.len().min(NAME_BYTES_MAX)).unwrap_or(0);
    if entry.is_skipped {
        bytes.extend((length | FLAG_EXTENDED).to_be_bytes());
        bytes.extend(EXTENDED_SKIP_WORKTREE.to_be_bytes());
    } else {
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend(path);
    let used = bytes.len() - start;
    bytes.resize(bytes.len() + 8 - used % 8, 0);
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(take(rest, 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_damage_is_noticed() {
        let mut index = Index::new();
        for (number, path) in ["a", "b/cc", "b/ddd.php", "e e/ffffffff"].iter().enumerate() {
            let entry = Entry {
                stat: Stat { size: 7, inode: u32::try_from(number).unwrap(), ..Stat::default() },
                mode: 0o100_644,
                object: ObjectId::of_blob(path.as_bytes()),
                is_skipped: number == 2,
            };
            index.insert(path.as_bytes().to_vec(), entry);
        }
        let mut bytes = write(&index);
        assert_eq!(read(&bytes), Some(index));
        bytes[40] ^= 1;
        assert_eq!(read(&bytes), None);
        assert_eq!(read(b""), None);
    }
}

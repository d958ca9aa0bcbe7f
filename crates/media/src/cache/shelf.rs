//! What is in the cache, and what goes when it is full: the version that was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::block_range;
use super::index::{self, Header};
use crate::path::MediaPath;

/// How many versions are kept at most, so that the table stays small.
const VERSIONS_MAX: usize = 1_000_000;
/// How full the cache is after room was made, in hundredths of its limit.
const KEPT_PERCENT: u64 = 90;

/// A block that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) checksum: u32,
    /// Whether this process knows that the bytes are right.
    pub(crate) is_checked: bool,
}

/// A version that is there in part or as a whole.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) blocks: HashMap<u32, Block>,
    bytes: u64,
    used: u64,
    /// Tells this entry from an earlier one of the same version, which had another file.
    serial: u64,
}

/// All that is there.
#[derive(Debug)]
pub(crate) struct Shelf {
    directory: PathBuf,
    bytes_max: u64,
    bytes: u64,
    clock: u64,
    entries: HashMap<u64, Entry>,
    by_use: BTreeMap<u64, u64>,
    by_path: BTreeMap<MediaPath, u64>,
}

impl Shelf {
    /// Reads what earlier processes left.
    pub(crate) fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut shelf = Self {
            directory: directory.to_owned(),
            bytes_max,
            bytes: 0,
            clock: 0,
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            by_path: BTreeMap::new(),
        };
        let mut found = Vec::new();
        for drawer in fs::read_dir(directory)? {
            for file in fs::read_dir(drawer?.path())? {
                let file = file?;
                let path = file.path();
                let id = path.file_stem().and_then(|stem| stem.to_str());
                let id = id.and_then(|stem| u64::from_str_radix(stem, 16).ok());
                match (id, path.extension().and_then(|extension| extension.to_str())) {
                    (Some(id), Some("index")) => match index::read(&path) {
                        Some((header, blocks)) if shelf.data_path(id).exists() => {
                            found.push((file.metadata()?.modified()?, id, header, blocks));
                        }
                        _ => fs::remove_file(&path)?,
                    },
                    (Some(_), Some("data")) if path.with_extension("index").exists() => {}
                    _ => fs::remove_file(&path)?,
                }
            }
        }
        found.sort_by_key(|(modified, ..)| *modified);
        for (_, id, header, blocks) in found {
            shelf.put(id, header, &blocks, false);
        }
        Ok(shelf)
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = &Header> {
        self.entries.values().map(|entry| &entry.header)
    }

    /// Returns what was last seen of a name.
    pub(crate) fn find(&self, path: &MediaPath) -> Option<&Entry> {
        self.entries.get(self.by_path.get(path)?)
    }

    /// Returns whether anything in a directory is there.
    pub(crate) fn has_inside(&self, directory: &MediaPath) -> bool {
        let inside = directory.inside();
        let mut after = self.by_path.range(directory.clone()..);
        after.any(|(path, _)| path.as_str().starts_with(&inside))
    }

    /// Makes an entry without content, unless it is there; returns its file and its serial number.
    pub(crate) fn enter(&mut self, id: u64, header: &Header) -> io::Result<(File, u64)> {
        if !self.entries.contains_key(&id) {
            fs::create_dir_all(self.drawer(id))?;
            drop(open(&self.data_path(id), true)?);
            index::create(&self.index_path(id), header, &[])?;
            self.put(id, header.clone(), &[], true);
        }
        let serial = self.entries.get(&id).map_or(0, |entry| entry.serial);
        Ok((self.file(id)?, serial))
    }

    /// Takes a file that is a whole version, and whose blocks have these checksums.
    pub(crate) fn adopt(
        &mut self,
        id: u64,
        header: Header,
        data: &Path,
        blocks: &[(u32, u32)],
    ) -> io::Result<()> {
        self.remove(id)?;
        if header.version.size > self.bytes_max {
            return Ok(());
        }
        self.make_room(header.version.size)?;
        fs::create_dir_all(self.drawer(id))?;
        fs::rename(data, self.data_path(id))?;
        index::create(&self.index_path(id), &header, blocks)?;
        self.put(id, header, blocks, true);
        Ok(())
    }

    /// Notes that a block is in the data file, if that is still the entry's file.
    pub(crate) fn add_block(
        &mut self,
        id: u64,
        serial: u64,
        block: u32,
        checksum: u32,
    ) -> io::Result<()> {
        let index = self.index_path(id);
        let entry = self.entries.get_mut(&id).filter(|entry| entry.serial == serial);
        let Some(entry) = entry else { return Ok(()) };
        index::add(&index, block, checksum)?;
        let range = block_range(block, entry.header.version.size);
        if entry.blocks.insert(block, Block { checksum, is_checked: true }).is_none() {
            entry.bytes += range.end - range.start;
            self.bytes += range.end - range.start;
        }
        Ok(())
    }

    /// Notes that a block in the data file is not what it should be.
    pub(crate) fn drop_block(&mut self, id: u64, block: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.blocks.remove(&block).is_some() {
            let range = block_range(block, entry.header.version.size);
            entry.bytes -= range.end - range.start;
            self.bytes -= range.end - range.start;
        }
    }

    /// Notes that an entry was needed now.
    pub(crate) fn touch(&mut self, id: u64) {
        self.clock += 1;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, id);
    }

    /// Removes what was not used for longest until this much fits.
    pub(crate) fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        if self.bytes + bytes <= self.bytes_max && self.entries.len() < VERSIONS_MAX {
            return Ok(());
        }
        self.shrink((self.bytes_max / 100 * KEPT_PERCENT).saturating_sub(bytes))
    }

    /// Removes what was not used for longest until half is left; the disk is full.
    pub(crate) fn make_much_room(&mut self) -> io::Result<()> {
        self.shrink(self.bytes / 2)
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, id: u64) -> io::Result<()> {
        let Some(entry) = self.entries.remove(&id) else { return Ok(()) };
        self.by_use.remove(&entry.used);
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        if self.by_path.get(&entry.header.path) == Some(&id) {
            self.by_path.remove(&entry.header.path);
        }
        // The index first: data without one is known to be rubbish.
        remove_if_there(&self.index_path(id))?;
        remove_if_there(&self.data_path(id))
    }

    /// Opens an entry's data file. It can be read on when the entry is removed.
    pub(crate) fn file(&self, id: u64) -> io::Result<File> {
        open(&self.data_path(id), false)
    }

    fn shrink(&mut self, bytes_kept: u64) -> io::Result<()> {
        let oldest: Vec<u64> = self.by_use.values().copied().collect();
        for id in oldest {
            if self.bytes <= bytes_kept && self.entries.len() < VERSIONS_MAX {
                return Ok(());
            }
            self.remove(id)?;
        }
        Ok(())
    }

    fn put(&mut self, id: u64, header: Header, blocks: &[(u32, u32)], is_checked: bool) {
        self.clock += 1;
        let size = header.version.size;
        let block =
            |(block, checksum): &(u32, u32)| (*block, Block { checksum: *checksum, is_checked });
        let blocks: HashMap<u32, Block> = blocks.iter().map(block).collect();
        let bytes = blocks
            .keys()
            .map(|block| block_range(*block, size))
            .map(|range| range.end - range.start)
            .sum();
        self.bytes += bytes;
        self.by_use.insert(self.clock, id);
        self.by_path.insert(header.path.clone(), id);
        let entry = Entry { header, blocks, bytes, used: self.clock, serial: self.clock };
        self.entries.insert(id, entry);
    }

    fn drawer(&self, id: u64) -> PathBuf {
        self.directory.join(format!("{:02x}", id & 0xff))
    }

    fn data_path(&self, id: u64) -> PathBuf {
        self.drawer(id).join(format!("{id:016x}.data"))
    }

    pub(crate) fn index_path(&self, id: u64) -> PathBuf {
        self.drawer(id).join(format!("{id:016x}.index"))
    }
}

fn open(path: &Path, is_new: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(is_new).truncate(false).mode(0o600).open(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::Appends;
    use crate::version::Version;

    fn header(name: &str, size: u64) -> Header {
        let version = Version {
            etag: "e".to_owned(),
            size,
            modified: SystemTime::UNIX_EPOCH,
            mode: None,
            appends: Appends::default(),
        };
        Header { path: MediaPath::from_relative_key(name).unwrap(), version, node: 5 }
    }

    fn fill(shelf: &mut Shelf, id: u64, name: &str) {
        shelf.make_room(100).unwrap();
        let (_, serial) = shelf.enter(id, &header(name, 100)).unwrap();
        shelf.add_block(id, serial, 0, 1).unwrap();
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(directory.path(), 300).unwrap();
        for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
            fill(&mut shelf, id, name);
        }
        shelf.touch(1);
        shelf.touch(2);
        fill(&mut shelf, 4, "d");
        let mut left: Vec<u64> =
            [1, 2, 3, 4].into_iter().filter(|id| shelf.get(*id).is_some()).collect();
        left.sort_unstable();
        assert_eq!(left, [2, 4]);
    }

    #[test]
    fn a_block_of_a_file_that_has_gone_meanwhile_is_not_taken_for_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(directory.path(), 300).unwrap();
        let (_, serial) = shelf.enter(1, &header("a", 100)).unwrap();
        shelf.remove(1).unwrap();
        shelf.enter(1, &header("a", 100)).unwrap();
        shelf.add_block(1, serial, 0, 1).unwrap();
        assert!(shelf.get(1).unwrap().blocks.is_empty());
    }

    #[test]
    fn what_was_there_is_there_after_a_restart_and_has_to_be_checked() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(directory.path(), 300).unwrap();
        fill(&mut shelf, 1, "d/a");
        fs::write(directory.path().join("01/0000000000000101.data"), "no index").unwrap();
        let shelf = Shelf::open(directory.path(), 300).unwrap();
        let block = shelf.get(1).unwrap().blocks.get(&0).unwrap();
        assert!(block.checksum == 1 && !block.is_checked);
        let directory_path = MediaPath::from_relative_key("d").unwrap();
        assert!(shelf.has_inside(&directory_path));
        assert!(!directory.path().join("01/0000000000000101.data").exists());
    }
}

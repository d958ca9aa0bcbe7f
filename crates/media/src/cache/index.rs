//! The index file of one cached version.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BLOCK_BYTES;
use crate::path::MediaPath;
use crate::version::Version;

/// The longest line of an index, in bytes.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// The first line of an index: what the data is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) path: MediaPath,
    pub(crate) version: Version,
    /// The number by which the kernel knows it.
    pub(crate) node: u64,
}

/// Begins an index.
pub(crate) fn create(path: &Path, header: &Header, blocks: &[(u32, u32)]) -> io::Result<()> {
    let mut text = serde_json::to_string(header)?;
    text.push('\n');
    for (block, checksum) in blocks {
        text.push_str(&line(*block, *checksum));
    }
    let aside = path.with_extension("index.new");
    fs::write(&aside, text)?;
    fs::rename(aside, path)
}

/// Adds a block that is now in the data file.
pub(crate) fn add(path: &Path, block: u32, checksum: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(line(block, checksum).as_bytes())
}

/// Reads an index; a line that was cut off is ignored. `None` when it is no index.
pub(crate) fn read(path: &Path) -> Option<(Header, Vec<(u32, u32)>)> {
    let mut reader = BufReader::new(File::open(path).ok()?);
    let header = serde_json::from_str(&read_line(&mut reader)?).ok()?;
    let mut blocks = Vec::new();
    while let Some(line) = read_line(&mut reader) {
        let Some((block, checksum)) = line.split_once(' ') else { break };
        match (block.parse(), u32::from_str_radix(checksum, 16)) {
            (Ok(block), Ok(checksum)) => blocks.push((block, checksum)),
            _ => break,
        }
    }
    Some((header, blocks))
}

/// Returns the checksums of all blocks of a file.
pub(crate) fn checksums(file: &File) -> io::Result<Vec<(u32, u32)>> {
    use std::os::unix::fs::FileExt;
    const PIECE: usize = 256 * 1024;
    let mut piece = vec![0; PIECE];
    let mut all = Vec::new();
    let mut offset = 0;
    let mut digest = crc32fast::Hasher::new();
    loop {
        let count = file.read_at(&mut piece, offset)?;
        // Pieces end where blocks end, but for short reads of a file that shrinks: that is an end.
        digest.update(piece.get(..count).unwrap_or_default());
        offset += u64::try_from(count).unwrap_or_default();
        let is_end = count < PIECE;
        if offset > 0 && (is_end || offset.is_multiple_of(BLOCK_BYTES)) {
            let block = u32::try_from((offset - 1) / BLOCK_BYTES).unwrap_or(u32::MAX);
            if all.last().is_none_or(|(last, _)| *last != block) {
                all.push((block, std::mem::take(&mut digest).finalize()));
            }
        }
        if is_end {
            return Ok(all);
        }
    }
}

fn line(block: u32, checksum: u32) -> String {
    format!("{block} {checksum:08x}\n")
}

/// Returns a whole line without its end.
fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.take(LINE_BYTES_MAX).read_line(&mut line).ok()?;
    line.strip_suffix('\n').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::Appends;

    fn header() -> Header {
        let version = Version {
            etag: "e".to_owned(),
            size: 9,
            modified: SystemTime::UNIX_EPOCH,
            mode: None,
            appends: Appends::default(),
        };
        Header { path: MediaPath::from_relative_key("a").unwrap(), version, node: 5 }
    }

    #[test]
    fn a_line_that_was_cut_off_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.index");
        create(&path, &header(), &[(0, 1)]).unwrap();
        add(&path, 3, 0xabc).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"4 0000").unwrap();
        assert_eq!(read(&path).unwrap(), (header(), vec![(0, 1), (3, 0xabc)]));
        fs::write(&path, "{").unwrap();
        assert!(read(&path).is_none());
    }

    #[test]
    fn checksums_are_of_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        for size in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES] {
            let content: Vec<u8> =
                (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect();
            fs::write(&path, &content).unwrap();
            let expected: Vec<(u32, u32)> = content
                .chunks(usize::try_from(BLOCK_BYTES).unwrap())
                .zip(0..)
                .map(|(block, index)| (index, crc32fast::hash(block)))
                .collect();
            assert_eq!(checksums(&File::open(&path).unwrap()).unwrap(), expected, "{size}");
        }
    }
}

//! A bounded copy on the local disk of what was read from the bucket, in blocks, by version.
//!
//! Each version has a data file with holes, and an index file that grows by a line for each block
//! that has arrived, with its checksum. Blocks that an earlier process wrote are checked before they
//! are served, so a crash of the machine cannot show wrong bytes.

mod fetch;
mod index;
mod shelf;

pub(crate) use fetch::{Cache, Source, blocking};
pub(crate) use index::checksums;

/// What is fetched at once, in bytes.
pub(crate) const BLOCK_BYTES: u64 = 4 * 1024 * 1024;

/// Returns the blocks that a range of bytes touches.
pub(crate) fn blocks(offset: u64, length: u64) -> std::ops::Range<u32> {
    let number = |block: u64| u32::try_from(block).unwrap_or(u32::MAX);
    number(offset / BLOCK_BYTES)..number((offset + length).div_ceil(BLOCK_BYTES))
}

/// Returns where a block lies in a file of this size.
pub(crate) fn block_range(block: u32, size: u64) -> std::ops::Range<u64> {
    let start = u64::from(block) * BLOCK_BYTES;
    start.min(size)..(start + BLOCK_BYTES).min(size)
}

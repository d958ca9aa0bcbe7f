//! Bringing bytes to the bucket as one object that is there as a whole or not at all: in one request,
//! or in parts with bounded memory.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::cache::blocking;
use crate::fault::{Fault, local};
use crate::path::MediaPath;
use crate::store::{Metadata, PART_BYTES_MAX, PARTS_MAX, Part, Store, Upload, Wanted};
use crate::version::content_type;

/// What is larger is stored in parts, in bytes.
pub(crate) const ONE_REQUEST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The usual size of a part, in bytes.
const PART_BYTES: u64 = 16 * 1024 * 1024;
/// How many parts of one file are under way at once.
const PARTS_AT_ONCE: usize = 3;
/// How much may be in memory for all files together, in units of a mebibyte.
const MEMORY_MEBIBYTES_MAX: usize = 96;
const MEBIBYTE: u64 = 1024 * 1024;

/// What is stored.
pub(crate) trait Content: Send + Sync + 'static {
    /// Returns how long the object will be, in bytes.
    fn size(&self) -> u64;

    /// Returns how much of its beginning the server copies from the object of the same name, and of
    /// which version; 0 when all is sent.
    fn copied(&self) -> (u64, &str) {
        (0, "")
    }

    /// Reads exactly so many bytes of what is sent.
    ///
    /// # Errors
    /// The disk fails, or less is there.
    fn read(&self, offset: u64, length: u64) -> io::Result<Bytes>;
}

/// Stores objects within a budget of memory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Uploader {
    store: Store,
    memory: Arc<Semaphore>,
}

impl Uploader {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, memory: Arc::new(Semaphore::new(MEMORY_MEBIBYTES_MAX)) }
    }

    /// Stores content under a name; returns its version.
    pub(crate) async fn put(
        &self,
        content: Arc<dyn Content>,
        path: &MediaPath,
        metadata: &Metadata,
        wanted: &Wanted,
    ) -> Result<String, Fault> {
        let kind = content_type(path.as_str());
        if content.copied().0 == 0 && content.size() <= ONE_REQUEST_BYTES_MAX {
            let _memory = self.memory(content.size()).await;
            let body = read(&content, 0..content.size()).await?;
            return Ok(self.store.put(path.as_str(), body, metadata, kind, wanted).await?);
        }
        let upload = self.store.begin_upload(path.as_str(), metadata, kind).await?;
        let outcome = match self.send_parts(&upload, &content, path).await {
            Ok(parts) => upload.complete(parts, wanted).await.map_err(Fault::from),
            Err(fault) => Err(fault),
        };
        if outcome.is_err() {
            upload.abort().await;
        }
        outcome
    }

    async fn send_parts(
        &self,
        upload: &Upload,
        content: &Arc<dyn Content>,
        path: &MediaPath,
    ) -> Result<Vec<Part>, Fault> {
        let mut parts = Vec::new();
        let mut number = 0_u32;
        let (copied, etag) = content.copied();
        if copied > 0 {
            for range in even_ranges(copied, PART_BYTES_MAX) {
                number += 1;
                parts.push(upload.copy(number, path.as_str(), etag, range).await?);
            }
        }
        let size = content.size();
        let part_bytes = PART_BYTES.max((size - copied).div_ceil(PARTS_MAX / 2));
        let sends = ranges(copied..size, part_bytes).zip(number + 1..).map(|(range, number)| {
            let content = Arc::clone(content);
            async move {
                let _memory = self.memory(range.end - range.start).await;
                let body = read(&content, range).await?;
                Ok::<_, Fault>(upload.send(number, body).await?)
            }
        });
        // Collected first: a lazy iterator of futures is not known to be `Send`.
        let sends: Vec<_> = sends.collect();
        let mut sends = stream::iter(sends).buffer_unordered(PARTS_AT_ONCE);
        while let Some(part) = sends.try_next().await? {
            parts.push(part);
        }
        Ok(parts)
    }

    /// Waits until so many bytes may be held in memory.
    async fn memory(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let limit = u32::try_from(MEMORY_MEBIBYTES_MAX).unwrap_or(u32::MAX);
        let wanted = u32::try_from(bytes.div_ceil(MEBIBYTE)).unwrap_or(limit).min(limit);
        self.memory.acquire_many(wanted).await.ok()
    }
}

async fn read(content: &Arc<dyn Content>, range: Range<u64>) -> Result<Bytes, Fault> {
    let content = Arc::clone(content);
    blocking(move || content.read(range.start, range.end - range.start))
        .await
        .map_err(local("read what was written"))
}

/// Cuts a range into pieces of this size and a rest.
fn ranges(range: Range<u64>, piece: u64) -> impl Iterator<Item = Range<u64>> {
    let count = (range.end - range.start).div_ceil(piece);
    (0..count).map(move |index| {
        let start = range.start + index * piece;
        start..(start + piece).min(range.end)
    })
}

/// Cuts what is before `end` into pieces of about the same size, none of which is larger than this:
/// only an object's last part may be small.
fn even_ranges(end: u64, piece_max: u64) -> impl Iterator<Item = Range<u64>> {
    let count = end.div_ceil(piece_max).max(1);
    ranges(0..end, end.div_ceil(count).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_once() {
        assert_eq!(ranges(0..10, 4).collect::<Vec<_>>(), [0..4, 4..8, 8..10]);
        assert_eq!(ranges(5..5, 4).count(), 0);
        assert_eq!(even_ranges(10, 9).collect::<Vec<_>>(), [0..5, 5..10]);
    }
}

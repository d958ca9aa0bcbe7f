//! Reading through the cache: what is not there is fetched, once for all who wait for it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use flotilla_host::tasks::Tasks;
use tokio::sync::Semaphore;

use super::index::Header;
use super::shelf::Shelf;
use super::{block_range, blocks};
use crate::fault::{Fault, local};
use crate::path::MediaPath;
use crate::store::{Store, StoreError};
use crate::version::Version;

/// How many blocks may be fetched at once; with a block's size this bounds the memory for it.
const FETCHES_MAX: usize = 12;

/// A version to read from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name under which the bucket has it.
    pub(crate) path: MediaPath,
    pub(crate) version: Version,
    /// The number by which the kernel knows it.
    pub(crate) node: u64,
}

impl Source {
    pub(crate) fn id(&self) -> u64 {
        self.path.version_id(&self.version.etag)
    }

    fn header(&self) -> Header {
        Header { path: self.path.clone(), version: self.version.clone(), node: self.node }
    }
}

type Waiters = HashMap<(u64, u32), Arc<tokio::sync::Mutex<()>>>;

/// The cache and the bucket behind it. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    store: Store,
    tasks: Tasks,
    shelf: Arc<Mutex<Shelf>>,
    waiters: Arc<Mutex<Waiters>>,
    fetches: Arc<Semaphore>,
}

/// Where a block is.
enum Found {
    /// In this file, even if the cache lets go of it meanwhile.
    OnDisk(File),
    InMemory(Bytes),
}

impl Cache {
    /// Opens the cache with what earlier processes left in it.
    pub(crate) fn open(
        directory: &Path,
        bytes_max: u64,
        store: Store,
        tasks: Tasks,
    ) -> io::Result<Self> {
        Ok(Self {
            store,
            tasks,
            shelf: Arc::new(Mutex::new(Shelf::open(directory, bytes_max)?)),
            waiters: Arc::default(),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
        })
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is on the disk already; `None` when some of it is not.
    pub(crate) fn read_local(&self, id: u64, offset: u64, length: u64) -> Option<Vec<u8>> {
        let mut shelf = self.shelf();
        let entry = shelf.get(id)?;
        let length = length.min(entry.header.version.size.saturating_sub(offset));
        let is_there = |block| entry.blocks.get(&block).is_some_and(|block| block.is_checked);
        if !blocks(offset, length).all(is_there) {
            return None;
        }
        let file = shelf.file(id).ok()?;
        shelf.touch(id);
        drop(shelf);
        let mut data = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut data, offset).ok()?;
        Some(data)
    }

    /// Reads, from the bucket what is not on the disk.
    pub(crate) async fn read(
        &self,
        source: &Source,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, Fault> {
        let size = source.version.size;
        let length = length.min(size.saturating_sub(offset));
        let mut data = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
        for block in blocks(offset, length) {
            let range = block_range(block, size);
            let start = offset.max(range.start);
            let end = (offset + length).min(range.end);
            let piece = match self.find(source, block).await? {
                Found::OnDisk(file) => read_file(file, start, end - start)
                    .await
                    .map_err(local("read a cached file"))?,
                Found::InMemory(bytes) => cut(&bytes, start - range.start, end - range.start),
            };
            data.extend_from_slice(&piece);
        }
        self.fetch_ahead(source, offset, length);
        Ok(data.freeze())
    }

    /// Returns whether something of a version is on the disk.
    pub(crate) fn has_some(&self, id: u64) -> bool {
        self.shelf().get(id).is_some_and(|entry| !entry.blocks.is_empty())
    }

    /// Takes a file that was stored as a whole version.
    pub(crate) fn adopt(&self, source: &Source, data: &Path) -> io::Result<()> {
        let blocks = super::checksums(&File::open(data)?)?;
        self.shelf().adopt(source.id(), source.header(), data, &blocks)
    }

    async fn find(&self, source: &Source, block: u32) -> Result<Found, Fault> {
        let id = source.id();
        if let Some((file, true)) = self.on_disk(id, block) {
            return Ok(Found::OnDisk(file));
        }
        let turn = Arc::clone(self.waiters().entry((id, block)).or_default());
        let outcome = async {
            let _turn = turn.lock().await;
            match self.on_disk(id, block) {
                Some((file, true)) => return Ok(Found::OnDisk(file)),
                Some((file, false)) if self.check(source, block, &file).await => {
                    return Ok(Found::OnDisk(file));
                }
                Some(_) | None => {}
            }
            self.fetch(source, block).await
        }
        .await;
        drop(turn);
        let mut waiters = self.waiters();
        if waiters.get(&(id, block)).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            waiters.remove(&(id, block));
        }
        outcome
    }

    /// Returns the file that a block is in, and whether it is known to be right.
    fn on_disk(&self, id: u64, block: u32) -> Option<(File, bool)> {
        let mut shelf = self.shelf();
        let is_checked = shelf.get(id)?.blocks.get(&block)?.is_checked;
        let file = shelf.file(id).ok()?;
        shelf.touch(id);
        Some((file, is_checked))
    }

    /// Looks whether a block that an earlier process wrote is what it should be.
    async fn check(&self, source: &Source, block: u32, file: &File) -> bool {
        let range = block_range(block, source.version.size);
        let there = match file.try_clone() {
            Ok(file) => read_file(file, range.start, range.end - range.start).await,
            Err(error) => Err(error),
        };
        let checksum = there.ok().map(|data| crc32fast::hash(&data));
        let mut shelf = self.shelf();
        let Some(entry) = shelf.get_mut(source.id()) else { return false };
        let Some(known) = entry.blocks.get_mut(&block) else { return false };
        if checksum == Some(known.checksum) {
            known.is_checked = true;
            return true;
        }
        tracing::warn!(path = %source.path, block, "A cached block is damaged and is fetched again");
        shelf.drop_block(source.id(), block);
        false
    }

    async fn fetch(&self, source: &Source, block: u32) -> Result<Found, Fault> {
        let _permit = self.fetches.acquire().await;
        let range = block_range(block, source.version.size);
        let length = usize::try_from(range.end - range.start).unwrap_or_default();
        let mut data = BytesMut::with_capacity(length);
        let etag = Some(source.version.etag.as_str());
        let mut response = self.store.get(source.path.as_str(), etag, range.clone()).await?;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if data.len() + chunk.len() <= length => {
                    data.extend_from_slice(&chunk);
                }
                Ok(None) if data.len() == length => break,
                Ok(_) => return Err(self.cut_short("the part has another length").into()),
                Err(error) => {
                    let reason = flotilla_core::error::chain(&error);
                    return Err(self.cut_short(&reason).into());
                }
            }
        }
        let data = data.freeze();
        if let Err(error) = self.keep(source, block, range.start, &data).await {
            tracing::warn!(%error, "What was read from the media bucket cannot be kept on the disk");
        }
        Ok(Found::InMemory(data))
    }

    async fn keep(&self, source: &Source, block: u32, offset: u64, data: &Bytes) -> io::Result<()> {
        let id = source.id();
        let bytes = u64::try_from(data.len()).unwrap_or_default();
        let write = |file: File| {
            let data = data.clone();
            blocking(move || file.write_all_at(&data, offset))
        };
        let prepared = {
            let mut shelf = self.shelf();
            shelf.make_room(bytes).and_then(|()| shelf.enter(id, &source.header()))
        };
        let written = match prepared {
            Ok((file, serial)) => write(file).await.map(|()| serial),
            Err(error) => Err(error),
        };
        let serial = match written {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let (file, serial) = {
                    let mut shelf = self.shelf();
                    shelf.make_much_room().and_then(|()| shelf.enter(id, &source.header()))?
                };
                write(file).await.map(|()| serial)?
            }
            written => written?,
        };
        self.shelf().add_block(id, serial, block, crc32fast::hash(data))
    }

    /// Fetches the next block while somebody reads a long file from its beginning.
    fn fetch_ahead(&self, source: &Source, offset: u64, length: u64) {
        let Some(last) = blocks(offset, length).next_back() else { return };
        let next = last + 1;
        let id = source.id();
        let is_wanted = {
            let shelf = self.shelf();
            let before = last == 0
                || shelf.get(id).is_some_and(|entry| entry.blocks.contains_key(&(last - 1)));
            before
                && !block_range(next, source.version.size).is_empty()
                && shelf.get(id).is_some_and(|entry| !entry.blocks.contains_key(&next))
        };
        // Nobody waits for it, so it must not take the place of what somebody waits for.
        if is_wanted && self.fetches.available_permits() > FETCHES_MAX / 2 {
            let (cache, source) = (self.clone(), source.clone());
            self.tasks.spawn("media.fetch_ahead", async move {
                if let Err(error) = cache.find(&source, next).await {
                    tracing::debug!(%error, "Fetching ahead failed");
                }
            });
        }
    }

    fn cut_short(&self, reason: &str) -> StoreError {
        self.store.cut_short(reason)
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_file(file: File, offset: u64, length: u64) -> io::Result<Bytes> {
    blocking(move || {
        let mut data = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut data, offset).map(|()| Bytes::from(data))
    })
    .await
}

fn cut(bytes: &Bytes, start: u64, end: u64) -> Bytes {
    let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(index(start)..index(end))
}

/// Does what may wait for the disk where that holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

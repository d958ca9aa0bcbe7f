//! Directories that are open: what was listed is told in pieces, and stays the same meanwhile.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{FileType, INodeNo, ReplyDirectory};

use crate::nodes::Kind;
use crate::path::MediaPath;
use crate::volume::{Listing, Volume};

/// How many directories may be open at once; those beyond are listed anew for each piece.
const LISTINGS_MAX: usize = 10_000;

/// The listings of open directories, by the number of the open directory. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Listings {
    tables: Arc<Mutex<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    last: u64,
    open: HashMap<u64, Arc<Listing>>,
}

impl Listings {
    /// Returns the number of a directory that is being opened.
    pub(super) fn open(&self) -> u64 {
        let mut tables = self.lock();
        tables.last += 1;
        tables.last
    }

    pub(super) fn get(&self, handle: u64) -> Option<Arc<Listing>> {
        self.lock().open.get(&handle).cloned()
    }

    pub(super) fn remember(&self, handle: u64, listing: &Arc<Listing>) {
        let mut tables = self.lock();
        if tables.open.len() < LISTINGS_MAX {
            tables.open.insert(handle, Arc::clone(listing));
        }
    }

    pub(super) fn close(&self, handle: u64) {
        self.lock().open.remove(&handle);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the kernel entries from a place on, as many as it has room for.
pub(super) fn fill(
    volume: &Volume,
    directory: &MediaPath,
    listing: &Listing,
    offset: u64,
    mut reply: ReplyDirectory,
) {
    let dots = [(".", Kind::Directory), ("..", Kind::Directory)];
    let named = listing.entries.iter().map(|(name, kind)| (name.as_str(), *kind));
    let entries = dots.into_iter().chain(named).zip(1_u64..);
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    for ((name, kind), next) in entries.skip(skipped) {
        let id = entry_id(volume, directory, name, kind);
        let kind = match kind {
            Kind::Directory => FileType::Directory,
            Kind::File => FileType::RegularFile,
        };
        if reply.add(INodeNo(id), next, kind, name) {
            break;
        }
    }
    reply.ok();
}

fn entry_id(volume: &Volume, directory: &MediaPath, name: &str, kind: Kind) -> u64 {
    match name {
        "." => directory.directory_id(),
        ".." => directory.parent().directory_id(),
        _ => match directory.child(OsStr::new(name), 0) {
            Ok(path) => match (volume.nodes().find(&path), kind) {
                (Some(node), _) => node.id,
                (None, Kind::Directory) => path.directory_id(),
                (None, Kind::File) => path.version_id(""),
            },
            Err(_) => directory.directory_id(),
        },
    }
}

//! What is in a directory.

use std::collections::BTreeMap;

use fuser::Errno;

use super::Volume;
use crate::fault::Fault;
use crate::nodes::Kind;
use crate::path::{MediaPath, RESERVED};
use crate::store::Depth;

/// How many entries a directory may have.
pub(super) const ENTRIES_MAX: usize = 1_000_000;

/// The entries of a directory as they were at one moment, in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<(String, Kind)>,
}

impl Volume {
    /// Lists a directory: what is in the bucket, and what is being written here.
    pub(crate) async fn list(&self, directory: &MediaPath) -> Result<Listing, Fault> {
        let inside = directory.inside();
        let mut entries: BTreeMap<String, Kind> = BTreeMap::new();
        let mut next = None;
        loop {
            let page = self.store().list(&inside, Depth::Entries, 0, next.as_deref()).await?;
            for key in &page.directories {
                let name = key.strip_prefix(&inside).and_then(|name| name.strip_suffix('/'));
                insert(&mut entries, directory, name, Kind::Directory);
            }
            for object in &page.objects {
                // As in a lookup, a file hides a directory of the same name.
                let name = object.key.strip_prefix(&inside).filter(|name| !name.is_empty());
                insert(&mut entries, directory, name, Kind::File);
            }
            if entries.len() > ENTRIES_MAX {
                return Err(Errno::EOVERFLOW.into());
            }
            match page.next {
                Some(token) => next = Some(token),
                None => break,
            }
        }
        for node in self.nodes().dirty_inside(directory) {
            let Some(path) = node.path().filter(|path| path.parent() == *directory) else {
                continue;
            };
            insert(&mut entries, directory, path.as_str().strip_prefix(&inside), Kind::File);
        }
        Ok(Listing { entries: entries.into_iter().collect() })
    }
}

fn insert(
    entries: &mut BTreeMap<String, Kind>,
    directory: &MediaPath,
    name: Option<&str>,
    kind: Kind,
) {
    // Keys that no path leads to are not shown.
    let Some(name) = name.filter(|name| MediaPath::from_relative_key(name).is_some()) else {
        return;
    };
    if name.contains('/') || (directory.is_root() && name == RESERVED) {
        return;
    }
    match kind {
        Kind::File => {
            entries.insert(name.to_owned(), kind);
        }
        Kind::Directory => {
            entries.entry(name.to_owned()).or_insert(kind);
        }
    }
}

//! Finding out what a name is.

use std::sync::Arc;
use std::time::SystemTime;

use fuser::Errno;

use super::Volume;
use crate::fault::Fault;
use crate::nodes::{Kind, Node};
use crate::path::MediaPath;
use crate::store::{Object, StoreError};
use crate::version::Version;

/// What the bucket says of a name.
enum Found {
    File(Object),
    Directory(Option<Object>),
    Nothing,
}

impl Volume {
    /// Returns the node of a name.
    pub(crate) async fn lookup(&self, path: &MediaPath) -> Result<Arc<Node>, Fault> {
        let known = self.nodes().find(path);
        if let Some(node) = known.as_ref().filter(|node| node.is_dirty()) {
            return Ok(Arc::clone(node));
        }
        let is_directory = known.as_ref().is_some_and(|node| node.kind == Kind::Directory);
        match self.ask(path, is_directory).await {
            Ok(Found::File(object)) => Ok(self.nodes().enter_version(path, Version::of(&object))),
            Ok(Found::Directory(marker)) => Ok(self.enter_directory(path, marker.as_ref())),
            Ok(Found::Nothing) => {
                // It may have been created here while we asked.
                match self.nodes().find(path).filter(|node| node.is_dirty()) {
                    Some(node) => Ok(node),
                    None => {
                        self.nodes().remove(path);
                        Err(Errno::ENOENT.into())
                    }
                }
            }
            Err(error) if error.is_outage() => {
                known.or_else(|| self.remembered(path)).ok_or_else(|| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns what the cache remembers of a name; for while the bucket is down.
    fn remembered(&self, path: &MediaPath) -> Option<Arc<Node>> {
        let shelf = self.cache().shelf();
        if let Some(entry) = shelf.find(path) {
            let version = entry.header.version.clone();
            return Some(self.nodes().enter_version(path, version));
        }
        shelf
            .has_inside(path)
            .then(|| self.nodes().enter_directory(path, None, SystemTime::UNIX_EPOCH))
    }

    async fn ask(&self, path: &MediaPath, is_directory: bool) -> Result<Found, StoreError> {
        // A file's key is asked for first, unless it was a directory a moment ago.
        if !is_directory {
            if let Some(object) = self.store().head(path.as_str()).await? {
                return Ok(Found::File(object));
            }
            return self.ask_directory(path).await;
        }
        match self.ask_directory(path).await? {
            Found::Nothing => {
                Ok(self.store().head(path.as_str()).await?.map_or(Found::Nothing, Found::File))
            }
            found => Ok(found),
        }
    }

    async fn ask_directory(&self, path: &MediaPath) -> Result<Found, StoreError> {
        let inside = path.inside();
        let page = self.store().list(&inside, crate::store::Depth::Everything, 1, None).await?;
        let Some(first) = page.objects.first() else { return Ok(Found::Nothing) };
        // The marker is the first of all keys that begin with it.
        if first.key == inside {
            self.remember_marker(path);
            return Ok(Found::Directory(self.store().head(&inside).await?));
        }
        Ok(Found::Directory(None))
    }

    pub(super) fn enter_directory(&self, path: &MediaPath, marker: Option<&Object>) -> Arc<Node> {
        let version = marker.map(Version::of);
        let modified = version.as_ref().map_or(SystemTime::UNIX_EPOCH, |version| version.modified);
        self.nodes().enter_directory(path, version.and_then(|version| version.mode), modified)
    }
}

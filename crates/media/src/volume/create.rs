//! Making files and directories.

use std::sync::Arc;

use bytes::Bytes;
use fuser::Errno;

use super::Volume;
use crate::fault::{Fault, local};
use crate::nodes::Node;
use crate::path::MediaPath;
use crate::staged::Form;
use crate::store::{Appends, Metadata, StoreError, Wanted};
use crate::version::{Version, content_type};

impl Volume {
    /// Makes a file of a name that no instance has, or fails with `EEXIST`; of all who try, on
    /// whatever instance, one succeeds.
    ///
    /// It is not open.
    pub(crate) async fn create_exclusively(
        &self,
        path: &MediaPath,
        mode: Option<u16>,
    ) -> Result<Arc<Node>, Fault> {
        if self.nodes().find(path).is_some_and(|node| node.is_dirty()) {
            return Err(Errno::EEXIST.into());
        }
        let modified = super::now();
        let metadata = Metadata { modified: Some(modified), mode, ..Metadata::default() };
        let (key, kind) = (path.as_str(), content_type(path.as_str()));
        self.look_before_creating(path).await?;
        let stored = self.store().put(key, Bytes::new(), &metadata, kind, &Wanted::Absent).await;
        match stored {
            Ok(etag) => {
                let version =
                    Version { etag, size: 0, modified, mode, appends: Appends::default() };
                // Not the node of an earlier file of this name and content.
                self.nodes().remove(path);
                Ok(self.nodes().enter_version(path, version))
            }
            Err(StoreError::Changed(_)) => Err(Errno::EEXIST.into()),
            Err(error) => {
                let fault = Fault::from(error);
                self.complain("create", path, &fault);
                Err(fault)
            }
        }
    }

    /// Makes and opens a file that is stored when it is closed; other instances see it then.
    pub(crate) fn create_file(
        &self,
        path: &MediaPath,
        mode: Option<u16>,
    ) -> Result<Arc<Node>, Fault> {
        if let Some(node) = self.nodes().find(path).filter(|node| node.is_dirty()) {
            self.hold(&node, true);
            return Ok(node);
        }
        let wish = getrandom::u64().unwrap_or_default();
        let node = self.nodes().enter_new(Some(path), path.version_id(&format!("new {wish}")));
        // For writing, whatever it was opened for: it has yet to be stored.
        self.hold(&node, true);
        let staged = self.stage(&node, false)?;
        staged.rebase(None);
        staged.set_attributes(None, Some(mode));
        debug_assert_eq!(staged.progress().form, Form::Tail(None), "nothing is stored yet");
        staged.change(super::now());
        self.note(&node, &staged)?;
        Ok(node)
    }

    /// Makes a directory.
    pub(crate) async fn make_directory(
        &self,
        path: &MediaPath,
        mode: Option<u16>,
    ) -> Result<Arc<Node>, Fault> {
        let modified = super::now();
        let metadata = Metadata { modified: Some(modified), mode, ..Metadata::default() };
        if self.store().has_any(&path.inside()).await? {
            return Err(Errno::EEXIST.into());
        }
        let kind = "application/x-directory";
        match self.store().put(&path.inside(), Bytes::new(), &metadata, kind, &Wanted::Absent).await
        {
            Ok(_) => {
                self.remember_marker(path);
                Ok(self.nodes().enter_directory(path, mode, modified))
            }
            Err(StoreError::Changed(_)) => Err(Errno::EEXIST.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes sure that a directory is there when the last file in it is gone.
    pub(super) async fn ensure_marker(&self, directory: &MediaPath) -> Result<(), Fault> {
        if directory.is_root() || self.has_marker(directory) {
            return Ok(());
        }
        let metadata = Metadata { modified: Some(super::now()), ..Metadata::default() };
        let kind = "application/x-directory";
        let key = directory.inside();
        match self.store().put(&key, Bytes::new(), &metadata, kind, &Wanted::Absent).await {
            Ok(_) | Err(StoreError::Changed(_)) => {
                self.remember_marker(directory);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn remember_marker(&self, directory: &MediaPath) {
        self.markers().insert(directory.clone());
    }

    pub(super) fn forget_markers(&self, directory: &MediaPath) {
        let inside = directory.inside();
        self.markers().retain(|known| known != directory && !known.as_str().starts_with(&inside));
    }

    fn has_marker(&self, directory: &MediaPath) -> bool {
        self.markers().contains(directory)
    }

    fn markers(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<MediaPath>> {
        self.shared.markers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A server that ignores conditions would let everybody win.
    async fn look_before_creating(&self, path: &MediaPath) -> Result<(), Fault> {
        let is_careful = self.shared.abilities.get().is_none_or(|keeps| keeps.keeps_first);
        if !is_careful && self.store().head(path.as_str()).await?.is_some() {
            return Err(Errno::EEXIST.into());
        }
        Ok(())
    }

    /// Returns the permission bits to remember; `None` when they are the usual ones.
    pub(crate) fn unusual_mode(&self, mode: u32, usual: u16) -> Option<u16> {
        u16::try_from(mode & 0o7777).ok().filter(|mode| *mode != usual)
    }

    /// Frees the disk of what belongs to nobody.
    pub(super) fn discard_local(&self, node: &Node) -> Result<(), Fault> {
        let staged = node.lock().staged.take();
        if let Some(staged) = staged {
            staged.clear().map_err(local("empty a file"))?;
            staged.discard();
        }
        Ok(())
    }
}

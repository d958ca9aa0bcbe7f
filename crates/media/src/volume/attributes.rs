//! Changing what is not content: times, permission bits, owners.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::Errno;

use super::Volume;
use crate::fault::Fault;
use crate::nodes::{Kind, Node};
use crate::store::{CopyMetadata, Metadata, StoreError, Wanted};
use crate::version::{Version, content_type};

/// How often a change is tried again because the object changes at the same time.
const ATTEMPTS_MAX: u32 = 5;

impl Volume {
    /// Looks whether a file may be given to somebody: only to whom all of them belong.
    pub(crate) fn check_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Fault> {
        let owner = self.options().owner;
        let is_same =
            uid.is_none_or(|uid| uid == owner.uid) && gid.is_none_or(|gid| gid == owner.gid);
        if is_same { Ok(()) } else { Err(Errno::EPERM.into()) }
    }

    /// Sets the time and the permission bits; `None` leaves them.
    pub(crate) async fn set_attributes(
        &self,
        node: &Arc<Node>,
        modified: Option<SystemTime>,
        mode: Option<u32>,
    ) -> Result<(), Fault> {
        if modified.is_none() && mode.is_none() {
            return Ok(());
        }
        let owner = self.options().owner;
        if node.kind == Kind::Directory {
            let mode = mode.map(|mode| self.unusual_mode(mode, owner.directory_mode));
            return self.set_directory_attributes(node, modified, mode).await;
        }
        let mode = mode.map(|mode| self.unusual_mode(mode, owner.file_mode));
        if self.set_written_attributes(node, modified, mode).await? {
            // Without a writer there is no close that stores it.
            if node.lock().writers == 0 {
                self.flush(node).await?;
                self.settle(node).await;
            }
            return Ok(());
        }
        let is_so_already = node.lock().stored.as_ref().is_some_and(|stored| {
            modified.is_none_or(|modified| modified == stored.modified)
                && mode.is_none_or(|mode| mode == stored.mode)
        });
        if is_so_already {
            return Ok(());
        }
        let _content = node.content.write().await;
        self.set_stored_attributes(node, modified, mode).await
    }

    /// Sets them for when the content is stored; returns whether there is such content.
    async fn set_written_attributes(
        &self,
        node: &Arc<Node>,
        modified: Option<SystemTime>,
        mode: Option<Option<u16>>,
    ) -> Result<bool, Fault> {
        let _content = node.content.read().await;
        let Some(staged) = node.staged() else { return Ok(false) };
        staged.set_attributes(modified, mode);
        self.note(node, &staged)?;
        Ok(true)
    }

    /// An object's metadata is changed by copying it onto itself.
    async fn set_stored_attributes(
        &self,
        node: &Arc<Node>,
        modified: Option<SystemTime>,
        mode: Option<Option<u16>>,
    ) -> Result<(), Fault> {
        let Some(path) = node.path() else { return Ok(()) };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let object = self
                .store()
                .head(path.as_str())
                .await?
                .ok_or_else(|| StoreError::NotFound(path.to_string()))?;
            let version = Version::of(&object);
            let wanted = Version {
                modified: modified.unwrap_or(version.modified),
                mode: mode.unwrap_or(version.mode),
                ..version.clone()
            };
            if wanted == version {
                return Ok(());
            }
            // The content stays, and so does what the object tells of it.
            let metadata = Metadata {
                modified: Some(wanted.modified),
                mode: wanted.mode,
                ..object.metadata.clone()
            };
            let directive = CopyMetadata::New(metadata, content_type(path.as_str()));
            match self.copy_object(path.as_str(), &object, path.as_str(), &directive).await {
                Ok(etag) => {
                    node.lock().stored = Some(Version { etag, ..wanted });
                    self.nodes().make_current(node);
                    return Ok(());
                }
                Err(StoreError::Changed(_)) if attempt < ATTEMPTS_MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn set_directory_attributes(
        &self,
        node: &Arc<Node>,
        modified: Option<SystemTime>,
        mode: Option<Option<u16>>,
    ) -> Result<(), Fault> {
        let (path, modified, mode) = {
            let state = node.lock();
            let Some(path) = state.path.clone() else { return Ok(()) };
            (path, modified.unwrap_or(state.modified), mode.unwrap_or(state.mode))
        };
        // The root has no object; what is set of it is forgotten.
        if !path.is_root() {
            let metadata = Metadata { modified: Some(modified), mode, ..Metadata::default() };
            let kind = "application/x-directory";
            let key = path.inside();
            self.store().put(&key, Bytes::new(), &metadata, kind, &Wanted::Anything).await?;
            self.remember_marker(&path);
        }
        let mut state = node.lock();
        (state.modified, state.mode) = (modified, mode);
        Ok(())
    }
}

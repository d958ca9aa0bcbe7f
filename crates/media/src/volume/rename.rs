//! Giving files and directories another name: copies within the bucket first, then removals, so
//! that whatever happens in between, everything is there under the old name or the new one.

use std::sync::Arc;

use bytes::Bytes;
use fuser::Errno;
use futures_util::stream::{self, TryStreamExt};

use super::Volume;
use crate::fault::Fault;
use crate::nodes::{Kind, Node};
use crate::path::MediaPath;
use crate::store::{
    CopyMetadata, Depth, Metadata, Object, PART_BYTES_MAX, Part, StoreError, Wanted,
};
use crate::version::{Version, content_type};

/// How many objects of a directory are copied or removed at once.
const OBJECTS_AT_ONCE: usize = 16;
/// How often a copy begins again because its source changes.
const COPIES_MAX: u32 = 5;

impl Volume {
    /// Renames a file or a directory; `is_careful` when nothing may be replaced.
    pub(crate) async fn rename(
        &self,
        from: &MediaPath,
        to: &MediaPath,
        is_careful: bool,
    ) -> Result<(), Fault> {
        if from == to {
            return Ok(());
        }
        let node = self.lookup(from).await?;
        let there = match self.lookup(to).await {
            Ok(there) => Some(there),
            Err(Fault::Plain(errno)) if errno.code() == nix::libc::ENOENT => None,
            Err(fault) => return Err(fault),
        };
        if is_careful && there.is_some() {
            return Err(Errno::EEXIST.into());
        }
        match (node.kind, there.as_ref().map(|there| there.kind)) {
            (Kind::Directory, Some(Kind::File)) => Err(Errno::ENOTDIR.into()),
            (Kind::File, Some(Kind::Directory)) => Err(Errno::EISDIR.into()),
            (Kind::Directory, _) => self.rename_directory(from, to, there.is_some()).await,
            (Kind::File, _) => self.rename_file(&node, from, to, there.as_ref()).await,
        }
    }

    async fn rename_file(
        &self,
        node: &Arc<Node>,
        from: &MediaPath,
        to: &MediaPath,
        there: Option<&Arc<Node>>,
    ) -> Result<(), Fault> {
        let _content = node.content.write().await;
        if let Some(there) = there.filter(|there| there.lock().stored.is_some()) {
            let _replaced = there.content.write().await;
            self.keep_for_open_files(there, to).await?;
        }
        let is_stored = node.lock().stored.is_some();
        let staged = node.staged().filter(|staged| staged.is_dirty());
        let copied = match staged {
            // It was never stored and is open: it is stored under its new name when it is closed.
            Some(_) if !is_stored => None,
            Some(staged) => {
                self.store_staged(node, &staged, from).await?;
                Some(self.copy_file(from, to).await?)
            }
            None => Some(self.copy_file(from, to).await?),
        };
        self.detach(to)?;
        self.nodes().rename(from, to);
        if let Some(version) = copied {
            let staged = {
                let mut state = node.lock();
                state.stored = Some(version.clone());
                state.staged.clone()
            };
            if let Some(staged) = staged {
                staged.moved(&version);
            }
            self.ensure_marker(&from.parent()).await?;
            self.store().delete(from.as_str()).await?;
        }
        if let Some(staged) = node.staged() {
            self.note(node, &staged)?;
        }
        self.stored_file(from);
        self.stored_file(to);
        Ok(())
    }

    async fn copy_file(&self, from: &MediaPath, to: &MediaPath) -> Result<Version, Fault> {
        let mut copies = 0;
        loop {
            copies += 1;
            let object = self
                .store()
                .head(from.as_str())
                .await?
                .ok_or_else(|| StoreError::NotFound(from.to_string()))?;
            match self.copy_object(from.as_str(), &object, to.as_str(), &CopyMetadata::Same).await {
                Ok(etag) => return Ok(Version { etag, ..Version::of(&object) }),
                Err(StoreError::Changed(_)) if copies < COPIES_MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Copies an object of any size.
    pub(super) async fn copy_object(
        &self,
        from: &str,
        object: &Object,
        to: &str,
        metadata: &CopyMetadata,
    ) -> Result<String, StoreError> {
        if object.size <= PART_BYTES_MAX {
            return self.store().copy(from, Some(&object.etag), to, metadata).await;
        }
        let kept: Metadata = match metadata {
            CopyMetadata::Same => object.metadata.clone(),
            CopyMetadata::New(metadata, _) => metadata.clone(),
        };
        let upload = self.store().begin_upload(to, &kept, content_type(to)).await?;
        let mut parts: Vec<Part> = Vec::new();
        let mut offset = 0;
        let mut outcome = Ok(());
        while offset < object.size && outcome.is_ok() {
            let end = (offset + PART_BYTES_MAX / 2).min(object.size);
            let number = u32::try_from(parts.len() + 1).unwrap_or(u32::MAX);
            outcome = upload
                .copy(number, from, &object.etag, offset..end)
                .await
                .map(|part| parts.push(part));
            offset = end;
        }
        let outcome = match outcome {
            Ok(()) => upload.complete(parts, &Wanted::Anything).await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            upload.abort().await;
        }
        outcome
    }

    async fn rename_directory(
        &self,
        from: &MediaPath,
        to: &MediaPath,
        is_there: bool,
    ) -> Result<(), Fault> {
        if to.moved(from, from).is_some() {
            return Err(Errno::EINVAL.into());
        }
        if is_there && !self.is_empty(to).await? {
            return Err(Errno::ENOTEMPTY.into());
        }
        for node in self.nodes().dirty_inside(from) {
            self.flush(&node).await?;
        }
        self.ensure_marker(from).await?;
        let (source, target) = (from.inside(), to.inside());
        // The marker is the first of them, so the new directory is there before what is in it.
        let keys = self.all_keys(&source).await?;
        let copies = keys.iter().map(|key| {
            let rest = key.strip_prefix(&source).unwrap_or_default();
            (key.clone(), format!("{target}{rest}"))
        });
        stream::iter(copies.map(Ok::<_, Fault>).collect::<Vec<_>>())
            .try_for_each_concurrent(OBJECTS_AT_ONCE, |(from, to)| async move {
                self.copy_key(&from, &to).await
            })
            .await?;
        self.nodes().rename(from, to);
        self.forget_markers(from);
        self.remember_marker(to);
        self.ensure_marker(&from.parent()).await?;
        // A directory's marker goes after all that is in it: some servers keep it otherwise.
        let (markers, rest): (Vec<String>, Vec<String>) =
            keys.into_iter().partition(|key| key.ends_with('/'));
        stream::iter(rest.into_iter().map(Ok::<_, Fault>))
            .try_for_each_concurrent(OBJECTS_AT_ONCE, |key| async move {
                Ok(self.store().delete(&key).await?)
            })
            .await?;
        for marker in markers.iter().rev() {
            self.store().delete(marker).await?;
        }
        self.deny_changed();
        Ok(())
    }

    async fn copy_key(&self, from: &str, to: &str) -> Result<(), Fault> {
        match self.store().head(from).await? {
            // Somebody else has removed it since it was listed.
            None => Ok(()),
            // Markers have no content, and some servers have directories in their place.
            Some(object) if from.ends_with('/') => {
                let (metadata, kind) = (object.metadata, "application/x-directory");
                self.store().put(to, Bytes::new(), &metadata, kind, &Wanted::Anything).await?;
                Ok(())
            }
            Some(object) => {
                self.copy_object(from, &object, to, &CopyMetadata::Same).await?;
                Ok(())
            }
        }
    }

    /// Lists all keys that begin with this, in their order.
    pub(super) async fn all_keys(&self, inside: &str) -> Result<Vec<String>, Fault> {
        let mut keys = Vec::new();
        let mut next = None;
        loop {
            let page = self.store().list(inside, Depth::Everything, 0, next.as_deref()).await?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            if keys.len() > super::directory::ENTRIES_MAX {
                return Err(Errno::EOVERFLOW.into());
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(keys),
            }
        }
    }
}

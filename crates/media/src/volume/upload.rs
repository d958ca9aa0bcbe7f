//! Bringing what was written to the bucket, as one object that is there as a whole or not at all.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Volume;
use super::content::length_of;
use crate::cache::Source;
use crate::fault::Fault;
use crate::nodes::Node;
use crate::path::MediaPath;
use crate::staged::{Form, Progress, Staged, View};
use crate::store::{Metadata, PART_BYTES_MIN, StoreError, Wanted};
use crate::upload::Content;
use crate::version::Version;

/// How often a tail is put after yet another version before that is given up.
const MERGES_MAX: u32 = 64;

/// What is stored: the beginning of an object that is there, and then the local file.
struct Written {
    /// The version that is the beginning, and its bytes when they must be sent again.
    base: Option<(Version, Option<Bytes>)>,
    view: View,
}

impl Volume {
    /// Stores what was written to a file; returns when every instance can read it.
    pub(crate) async fn flush(&self, node: &Arc<Node>) -> Result<(), Fault> {
        let Some(staged) = node.staged().filter(|staged| staged.is_dirty()) else { return Ok(()) };
        // Nobody changes the content while it is read.
        let _content = node.content.write().await;
        // Not a name that it has had a moment ago.
        let Some(path) = node.path().filter(|_| staged.is_dirty()) else { return Ok(()) };
        self.store_staged(node, &staged, &path).await
    }

    /// Stores the content under a name. The caller holds the content's lock.
    pub(super) async fn store_staged(
        &self,
        node: &Arc<Node>,
        staged: &Arc<Staged>,
        path: &MediaPath,
    ) -> Result<(), Fault> {
        let mut merges = 0;
        let version = loop {
            let progress = staged.progress();
            match self.put_content(node, staged, path, &progress).await {
                Ok(version) => {
                    staged.stored(progress.changes, &version);
                    break version;
                }
                Err(Fault::Store(StoreError::Changed(_) | StoreError::NotFound(_)))
                    if matches!(progress.form, Form::Tail(_)) && merges < MERGES_MAX =>
                {
                    merges += 1;
                    let current = self.store().head(path.as_str()).await?;
                    let current = current.as_ref().map(Version::of);
                    staged.rebase(current.clone());
                    tracing::debug!(%path, merges, "A media file is not what was appended to");
                    if let Some(version) = current.filter(|_| !staged.is_dirty()) {
                        break version;
                    }
                    self.note(node, staged)?;
                }
                Err(fault) => {
                    self.complain("store", path, &fault);
                    return Err(fault);
                }
            }
        };
        node.lock().stored = Some(version);
        self.nodes().make_current(node);
        self.note(node, staged)?;
        if merges > 0 {
            self.invalidate(node.id);
        }
        self.stored_file(path);
        Ok(())
    }

    async fn put_content(
        &self,
        node: &Arc<Node>,
        staged: &Arc<Staged>,
        path: &MediaPath,
        progress: &Progress,
    ) -> Result<Version, Fault> {
        let (modified, mode, appends) = (progress.modified, progress.mode, progress.appends());
        let metadata = Metadata {
            modified: Some(modified),
            mode,
            appends: appends.clone(),
            ..Metadata::default()
        };
        let view = staged.view();
        let wanted = match &view.form {
            Form::Whole(_) => Wanted::Anything,
            Form::Tail(None) => Wanted::Absent,
            Form::Tail(Some(base)) => Wanted::Version(base.etag.clone()),
        };
        let base = match &view.form {
            Form::Tail(Some(base)) if base.size > 0 => {
                let is_sent = base.size < PART_BYTES_MIN;
                let source = Source { path: path.clone(), version: base.clone(), node: node.id };
                let bytes = if is_sent {
                    Some(self.cache().read(&source, 0, base.size).await?)
                } else {
                    None
                };
                Some((base.clone(), bytes))
            }
            _ => None,
        };
        self.look_first(path, &wanted).await?;
        let content = Arc::new(Written { base, view });
        let size = content.size();
        let etag = self.shared.uploader.put(content, path, &metadata, &wanted).await?;
        Ok(Version { etag, size, modified, mode, appends })
    }

    /// Looks whether a condition holds where the server does not.
    async fn look_first(&self, path: &MediaPath, wanted: &Wanted) -> Result<(), Fault> {
        let keeps = self.shared.abilities.get();
        let is_server_careful = match wanted {
            Wanted::Anything => true,
            Wanted::Absent => keeps.is_none_or(|keeps| keeps.keeps_first),
            Wanted::Version(_) => keeps.is_none_or(|keeps| keeps.keeps_version),
        };
        if is_server_careful {
            return Ok(());
        }
        let there = self.store().head(path.as_str()).await?.map(|object| object.etag);
        let holds = match wanted {
            Wanted::Version(etag) => there.as_ref() == Some(etag),
            Wanted::Anything => true,
            Wanted::Absent => there.is_none(),
        };
        if holds { Ok(()) } else { Err(StoreError::Changed(path.to_string()).into()) }
    }
}

impl Content for Written {
    fn size(&self) -> u64 {
        self.base.as_ref().map_or(0, |(base, _)| base.size) + self.view.length
    }

    fn copied(&self) -> (u64, &str) {
        match &self.base {
            Some((base, None)) => (base.size, &base.etag),
            _ => (0, ""),
        }
    }

    fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let base_size = self.base.as_ref().map_or(0, |(base, _)| base.size);
        let mut data = BytesMut::new();
        if let Some((_, Some(bytes))) = &self.base
            && offset < base_size
        {
            let index =
                |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            data.extend_from_slice(&bytes.slice(index(offset)..index(offset + length)));
        }
        let start = offset.max(base_size);
        if offset + length > start {
            data.extend_from_slice(&self.view.read(start - base_size, offset + length - start)?);
        }
        if length_of(&data) == length {
            Ok(data.freeze())
        } else {
            // Storing it would store something else than was written.
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

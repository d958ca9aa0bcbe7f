//! Reading and changing the content of files.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Volume;
use crate::cache::{BLOCK_BYTES, Source, blocking};
use crate::fault::{Fault, local, stale};
use crate::nodes::Node;
use crate::staged::{Form, Staged, View};

/// The largest file, in bytes: the largest object.
const FILE_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;

/// A change of a file's content.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// Bytes at a place.
    Write(&'a [u8], u64),
    /// Bytes at the end, where the kernel believes that to be, and whether it asks again.
    Append(&'a [u8], u64, bool),
    /// Another length.
    Length(u64),
}

impl Volume {
    /// Reads what is on this machine; `None` when the bucket must be asked.
    pub(crate) fn read_local(&self, node: &Node, offset: u64, length: u64) -> Option<Vec<u8>> {
        if let Some(staged) = node.staged() {
            let view = staged.view();
            let data = (view.base_size() == 0).then(|| view.read(offset, length).ok())?;
            return data.filter(|_| staged.view().form == view.form);
        }
        let source = Self::source(node)?;
        if source.version.size <= offset {
            return Some(Vec::new());
        }
        self.cache().read_local(source.id(), offset, length)
    }

    /// Reads from wherever the content is.
    pub(crate) async fn read(
        &self,
        node: &Arc<Node>,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, Fault> {
        loop {
            let Some(staged) = node.staged() else {
                let source = Self::source(node).ok_or_else(stale)?;
                return self.cache().read(&source, offset, length).await;
            };
            let view = staged.view();
            let data = self.read_staged(node, &view, offset, length).await?;
            // While it was read, the tail may have been stored, so that it is a part of the base now
            // and may be gone from the disk.
            if staged.view().form == view.form {
                return Ok(data);
            }
        }
    }

    async fn read_staged(
        &self,
        node: &Node,
        view: &View,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, Fault> {
        let base_size = view.base_size();
        let end = offset + length;
        let mut data = BytesMut::new();
        if let Form::Tail(Some(base)) = &view.form
            && offset < base_size
        {
            let path = node.path().ok_or_else(stale)?;
            let source = Source { path, version: base.clone(), node: node.id };
            let wanted = length.min(base_size - offset);
            data.extend_from_slice(&self.cache().read(&source, offset, wanted).await?);
        }
        if end > base_size {
            let start = offset.max(base_size);
            let tail = view.read(start - base_size, end - start);
            data.extend_from_slice(&tail.map_err(local("read what is being written"))?);
        }
        Ok(data.freeze())
    }

    /// Changes what is on this machine; `None` when something must be waited for.
    pub(crate) fn change_local(
        &self,
        node: &Arc<Node>,
        change: &Change<'_>,
    ) -> Option<Result<(), Fault>> {
        let _content = node.content.try_read().ok()?;
        let staged = match self.stage(node, false) {
            Ok(staged) => staged,
            Err(fault) => return Some(Err(fault)),
        };
        if !matches!(change, Change::Append(..)) {
            match staged.progress().form {
                Form::Whole(_) => {}
                Form::Tail(base) if base.as_ref().is_none_or(|base| base.size == 0) => {
                    staged.become_whole();
                    if let Err(fault) = self.note(node, &staged) {
                        return Some(Err(fault));
                    }
                }
                Form::Tail(_) => return None,
            }
        }
        Some(self.apply(node, &staged, change))
    }

    /// Changes the content, after a download when that is needed for it.
    pub(crate) async fn change(&self, node: &Arc<Node>, change: &Change<'_>) -> Result<(), Fault> {
        let staged = {
            let _content = node.content.read().await;
            self.stage(node, matches!(change, Change::Length(0)))?
        };
        match change {
            Change::Append(..) => {
                let _content = node.content.read().await;
                self.apply(node, &staged, change)
            }
            Change::Length(0) => {
                let _content = node.content.write().await;
                staged.clear().map_err(local("empty a file"))?;
                self.note(node, &staged)?;
                self.apply(node, &staged, change)
            }
            _ => {
                let _content = node.content.write().await;
                self.make_whole(node, &staged).await?;
                self.apply(node, &staged, change)
            }
        }
    }

    fn apply(
        &self,
        node: &Arc<Node>,
        staged: &Arc<Staged>,
        change: &Change<'_>,
    ) -> Result<(), Fault> {
        let end = match change {
            Change::Write(data, offset) => offset.saturating_add(length_of(data)),
            Change::Append(data, ..) => staged.size().saturating_add(length_of(data)),
            Change::Length(length) => *length,
        };
        if end > FILE_BYTES_MAX {
            return Err(fuser::Errno::EFBIG.into());
        }
        // Counted before it is done: a daemon that is killed between the two stores once too often.
        if staged.change(super::now()) {
            self.note(node, staged)?;
        }
        self.with_room(|| match change {
            Change::Write(data, offset) => staged.write_at(data, *offset),
            Change::Append(data, offset, is_resent) => staged.append(data, *offset, *is_resent),
            Change::Length(length) => staged.set_length(*length),
        })
        .map_err(local("write a file"))
    }

    /// Brings what comes before a tail to the local file.
    pub(super) async fn make_whole(
        &self,
        node: &Arc<Node>,
        staged: &Arc<Staged>,
    ) -> Result<(), Fault> {
        let base = match staged.progress().form {
            Form::Whole(_) => return Ok(()),
            Form::Tail(base) => base.filter(|base| base.size > 0),
        };
        let Some(base) = base else {
            staged.become_whole();
            return self.note(node, staged);
        };
        let path = node.path().ok_or_else(stale)?;
        let size = base.size;
        let source = Source { path, version: base, node: node.id };
        let whole = Arc::new(staged.open_replacement().map_err(local("make a file for changes"))?);
        let mut offset = 0;
        while offset < size {
            let piece = self.cache().read(&source, offset, BLOCK_BYTES.min(size - offset)).await?;
            let (file, bytes) = (Arc::clone(&whole), piece.clone());
            blocking(move || file.write_all_at(&bytes, offset))
                .await
                .map_err(local("copy a file for changes"))?;
            offset += length_of(&piece);
        }
        let (from, to) = (Arc::clone(staged), Arc::clone(&whole));
        blocking(move || {
            copy_tail(&from.view(), &to, size)?;
            from.replace(to.try_clone()?)
        })
        .await
        .map_err(local("copy a file for changes"))?;
        self.note(node, staged)
    }
}

fn copy_tail(from: &View, to: &std::fs::File, at: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < from.length {
        let piece = from.read(done, BLOCK_BYTES.min(from.length - done))?;
        if piece.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all_at(&piece, at + done)?;
        done += length_of(&piece);
    }
    Ok(())
}

pub(super) fn length_of(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

//! Removing files and directories.

use std::sync::Arc;

use fuser::Errno;

use super::Volume;
use crate::fault::{Fault, local};
use crate::nodes::{Kind, Node};
use crate::path::MediaPath;
use crate::staged::Form;
use crate::store::Depth;

impl Volume {
    /// Removes a file. Programs that have it open here go on to read and write it.
    pub(crate) async fn remove_file(&self, path: &MediaPath) -> Result<(), Fault> {
        let node = self.nodes().find(path);
        let _content = match &node {
            Some(node) => Some(node.content.write().await),
            None => None,
        };
        let is_stored = node.as_ref().is_none_or(|node| node.lock().stored.is_some());
        if is_stored {
            if let Some(node) = &node {
                self.keep_for_open_files(node, path).await?;
            }
            self.ensure_marker(&path.parent()).await?;
            self.store().delete(path.as_str()).await?;
        }
        self.detach(path)?;
        self.stored_file(path);
        Ok(())
    }

    /// Takes the name away from its node, which lives on as long as it is open.
    pub(super) fn detach(&self, path: &MediaPath) -> Result<(), Fault> {
        let node = self.nodes().find(path);
        self.nodes().remove(path);
        let Some(node) = node else { return Ok(()) };
        if node.lock().handles == 0 {
            self.discard_local(&node)?;
        } else if let Some(staged) = node.staged() {
            self.note(&node, &staged)?;
        }
        Ok(())
    }

    /// Brings the content of a file that is open here to the disk before its object goes.
    pub(super) async fn keep_for_open_files(
        &self,
        node: &Arc<Node>,
        path: &MediaPath,
    ) -> Result<(), Fault> {
        if node.kind == Kind::Directory || node.lock().handles == 0 {
            return Ok(());
        }
        let staged = self.stage(node, false)?;
        if matches!(staged.progress().form, Form::Tail(_)) {
            self.make_whole(node, &staged).await?;
        }
        tracing::debug!(%path, "A media file that is open is removed and lives on here");
        let stored = node.lock().stored.clone();
        staged.note(None, stored.as_ref()).map_err(local("note what is being written"))
    }

    /// Removes a directory in which nothing is.
    pub(crate) async fn remove_directory(&self, path: &MediaPath) -> Result<(), Fault> {
        if !self.is_empty(path).await? {
            return Err(Errno::ENOTEMPTY.into());
        }
        self.ensure_marker(&path.parent()).await?;
        self.store().delete(&path.inside()).await?;
        self.forget_markers(path);
        self.nodes().remove(path);
        Ok(())
    }

    /// Returns whether nothing is in a directory, here or in the bucket.
    pub(super) async fn is_empty(&self, directory: &MediaPath) -> Result<bool, Fault> {
        if !self.nodes().dirty_inside(directory).is_empty() {
            return Ok(false);
        }
        let inside = directory.inside();
        let page = self.store().list(&inside, Depth::Everything, 2, None).await?;
        Ok(page.objects.iter().all(|object| object.key == inside))
    }
}

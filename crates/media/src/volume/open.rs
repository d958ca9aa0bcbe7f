//! Opening and letting go of files.

use std::sync::Arc;

use fuser::Errno;

use super::{Change, Volume};
use crate::fault::{Fault, local, stale};
use crate::nodes::{Kind, Node};
use crate::path::MediaPath;
use crate::staged::{Form, Staged};
use crate::store::StoreError;
use crate::version::Version;

/// What a program wants to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenWish {
    pub(crate) is_writer: bool,
    pub(crate) empties: bool,
}

impl Volume {
    /// Opens a file. When the bucket has another version than the kernel believes, it is told to
    /// look again, which it does by itself.
    pub(crate) async fn open_file(&self, node: &Arc<Node>, wish: OpenWish) -> Result<(), Fault> {
        if node.kind == Kind::Directory {
            return Err(Errno::EISDIR.into());
        }
        // First, or somebody who lets go of it meanwhile would have its number forgotten.
        self.hold(node, wish.is_writer);
        let outcome = match self.revalidate(node, wish).await {
            Ok(()) if wish.empties => self.empty(node).await,
            outcome => outcome,
        };
        if outcome.is_err() {
            self.release(node, wish.is_writer).await;
        }
        outcome
    }

    /// Counts that a file is open. Changes need it: when it is open for writing nowhere, the local
    /// file for changes is put away.
    pub(crate) fn hold(&self, node: &Node, is_writer: bool) {
        let mut state = node.lock();
        state.handles += 1;
        state.writers += u32::from(is_writer);
    }

    /// Changes the length of a file that need not be open; it is stored then.
    pub(crate) async fn set_length(
        &self,
        node: &Arc<Node>,
        length: u64,
        is_open: bool,
    ) -> Result<(), Fault> {
        if is_open {
            return self.change(node, &Change::Length(length)).await;
        }
        self.hold(node, true);
        let outcome = match self.change(node, &Change::Length(length)).await {
            Ok(()) => self.flush(node).await,
            fault => fault,
        };
        self.release(node, true).await;
        outcome
    }

    async fn revalidate(&self, node: &Arc<Node>, wish: OpenWish) -> Result<(), Fault> {
        let path = {
            let mut state = node.lock();
            let is_confirmed = std::mem::take(&mut state.is_confirmed);
            let is_dirty = state.staged.as_ref().is_some_and(|staged| staged.is_dirty());
            let path = state.path.clone();
            match path {
                Some(path) if !is_confirmed && !is_dirty => path,
                Some(_) => return Ok(()),
                None => return Err(stale()),
            }
        };
        match self.store().head(path.as_str()).await {
            Ok(Some(object)) => {
                let current = self.nodes().enter_version(&path, Version::of(&object));
                if current.id == node.id {
                    return Ok(());
                }
                // Seen after the program began to open it, which is all that it can ask for. Without
                // this, a file that changes all the time could never be opened.
                current.lock().is_confirmed = true;
                Err(stale())
            }
            Ok(None) => {
                self.nodes().remove(&path);
                Err(stale())
            }
            Err(error) if error.is_outage() => self.open_without_bucket(node, wish, error),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens what can be read from the disk, and what may be stored when the bucket is back.
    fn open_without_bucket(
        &self,
        node: &Node,
        wish: OpenWish,
        error: StoreError,
    ) -> Result<(), Fault> {
        let is_readable = match Self::source(node) {
            Some(source) => source.version.size == 0 || self.cache().has_some(source.id()),
            None => node.staged().is_some(),
        };
        if is_readable || wish.empties { Ok(()) } else { Err(error.into()) }
    }

    /// Goes on opening a file that was just created here and is counted as open.
    pub(crate) async fn open_created(&self, node: &Arc<Node>, empties: bool) -> Result<(), Fault> {
        // Somebody else on this machine may have created it a moment before, and written to it.
        let is_used = node.staged().is_some_and(|staged| staged.size() > 0);
        let outcome = if empties && is_used { self.empty(node).await } else { Ok(()) };
        if outcome.is_err() {
            self.release(node, true).await;
        }
        outcome
    }

    async fn empty(&self, node: &Arc<Node>) -> Result<(), Fault> {
        let _content = node.content.read().await;
        let staged = self.stage(node, true)?;
        staged.clear().map_err(local("empty a file"))?;
        staged.change(super::now());
        self.note(node, &staged)
    }

    /// Returns the local file for changes, and makes it when there is none: a tail of what is stored,
    /// or everything and empty.
    pub(super) fn stage(&self, node: &Arc<Node>, is_empty: bool) -> Result<Arc<Staged>, Fault> {
        let (form, mode) = {
            let state = node.lock();
            if let Some(staged) = &state.staged {
                return Ok(Arc::clone(staged));
            }
            let stored = state.stored.as_ref();
            let mode = stored.and_then(|stored| stored.mode);
            let form = if is_empty {
                Form::Whole(stored.map(|stored| stored.appends.clone()).unwrap_or_default())
            } else {
                Form::Tail(stored.cloned())
            };
            (form, mode)
        };
        let directory = self.options().staging_directory();
        let mut state = node.lock();
        if let Some(staged) = &state.staged {
            return Ok(Arc::clone(staged));
        }
        let staged = self
            .with_room(|| Staged::create(&directory, node.id, form.clone(), mode, super::now()));
        let staged = Arc::new(staged.map_err(local("make a file for changes"))?);
        state.staged = Some(Arc::clone(&staged));
        Ok(staged)
    }

    /// Does something that needs the disk, and once more with a smaller cache when that is full.
    pub(super) fn with_room<T>(
        &self,
        mut work: impl FnMut() -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        match work() {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                self.cache().shelf().make_much_room()?;
                work()
            }
            outcome => outcome,
        }
    }

    /// Lets go of an open file.
    pub(crate) async fn release(&self, node: &Arc<Node>, is_writer: bool) {
        {
            let mut state = node.lock();
            state.handles = state.handles.saturating_sub(1);
            state.writers = state.writers.saturating_sub(u32::from(is_writer));
        }
        self.settle(node).await;
    }

    /// Ends what a file needs while it is open for writing, when it is not any more.
    pub(super) async fn settle(&self, node: &Arc<Node>) {
        let (writers, handles) = {
            let state = node.lock();
            (state.writers, state.handles)
        };
        if let Some(staged) = node.staged()
            && writers == 0
        {
            let is_removed = node.path().is_none();
            // A file that was removed while it is open lives on in its local file.
            if !is_removed || handles == 0 {
                self.put_away(node, &staged).await;
            }
        }
        self.nodes().drop_unused(node);
    }

    /// Ends the life of a local file for changes; what was stored as a whole becomes a cached file.
    async fn put_away(&self, node: &Arc<Node>, staged: &Arc<Staged>) {
        let _content = node.content.write().await;
        let is_removed = {
            let state = node.lock();
            let is_removed = state.path.is_none();
            // It may have been opened or removed while this waited.
            let is_needed = state.writers > 0 || (is_removed && state.handles > 0);
            if is_needed
                || !state.staged.as_ref().is_some_and(|current| Arc::ptr_eq(current, staged))
            {
                return;
            }
            is_removed
        };
        let path = node.path().unwrap_or_default();
        let is_lost = staged.is_dirty() && !is_removed;
        if is_lost {
            tracing::error!(%path, "What was written to a media file could not be stored and is given up");
        }
        let whole = staged.whole_path().filter(|_| !staged.is_dirty());
        if let (Some(source), Some(data)) = (Self::source(node), whole) {
            let cache = self.cache().clone();
            let adopted = crate::cache::blocking(move || cache.adopt(&source, &data)).await;
            if let Err(error) = adopted {
                tracing::debug!(%error, "A stored file was not kept in the cache");
            }
        }
        let is_nothing = {
            let mut state = node.lock();
            state.staged = None;
            state.stored.is_none()
        };
        staged.discard();
        if is_lost {
            self.invalidate(node.id);
        }
        if is_nothing && !is_removed {
            self.forget_name(&path, node);
        }
    }

    fn forget_name(&self, path: &MediaPath, node: &Node) {
        if self.nodes().find(path).is_some_and(|current| current.id == node.id) {
            self.nodes().remove(path);
        }
    }
}

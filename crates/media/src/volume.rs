//! The file system itself: what operations on files mean for the bucket, the cache and the nodes.
//!
//! It knows nothing of the kernel's interface; `filesystem.rs` speaks that.

mod attributes;
mod content;
mod create;
mod deny;
mod directory;
mod lookup;
mod open;
mod remove;
mod rename;
mod restore;
mod upload;

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use flotilla_host::tasks::Tasks;
use fuser::{FileAttr, FileType, INodeNo, Notifier};
use tokio::time::Instant;

use crate::cache::{Cache, Source, blocking};
use crate::fault::{Fault, local, stale};
use crate::nodes::{Kind, Node, Nodes};
use crate::options::Options;
use crate::path::MediaPath;
use crate::staged::Staged;
use crate::store::{Abilities, Store};
use crate::upload::Uploader;

pub(crate) use content::Change;
pub(crate) use directory::Listing;
pub(crate) use open::OpenWish;

/// The same complaint is not logged again for so long.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// What directories seem to take, in bytes.
const DIRECTORY_BYTES: u64 = 4096;

/// A bucket as a file system. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    store: Store,
    abilities: OnceLock<Abilities>,
    cache: Cache,
    nodes: Nodes,
    tasks: Tasks,
    notifier: OnceLock<Notifier>,
    uploader: Uploader,
    /// Directories that are known to have a marker.
    markers: Mutex<std::collections::HashSet<MediaPath>>,
    complaint: Mutex<Option<(String, Instant)>>,
    deny: deny::DenyList,
}

impl Volume {
    /// Opens the local files, and takes over what an earlier daemon left in them.
    pub(crate) fn open(options: Options, store: Store, tasks: Tasks) -> Result<Self, Fault> {
        let staging = options.staging_directory();
        std::fs::create_dir_all(&staging).map_err(local("make the staging directory"))?;
        let cache = Cache::open(
            &options.cache_directory(),
            options.cache_bytes_max,
            store.clone(),
            tasks.clone(),
        )
        .map_err(local("open the cache"))?;
        let volume = Self {
            shared: Arc::new(Shared {
                deny: deny::DenyList::default(),
                options,
                uploader: Uploader::new(store.clone()),
                store,
                abilities: OnceLock::new(),
                cache,
                nodes: Nodes::new(),
                tasks,
                notifier: OnceLock::new(),
                markers: Mutex::default(),
                complaint: Mutex::default(),
            }),
        };
        volume.restore().map_err(local("read the staging directory"))?;
        Ok(volume)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.shared.nodes
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.shared.cache
    }

    /// Says how to tell the kernel what it must not believe any more.
    pub(crate) fn set_notifier(&self, notifier: Notifier) {
        drop(self.shared.notifier.set(notifier));
    }

    /// Says what the bucket's server can be relied on for.
    pub(crate) fn set_abilities(&self, abilities: Abilities) {
        let _ = self.shared.abilities.set(abilities);
    }

    /// Returns the node that the kernel means.
    pub(crate) fn node(&self, id: u64) -> Result<Arc<Node>, Fault> {
        self.nodes().get(id).ok_or_else(stale)
    }

    /// Returns the path of an entry of a directory.
    pub(crate) fn entry_path(&self, directory: u64, name: &OsStr) -> Result<MediaPath, Fault> {
        let directory = self.node(directory)?.path().ok_or_else(stale)?;
        Ok(directory.child(name, self.store().prefix_bytes())?)
    }

    /// Returns what `stat` shows of a node.
    pub(crate) fn attributes(&self, node: &Node) -> FileAttr {
        let owner = self.options().owner;
        let state = node.lock();
        let staged = state.staged.as_ref().map(|staged| staged.progress());
        let stored = state.stored.as_ref();
        let (size, modified, mode) = match (node.kind, staged, stored) {
            (Kind::Directory, ..) => (DIRECTORY_BYTES, state.modified, state.mode),
            (Kind::File, Some(staged), _) => (staged.size(), staged.modified, staged.mode),
            (Kind::File, None, Some(stored)) => (stored.size, stored.modified, stored.mode),
            (Kind::File, None, None) => (0, SystemTime::UNIX_EPOCH, None),
        };
        let (kind, usual_mode) = match node.kind {
            Kind::Directory => (FileType::Directory, owner.directory_mode),
            Kind::File => (FileType::RegularFile, owner.file_mode),
        };
        FileAttr {
            ino: INodeNo(node.id),
            size,
            blocks: size.div_ceil(512),
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: modified,
            kind,
            perm: mode.unwrap_or(usual_mode),
            nlink: u32::from(state.path.is_some())
                * if kind == FileType::Directory { 2 } else { 1 },
            uid: owner.uid,
            gid: owner.gid,
            rdev: 0,
            blksize: 128 * 1024,
            flags: 0,
        }
    }

    /// Returns where the stored version of a file can be read from.
    fn source(node: &Node) -> Option<Source> {
        let state = node.lock();
        let (path, version) = (state.path.clone()?, state.stored.clone()?);
        Some(Source { path, version, node: node.id })
    }

    /// Writes down for the next daemon what is being written.
    fn note(&self, node: &Node, staged: &Staged) -> Result<(), Fault> {
        let (path, stored) = {
            let state = node.lock();
            (state.path.clone(), state.stored.clone())
        };
        staged.note(path.as_ref(), stored.as_ref()).map_err(local("note what is being written"))
    }

    /// Makes the kernel forget the content and size of a file.
    fn invalidate(&self, node: u64) {
        let Some(notifier) = self.shared.notifier.get().cloned() else { return };
        self.tasks().spawn("media.invalidate", async move {
            // It waits for readings that are under way, and they may wait for a task of ours.
            let told = blocking(move || notifier.inval_inode(INodeNo(node), 0, 0)).await;
            if let Err(error) = told {
                tracing::debug!(%error, "The kernel did not take a note");
            }
        });
    }

    /// Logs what somebody should know, the same thing not too often.
    pub(crate) fn complain(&self, action: &'static str, path: &MediaPath, fault: &Fault) {
        if !fault.is_noteworthy() {
            return;
        }
        let error = flotilla_core::error::chain(fault);
        let now = Instant::now();
        let mut complaint = self.shared.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = complaint.as_ref().is_some_and(|(last, at)| {
            *last == error && now.duration_since(*at) < COMPLAINT_INTERVAL
        });
        if is_known {
            tracing::debug!(action, %path, error, "A media file operation failed again");
        } else {
            tracing::error!(action, %path, error, "A media file operation failed");
            *complaint = Some((error, now));
        }
    }
}

/// Reads the clock.
#[expect(clippy::disallowed_methods, reason = "files have times")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

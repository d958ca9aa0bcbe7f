//! What the kernel knows by number: directories, and versions of files.
//!
//! A version that somebody else stores under the same name is another node, as if it had been
//! renamed over the old one. So a program that has a file open goes on to see one version, and what
//! the kernel caches of it is never wrong. What is written here stays the same node.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::path::{MediaPath, ROOT_ID, next_id};
use crate::staged::Staged;
use crate::version::Version;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

/// A file or a directory.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    state: Mutex<NodeState>,
    /// Whoever changes the content shares it; whoever stores the content has it alone.
    pub(crate) content: tokio::sync::RwLock<()>,
}

/// What changes about a node.
#[derive(Debug, Clone)]
pub(crate) struct NodeState {
    /// `None` when it was removed or replaced here; open files go on.
    pub(crate) path: Option<MediaPath>,
    /// The version in the bucket; `None` for a directory, and for a file not stored yet.
    pub(crate) stored: Option<Version>,
    /// The content that is being written.
    pub(crate) staged: Option<Arc<Staged>>,
    /// A directory's permission bits.
    pub(crate) mode: Option<u16>,
    /// A directory's time.
    pub(crate) modified: SystemTime,
    /// Whether its version was seen in the bucket on behalf of an open that has yet to come.
    pub(crate) is_confirmed: bool,
    /// How often the kernel was given it.
    pub(crate) lookups: u64,
    /// How often it is open, and how often for writing.
    pub(crate) handles: u32,
    pub(crate) writers: u32,
}

impl Node {
    fn new(id: u64, kind: Kind, path: Option<MediaPath>, stored: Option<Version>) -> Self {
        let state = NodeState {
            path,
            stored,
            staged: None,
            mode: None,
            modified: SystemTime::UNIX_EPOCH,
            is_confirmed: false,
            lookups: 0,
            handles: 0,
            writers: 0,
        };
        Self { id, kind, state: Mutex::new(state), content: tokio::sync::RwLock::new(()) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn path(&self) -> Option<MediaPath> {
        self.lock().path.clone()
    }

    pub(crate) fn staged(&self) -> Option<Arc<Staged>> {
        self.lock().staged.clone()
    }

    /// Returns whether it has content that is not in the bucket.
    pub(crate) fn is_dirty(&self) -> bool {
        self.staged().is_some_and(|staged| staged.is_dirty())
    }
}

/// All nodes that the kernel may ask about.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: HashMap<u64, Arc<Node>>,
    /// The version of each name that is current as far as we know.
    by_path: BTreeMap<MediaPath, u64>,
}

impl Nodes {
    /// Makes the table with the root in it, which the kernel knows without asking.
    pub(crate) fn new() -> Self {
        let nodes = Self::default();
        let root = MediaPath::root();
        nodes.lock().insert(Arc::new(Node::new(ROOT_ID, Kind::Directory, Some(root), None)));
        nodes
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Node>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// Returns the node of a name that is current as far as we know.
    pub(crate) fn find(&self, path: &MediaPath) -> Option<Arc<Node>> {
        self.lock().find(path)
    }

    /// Returns the node of a version that was seen in the bucket.
    pub(crate) fn enter_version(&self, path: &MediaPath, version: Version) -> Arc<Node> {
        let mut tables = self.lock();
        if let Some(node) = tables.find(path).filter(|node| node.kind == Kind::File) {
            let mut state = node.lock();
            let is_same = state.stored.as_ref().is_some_and(|old| old.etag == version.etag);
            let is_ours = state.staged.as_ref().is_some_and(|staged| staged.is_dirty());
            if is_same {
                state.stored = Some(version);
                drop(state);
                return node;
            }
            drop(state);
            if is_ours {
                return node;
            }
        }
        let id = tables.free_id(path.version_id(&version.etag));
        let node = Node::new(id, Kind::File, Some(path.clone()), Some(version));
        tables.insert(Arc::new(node))
    }

    /// Returns the node of a directory.
    pub(crate) fn enter_directory(
        &self,
        path: &MediaPath,
        mode: Option<u16>,
        modified: SystemTime,
    ) -> Arc<Node> {
        let mut tables = self.lock();
        let node = match tables.find(path).filter(|node| node.kind == Kind::Directory) {
            Some(node) => node,
            None => {
                let id = tables.free_id(path.directory_id());
                let node = Node::new(id, Kind::Directory, Some(path.clone()), None);
                tables.insert(Arc::new(node))
            }
        };
        let mut state = node.lock();
        (state.mode, state.modified) = (mode, modified);
        drop(state);
        node
    }

    /// Makes a node for a file that is not in the bucket; `wish` is the number it may get.
    pub(crate) fn enter_new(&self, path: Option<&MediaPath>, wish: u64) -> Arc<Node> {
        let mut tables = self.lock();
        let id = tables.free_id(wish);
        tables.insert(Arc::new(Node::new(id, Kind::File, path.cloned(), None)))
    }

    /// Puts a node of an earlier daemon back under its number.
    pub(crate) fn restore(&self, id: u64, path: &MediaPath, kind: Kind, stored: Option<Version>) {
        let mut tables = self.lock();
        if !tables.by_id.contains_key(&id) {
            tables.insert(Arc::new(Node::new(id, kind, Some(path.clone()), stored)));
        }
    }

    /// Puts a file that was being written back under its number, in place of any other.
    pub(crate) fn restore_written(
        &self,
        id: u64,
        path: Option<&MediaPath>,
        stored: Option<Version>,
    ) -> Arc<Node> {
        self.lock().insert(Arc::new(Node::new(id, Kind::File, path.cloned(), stored)))
    }

    /// Says that a node's content is the current one of its name.
    pub(crate) fn make_current(&self, node: &Node) {
        let mut tables = self.lock();
        if let Some(path) = node.path() {
            tables.by_path.insert(path, node.id);
        }
    }

    /// Takes the name away from whatever has it.
    pub(crate) fn remove(&self, path: &MediaPath) {
        let mut tables = self.lock();
        if let Some(node) = tables.find(path) {
            node.lock().path = None;
        }
        tables.by_path.remove(path);
    }

    /// Gives a file, or a directory and all in it, another name; what had that name loses it.
    pub(crate) fn rename(&self, from: &MediaPath, to: &MediaPath) {
        self.remove(to);
        let mut tables = self.lock();
        let moved: Vec<(MediaPath, MediaPath, u64)> = tables
            .by_path
            .iter()
            .filter_map(|(path, id)| Some((path.clone(), path.moved(from, to)?, *id)))
            .collect();
        for (old, new, id) in moved {
            tables.by_path.remove(&old);
            if let Some(node) = tables.by_id.get(&id) {
                node.lock().path = Some(new.clone());
            }
            tables.by_path.insert(new, id);
        }
    }

    /// Returns the files directly or anywhere below a directory that have changes not yet stored.
    pub(crate) fn dirty_inside(&self, directory: &MediaPath) -> Vec<Arc<Node>> {
        let tables = self.lock();
        let inside = directory.inside();
        let ids = tables.by_path.iter().filter(|(path, _)| path.as_str().starts_with(&inside));
        ids.filter_map(|(_, id)| tables.by_id.get(id))
            .filter(|node| node.is_dirty())
            .cloned()
            .collect()
    }

    /// Counts that the kernel was given a node.
    pub(crate) fn count_lookup(&self, node: &Node) {
        let _tables = self.lock();
        node.lock().lookups += 1;
    }

    /// Learns that the kernel has forgotten a node as often as this.
    pub(crate) fn forget(&self, id: u64, lookups: u64) {
        let mut tables = self.lock();
        let Some(node) = tables.by_id.get(&id).cloned() else { return };
        let mut state = node.lock();
        state.lookups = state.lookups.saturating_sub(lookups);
        drop(state);
        tables.drop_unused(&node);
    }

    /// Lets go of a node that nobody uses any more.
    pub(crate) fn drop_unused(&self, node: &Node) {
        self.lock().drop_unused(node);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn find(&self, path: &MediaPath) -> Option<Arc<Node>> {
        self.by_id.get(self.by_path.get(path)?).cloned()
    }

    fn insert(&mut self, node: Arc<Node>) -> Arc<Node> {
        if let Some(path) = node.path() {
            self.by_path.insert(path, node.id);
        }
        self.by_id.insert(node.id, Arc::clone(&node));
        node
    }

    fn free_id(&self, wish: u64) -> u64 {
        let mut id = wish;
        while self.by_id.contains_key(&id) {
            id = next_id(id);
        }
        id
    }

    fn drop_unused(&mut self, node: &Node) {
        let state = node.lock();
        let is_used = state.lookups > 0 || state.handles > 0 || state.staged.is_some();
        if is_used || node.id == ROOT_ID {
            return;
        }
        if let Some(path) = &state.path
            && self.by_path.get(path) == Some(&node.id)
        {
            self.by_path.remove(path);
        }
        self.by_id.remove(&node.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Appends;

    fn path(text: &str) -> MediaPath {
        MediaPath::from_relative_key(text).unwrap()
    }

    fn version(etag: &str) -> Version {
        Version {
            etag: etag.to_owned(),
            size: 1,
            modified: SystemTime::UNIX_EPOCH,
            mode: None,
            appends: Appends::default(),
        }
    }

    #[test]
    fn a_version_of_somebody_else_is_another_node() {
        let nodes = Nodes::new();
        let old = nodes.enter_version(&path("a"), version("1"));
        assert_eq!(nodes.enter_version(&path("a"), version("1")).id, old.id);
        let new = nodes.enter_version(&path("a"), version("2"));
        assert_ne!(new.id, old.id);
        assert_eq!(nodes.find(&path("a")).unwrap().id, new.id);
        assert_eq!(old.path(), Some(path("a")));
        assert_eq!(nodes.get(old.id).unwrap().id, old.id);
    }

    #[test]
    fn a_renamed_directory_takes_its_nodes_along() {
        let nodes = Nodes::new();
        let node = nodes.enter_version(&path("d/a"), version("1"));
        let replaced = nodes.enter_version(&path("e/a"), version("2"));
        nodes.rename(&path("d"), &path("e"));
        assert_eq!(node.path(), Some(path("e/a")));
        assert_eq!(nodes.find(&path("e/a")).unwrap().id, node.id);
        assert!(nodes.find(&path("d/a")).is_none());
        assert_ne!(replaced.id, node.id);
    }

    #[test]
    fn a_node_lives_until_the_kernel_has_forgotten_it_as_often_as_it_was_given_it() {
        let nodes = Nodes::new();
        let node = nodes.enter_version(&path("a"), version("1"));
        nodes.count_lookup(&node);
        nodes.count_lookup(&node);
        nodes.forget(node.id, 1);
        assert!(nodes.get(node.id).is_some());
        nodes.forget(node.id, 1);
        assert!(nodes.get(node.id).is_none() && nodes.find(&path("a")).is_none());
        nodes.forget(ROOT_ID, 1);
        assert!(nodes.get(ROOT_ID).is_some());
    }

    #[test]
    fn a_removed_file_keeps_its_node_and_loses_its_name() {
        let nodes = Nodes::new();
        let node = nodes.enter_version(&path("a"), version("1"));
        nodes.remove(&path("a"));
        assert_eq!(node.path(), None);
        assert!(nodes.get(node.id).is_some());
    }
}

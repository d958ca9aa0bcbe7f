//! A workshop that changes are made in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::capture::CaptureRecord;
use flotilla_core::capture::rest::Limits;
use flotilla_core::id::{Millis, Revision};
use flotilla_foreman::capture::{CaptureError, Captures, Look, Options, Request};
use flotilla_foreman::repository::{Author, Repository};
use flotilla_foreman::store::Store;
use flotilla_host::git::{Keep, Worktree};

use crate::support::{Held, held, write, write_wordpress};

pub(crate) const NOW: Millis = Millis(1_700_000_000_000);
/// Waiting for longer is waiting for ever.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) repository: Arc<Repository>,
    pub(crate) store: Store,
    pub(crate) captures: Captures,
    pub(crate) first: Revision,
}

impl Bench {
    /// Makes a site with a plugin and a theme, and checks it out.
    pub(crate) async fn new() -> Self {
        Self::with(Limits { settle: Duration::from_millis(20), ..Limits::default() }, |_| ()).await
    }

    /// Makes a site with whatever else it shall have.
    pub(crate) async fn with(limits: Limits, fill: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let repository = Arc::new(Repository::open(root.join("site.git")).await.unwrap());
        let site = root.join("site");
        write_wordpress(&site, "6.1.9");
        write(&site, "wp-content/plugins/akismet/akismet.php", plugin("Akismet", "5.1"));
        write(&site, "wp-content/plugins/akismet/views/a.php", "<?php // a\n");
        write(&site, "wp-content/themes/simple/style.css", "/*\nTheme Name: S\nVersion: 1.0\n*/\n");
        write(&site, "wp-content/themes/simple/functions.php", "<?php\n");
        fill(&site);
        let first = repository.import(&site, "main", "Import").await.unwrap();
        let store = Store::open(&root.join("foreman.db")).unwrap();
        let captures = open(root, limits, &repository, &store).await.unwrap();
        captures.check_out(&first).await.unwrap();
        Self { directory, repository, store, captures, first }
    }

    /// Begins anew, as after a restart.
    pub(crate) async fn reopen(&mut self) {
        let limits = Limits { settle: Duration::from_millis(20), ..Limits::default() };
        let captures = open(self.directory.path(), limits, &self.repository, &self.store).await;
        self.captures = captures.unwrap();
    }

    /// Waits until no file of the workshop changed so lately that it has to be read again.
    pub(crate) async fn age(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    pub(crate) fn workshop(&self) -> PathBuf {
        self.directory.path().join("workshop")
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        write(&self.workshop(), path, bytes);
    }

    pub(crate) fn worktree(&self) -> Worktree {
        Worktree::new(self.repository.git().clone(), "workshop", self.workshop())
    }

    /// Captures once nothing is too fresh any more.
    pub(crate) async fn try_take(
        &self,
        request: &Request,
    ) -> Result<Option<CaptureRecord>, CaptureError> {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.captures.take(request).await {
                Err(CaptureError::Restless { .. }) if tokio::time::Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                taken => return taken,
            }
        }
    }

    /// Captures what there is.
    pub(crate) async fn take(&self) -> CaptureRecord {
        self.try_take(&Request::at(NOW)).await.unwrap().unwrap()
    }

    /// Captures and brings in.
    pub(crate) async fn capture(&self) -> CaptureRecord {
        let record = self.take().await;
        self.captures.bring_in(record.number).await.unwrap();
        record
    }

    pub(crate) async fn tip(&self) -> Revision {
        self.repository.resolve("refs/heads/main").await.unwrap()
    }

    /// Looks until it sees what is expected.
    pub(crate) async fn look_until(&self, is_right: impl Fn(&Look) -> bool) -> Look {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let look = self.captures.look().await.unwrap();
            if is_right(&look) {
                return look;
            }
            assert!(tokio::time::Instant::now() < patience, "last seen: {look:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads what a revision is when it is checked out.
    pub(crate) async fn held_of(&self, revision: &Revision) -> Held {
        let tree = self.directory.path().join("elsewhere");
        let worktree = Worktree::new(self.repository.git().clone(), "elsewhere", &tree);
        let keep = Keep::directories(["wp-content/uploads"]);
        worktree.checkout(revision, &keep).await.unwrap();
        held(&tree)
    }

    /// Commits a change of one file as somebody else does it, on top of a revision.
    pub(crate) async fn push(&self, onto: &Revision, path: &str, bytes: &str) -> Revision {
        let tree = self.directory.path().join("clone");
        let worktree = Worktree::new(self.repository.git().clone(), "clone", &tree);
        worktree.checkout(onto, &Keep::default()).await.unwrap();
        write(&tree, path, bytes);
        self.push_tree(onto, &tree).await
    }

    /// Commits a directory as somebody else does it.
    pub(crate) async fn push_tree(&self, onto: &Revision, tree: &Path) -> Revision {
        let commit = flotilla_foreman::repository::NewCommit {
            message: "Pushed".to_owned(),
            author: Author::default(),
            time: NOW,
            parent: Some(onto.clone()),
        };
        let pushed = self.repository.commit_directory(tree, &commit).await.unwrap();
        let tip = self.tip().await;
        self.repository.move_branch("main", Some(&tip), &pushed).await.unwrap();
        pushed
    }
}

async fn open(
    root: &Path,
    limits: Limits,
    repository: &Arc<Repository>,
    store: &Store,
) -> Result<Captures, CaptureError> {
    let worktree = Worktree::new(repository.git().clone(), "workshop", root.join("workshop"));
    let options = Options {
        limits,
        lock_age: Duration::from_millis(300),
        ..Options::new(worktree, "main".to_owned(), root.join("seen"))
    };
    Captures::open(options, Arc::clone(repository), store.clone()).await
}

/// Writes the main file of a plugin.
pub(crate) fn plugin(name: &str, version: &str) -> String {
    format!("<?php\n/**\n * Plugin Name: {name}\n * Version: {version}\n */\n")
}

/// Captures in nobody's name.
pub(crate) fn request() -> Request {
    Request::at(NOW)
}

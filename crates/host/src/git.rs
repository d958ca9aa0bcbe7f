//! Git as plumbing: the command line program in an environment that no configuration of the machine
//! or of its users reaches.
//!
//! Bytes go in and out as they are: no filters, no line endings, no hooks, no attributes of the
//! site's plugins. Revisions are resolved once, to a full object id, and passed as such.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::id::{IdError, Revision};

use crate::command::{Command, CommandError};

mod delta;
pub mod directories;
mod history;
pub mod index;
pub mod object;
mod objects;
pub mod tree;
pub mod worktree;

pub use delta::{Blob, Delta};
pub use history::{Change, ChangeKind, Commit};
pub use objects::{Blobs, TreeEntry};
pub use worktree::{Keep, Worktree};

/// The namespace of the references that keep releases from being collected as rubbish.
pub const RELEASES: &str = "refs/flotilla/releases";
/// How long one git program may run.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// The bytes of one file that are read into memory at most.
pub const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What git must do with every file, whatever a plugin's `.gitattributes` says: nothing.
const ATTRIBUTES: &str =
    "* -text -eol -filter -ident -export-ignore -export-subst -working-tree-encoding\n";

const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.ignoreCase=false",
    "core.fsmonitor=false",
    // Names that only Windows or macOS dislike are good names here.
    "core.protectNTFS=false",
    "core.protectHFS=false",
    "core.precomposeUnicode=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "log.mailmap=false",
    "log.showSignature=false",
    "log.showRoot=true",
    "i18n.logOutputEncoding=UTF-8",
    "safe.directory=*",
    "protocol.ext.allow=never",
];

/// Says what git could not do.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A git program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A git program said something that is not understood.
    #[error("could not understand what `{0}` printed")]
    Output(&'static str),
    /// A git program printed something else than an object id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A file could not be read or written.
    #[error("could not {action} `{}`", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An object of a revision is not in the repository.
    #[error("object `{0}` is missing from the repository")]
    MissingObject(String),
    /// A bundle does not hold the revision it was fetched for.
    #[error("bundle `{}` does not hold revision `{revision}`", bundle.display())]
    BundleLacks {
        /// The bundle.
        bundle: PathBuf,
        /// The revision that was asked for.
        revision: Revision,
    },
    /// A revision has a path that could leave the tree.
    #[error("revision `{revision}` has the unsafe path `{path}`")]
    UnsafePath {
        /// The revision.
        revision: Revision,
        /// The path, as well as it can be shown.
        path: String,
    },
    /// The task that works on files was stopped.
    #[error("the checkout of `{}` was interrupted", .0.display())]
    Interrupted(PathBuf),
    /// The thread that works on files ended early.
    #[error("the work on files stopped")]
    Task(#[from] tokio::task::JoinError),
}

impl GitError {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// A git directory: a bare repository.
#[derive(Debug, Clone)]
pub struct Git {
    directory: PathBuf,
}

impl Git {
    /// Names a repository; nothing is touched.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Returns the git directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Begins a git command on this repository, `name` being the sub-command.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut git_dir = std::ffi::OsString::from("--git-dir=");
        git_dir.push(&self.directory);
        hermetic().called(format!("git {name}")).arg(git_dir).arg(name)
    }

    /// Makes the repository, or mends one whose making was interrupted; harmless when it is there.
    pub async fn init_bare(&self) -> Result<(), GitError> {
        let path = &self.directory;
        tokio::fs::create_dir_all(path).await.map_err(GitError::file("create", path))?;
        hermetic()
            .called("git init")
            .args(["init", "--bare", "--quiet", "--object-format=sha1", "--template="])
            .arg("--initial-branch=main")
            .arg(path)
            .run()
            .await?;
        let info = path.join("info");
        tokio::fs::create_dir_all(&info).await.map_err(GitError::file("create", &info))?;
        let attributes = info.join("attributes");
        if tokio::fs::read(&attributes).await.is_ok_and(|held| held == ATTRIBUTES.as_bytes()) {
            return Ok(());
        }
        replace_file(&attributes, ATTRIBUTES.as_bytes()).await
    }

    /// Resolves a name, an abbreviated id or anything else that git understands to a commit.
    pub async fn resolve(&self, text: &str) -> Result<Option<Revision>, GitError> {
        if text.is_empty() || text.starts_with('-') || text.contains(|c: char| c.is_control()) {
            return Ok(None);
        }
        let output = self
            .command("rev-parse")
            .args(["--verify", "--quiet"])
            .arg(format!("{text}^{{commit}}"))
            .run_unchecked()
            .await?;
        if !output.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Some(text.trim().parse()?))
    }

    /// Whether the commit itself is there; see [`Self::is_complete`] for all it consists of.
    pub async fn has_commit(&self, revision: &Revision) -> Result<bool, GitError> {
        Ok(self.resolve(revision.as_str()).await?.is_some())
    }

    /// Whether every object of the revision and of its history is there.
    pub async fn is_complete(&self, revision: &Revision) -> Result<bool, GitError> {
        let output = self
            .command("rev-list")
            .args(["--objects", "--quiet", revision.as_str(), "--"])
            .time_limit(TIME_LIMIT)
            .run_unchecked()
            .await?;
        Ok(output.status.success())
    }

    /// Keeps a revision from being collected as rubbish; bundles are cut from these references.
    pub async fn pin(&self, revision: &Revision) -> Result<(), GitError> {
        let name = release_reference(revision);
        self.command("update-ref").args([&name, revision.as_str()]).run().await?;
        Ok(())
    }

    /// Lets go of a revision; the space comes back with the next [`Self::tidy`].
    pub async fn unpin(&self, revision: &Revision) -> Result<(), GitError> {
        self.command("update-ref").arg("-d").arg(release_reference(revision)).run().await?;
        Ok(())
    }

    /// Returns the revisions that are pinned.
    pub async fn pinned(&self) -> Result<Vec<Revision>, GitError> {
        let output =
            self.command("for-each-ref").args(["--format=%(objectname)", RELEASES]).run().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// Takes a revision and what it needs out of a bundle, and pins it.
    pub async fn fetch_bundle(&self, bundle: &Path, revision: &Revision) -> Result<(), GitError> {
        let name = release_reference(revision);
        self.command("fetch")
            .args(["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"])
            .arg(bundle)
            .arg(format!("+{name}:{name}"))
            .time_limit(TIME_LIMIT)
            .run()
            .await?;
        if self.resolve(&name).await?.as_ref() == Some(revision) {
            return Ok(());
        }
        Err(GitError::BundleLacks { bundle: bundle.to_owned(), revision: revision.clone() })
    }

    /// Packs the repository and drops what nothing refers to. Slow; never on the way of a deploy.
    pub async fn tidy(&self) -> Result<(), GitError> {
        self.command("repack").args(["-a", "-d", "-q"]).time_limit(TIME_LIMIT).run().await?;
        self.command("prune").arg("--expire=2.hours.ago").time_limit(TIME_LIMIT).run().await?;
        Ok(())
    }
}

/// Returns the reference that pins a revision.
#[must_use]
pub fn release_reference(revision: &Revision) -> String {
    format!("{RELEASES}/{revision}")
}

/// Begins a git command that is bound to no repository.
fn hermetic() -> Command {
    let mut command = Command::new("git")
        .clear_environment()
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .time_limit(TIME_LIMIT);
    for setting in SETTINGS {
        command = command.arg("-c").arg(setting);
    }
    command
}

/// Writes a file so that it is either as before or whole, whenever the power goes.
pub(crate) async fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), GitError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    tokio::fs::write(&new, bytes).await.map_err(GitError::file("write", &new))?;
    tokio::fs::rename(&new, path).await.map_err(GitError::file("write", path))
}

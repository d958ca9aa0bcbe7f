//! The site's repository: bare, outside every docroot, and byte-exact.
//!
//! A directory becomes a commit by `git fast-import` alone: no index, no attributes, no ignore
//! rules, no line endings. What never belongs in a commit is decided in [`captured`].

pub mod captured;
pub(crate) mod fast_import;
pub(crate) mod import;

use std::path::{Path, PathBuf};

use flotilla_core::id::{Millis, Revision};
use flotilla_host::command::CommandError;
use flotilla_host::git::{Commit, Git, GitError};

use crate::clock;

/// How many commits a listing has at most.
const COMMITS_MAX: usize = 10_000;
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// Says what the repository could not do.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing has this name.
    #[error("there is no revision `{0}`")]
    NoSuchRevision(String),
    /// A revision is no WordPress.
    #[error("revision `{}` is no WordPress: `{path}` {problem}", revision.short())]
    NotWordPress {
        /// The revision.
        revision: Revision,
        /// The file that tells.
        path: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Somebody else moved the branch meanwhile.
    #[error("branch `{branch}` has moved meanwhile")]
    Moved {
        /// The branch.
        branch: String,
        /// What git said.
        #[source]
        source: CommandError,
    },
    /// A file cannot be read.
    #[error("could not read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to commit.
    #[error("`{}` has no files", .0.display())]
    Empty(PathBuf),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl From<CommandError> for RepositoryError {
    fn from(error: CommandError) -> Self {
        Self::Git(error.into())
    }
}

/// The versions that a WordPress says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The version of the code: `6.1.9`.
    pub wordpress: String,
    /// The version of the database's layout: `53496`; `None` when it cannot be read.
    pub db_version: Option<u64>,
}

/// Who made a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

impl Default for Author {
    fn default() -> Self {
        Self { name: "flotilla".to_owned(), email: "flotilla@localhost".to_owned() }
    }
}

/// What a commit says, beside the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit {
    /// The message.
    pub message: String,
    /// Who made the change.
    pub author: Author,
    /// When.
    pub time: Millis,
    /// The commit that it continues.
    pub parent: Option<Revision>,
}

/// The site's bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    git: Git,
}

impl Repository {
    /// Opens the repository, making it when it is not there.
    ///
    /// # Errors
    /// Git cannot make it.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, RepositoryError> {
        let git = Git::new(directory);
        git.init_bare().await?;
        Ok(Self { git })
    }

    /// Returns the plumbing below.
    #[must_use]
    pub const fn git(&self) -> &Git {
        &self.git
    }

    /// Resolves a branch, a tag, an abbreviated id or anything else that git understands.
    ///
    /// # Errors
    /// There is no such commit.
    pub async fn resolve(&self, name: &str) -> Result<Revision, RepositoryError> {
        let revision = self.git.resolve(name).await?;
        revision.ok_or_else(|| RepositoryError::NoSuchRevision(name.to_owned()))
    }

    /// Returns a commit.
    ///
    /// # Errors
    /// There is no such commit.
    pub async fn commit(&self, revision: &Revision) -> Result<Commit, RepositoryError> {
        let commit = self.git.commit(revision).await?;
        commit.ok_or_else(|| RepositoryError::NoSuchRevision(revision.to_string()))
    }

    /// Returns the first line of a commit's message.
    ///
    /// # Errors
    /// There is no such commit.
    pub async fn subject(&self, revision: &Revision) -> Result<String, RepositoryError> {
        Ok(self.commit(revision).await?.subject)
    }

    /// Returns the name of a commit's author.
    ///
    /// # Errors
    /// There is no such commit.
    pub async fn author(&self, revision: &Revision) -> Result<String, RepositoryError> {
        Ok(self.commit(revision).await?.author_name)
    }

    /// Returns the commits that a revision continues, newest first.
    ///
    /// # Errors
    /// There is no such commit.
    pub async fn commits(
        &self,
        revision: &Revision,
        max: usize,
    ) -> Result<Vec<Commit>, RepositoryError> {
        Ok(self.git.commits(revision, max.min(COMMITS_MAX)).await?)
    }

    /// Reads the versions that a revision's WordPress says it has.
    ///
    /// # Errors
    /// The revision is no WordPress.
    pub async fn versions(&self, revision: &Revision) -> Result<Versions, RepositoryError> {
        let path = "wp-includes/version.php";
        let fail =
            |problem| RepositoryError::NotWordPress { revision: revision.clone(), path, problem };
        let bytes = self.git.read_file(revision, path).await?;
        let bytes = bytes.ok_or_else(|| fail("is missing"))?;
        parse_versions(&bytes).ok_or_else(|| fail("names no `$wp_version`"))
    }

    /// Commits the directory to a branch, as it is, and returns the commit. When the branch holds
    /// just these files already, no commit is made and its own is returned.
    ///
    /// # Errors
    /// A file cannot be read, or the branch moved meanwhile.
    pub async fn import(
        &self,
        directory: &Path,
        branch: &str,
        message: &str,
    ) -> Result<Revision, RepositoryError> {
        let parent = self.git.resolve(&format!("refs/heads/{branch}")).await?;
        let commit = NewCommit {
            message: message.to_owned(),
            author: Author::default(),
            time: clock::now(),
            parent: parent.clone(),
        };
        let revision = self.commit_directory(directory, &commit).await?;
        self.move_branch(branch, parent.as_ref(), &revision).await?;
        Ok(revision)
    }

    /// Commits the directory without moving a branch; the commit is pinned. When the parent holds
    /// just these files, no commit is made and the parent is returned.
    ///
    /// # Errors
    /// A file cannot be read or the parent is missing.
    pub async fn commit_directory(
        &self,
        directory: &Path,
        commit: &NewCommit,
    ) -> Result<Revision, RepositoryError> {
        let known = match &commit.parent {
            Some(parent) => self.git.tree(parent).await?,
            None => Vec::new(),
        };
        let revision = import::commit(&self.git, directory, commit, &known).await?;
        if let Some(parent) = &commit.parent
            && self.tree_name(parent).await? == self.tree_name(&revision).await?
        {
            return Ok(parent.clone());
        }
        self.git.pin(&revision).await?;
        Ok(revision)
    }

    /// Moves a branch, if it still is where the caller saw it; `None` is a branch that is not there.
    ///
    /// # Errors
    /// The branch is elsewhere by now.
    pub async fn move_branch(
        &self,
        branch: &str,
        from: Option<&Revision>,
        to: &Revision,
    ) -> Result<(), RepositoryError> {
        let name = format!("refs/heads/{branch}");
        let from = from.map_or(NOTHING, Revision::as_str);
        let moved = self.git.command("update-ref").args([&name, to.as_str(), from]).run().await;
        match moved {
            Ok(_) => Ok(()),
            Err(source @ CommandError::Failed { .. }) => {
                Err(RepositoryError::Moved { branch: branch.to_owned(), source })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn tree_name(&self, revision: &Revision) -> Result<Vec<u8>, RepositoryError> {
        let tree = format!("{revision}^{{tree}}");
        let output = self.git.command("rev-parse").args(["--verify", &tree]).run().await?;
        Ok(output.stdout)
    }
}

/// Reads `wp-includes/version.php`, which assigns plain literals.
#[must_use]
pub fn parse_versions(bytes: &[u8]) -> Option<Versions> {
    let text = String::from_utf8_lossy(bytes);
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')?;
            let value = rest.split(';').next()?.trim();
            Some(value.trim_matches(['\'', '"']).to_owned())
        })
    };
    let wordpress = value("$wp_version").filter(|version| !version.is_empty())?;
    let db_version = value("$wp_db_version").and_then(|version| version.parse().ok());
    Some(Versions { wordpress, db_version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_file_that_wordpress_ships() {
        let text = b"<?php\n/** @global string $wp_version */\n$wp_version = '6.1.9';\n\n$wp_db_version = 53496;\n";
        let versions = parse_versions(text).unwrap();
        assert_eq!(versions, Versions { wordpress: "6.1.9".to_owned(), db_version: Some(53_496) });
        for bad in ["", "<?php", "$wp_version = '';", "$wp_db_version = 53496;"] {
            assert_eq!(parse_versions(bad.as_bytes()), None, "{bad}");
        }
    }
}

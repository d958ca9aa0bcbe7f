//! Gets a revision into the instance's repository: as a bundle, or else from git itself.

use std::path::Path;
use std::time::Duration;

use flotilla_core::error::chain;
use flotilla_core::id::Revision;
use flotilla_host::command::CommandError;
use flotilla_host::git::{Git, GitError};

use crate::foreman::{Foreman, ForemanError};

const GIT_FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// Says why a revision is not here.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Neither way worked.
    #[error("cannot fetch the revision; as a bundle: {bundle}; with git: {git}")]
    Fetch {
        /// What was wrong with the bundle.
        bundle: String,
        /// What git said.
        git: CommandError,
    },
    /// The foreman does not answer, which says nothing of the revision.
    #[error("cannot fetch the revision; {0}")]
    Unreachable(String),
    /// The repository is damaged.
    #[error("the instance's repository failed")]
    Git(#[from] GitError),
}

#[derive(Debug, thiserror::Error)]
enum BundleError {
    #[error(transparent)]
    Download(#[from] ForemanError),
    #[error(transparent)]
    Fetch(#[from] GitError),
}

/// Makes sure that the repository holds a revision with all its files.
///
/// # Errors
/// The foreman does not hand it out, or the repository is damaged.
pub async fn receive(
    git: &Git,
    foreman: &Foreman,
    held: Option<&Revision>,
    revision: &Revision,
) -> Result<(), ReceiveError> {
    if git.has_commit(revision).await? && git.is_complete(revision).await? {
        git.pin(revision).await?;
        return Ok(());
    }
    let file = git.directory().join(format!("{}.bundle", revision.short()));
    let outcome = receive_bundle(git, foreman, &file, held, revision).await;
    drop(std::fs::remove_file(&file));
    let Err(error) = outcome else { return Ok(()) };
    let is_silent = matches!(error, BundleError::Download(ForemanError::Unreachable(_)));
    let bundle = chain(&error);
    tracing::warn!(revision = revision.as_str(), bundle, "A bundle cannot be used; asking git");
    let (url, header) = foreman.repository();
    let name = flotilla_host::git::release_reference(revision);
    let fetched = git
        .command("fetch")
        .args(["--no-tags", "--no-write-fetch-head", &url])
        .arg(format!("{revision}:{name}"))
        // In the environment, where other users cannot read it.
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "http.extraHeader")
        .env("GIT_CONFIG_VALUE_0", header)
        .time_limit(GIT_FETCH_TIMEOUT)
        .run()
        .await;
    match fetched {
        Ok(_output) => Ok(()),
        Err(_same) if is_silent => Err(ReceiveError::Unreachable(bundle)),
        Err(git) => Err(ReceiveError::Fetch { bundle, git }),
    }
}

async fn receive_bundle(
    git: &Git,
    foreman: &Foreman,
    file: &Path,
    held: Option<&Revision>,
    revision: &Revision,
) -> Result<(), BundleError> {
    foreman.download_bundle(held, revision, file).await?;
    git.fetch_bundle(file, revision).await?;
    Ok(())
}

/// Removes what a receipt that was killed has left.
pub(crate) fn remove_leftovers(git: &Git) {
    for entry in std::fs::read_dir(git.directory()).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "bundle") {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

//! Where a new site's WordPress comes from: a directory that is ready to be imported.
//!
//! Nothing of the machine is changed: everything happens below a scratch directory.

mod archive;
mod debian;
mod download;

use std::path::{Path, PathBuf};

use flotilla_core::config::Source as Origin;
use flotilla_core::error::chain;
use flotilla_host::command::CommandError;

use crate::repository::parse_versions;

/// Where the newest WordPress is; its SHA-1 is beside it, as `.sha1`.
const LATEST_URL: &str = "https://wordpress.org/latest.zip";

/// Says why there is no WordPress.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A directory or a zip holds something else.
    #[error(
        "`{origin}` holds no WordPress: it has no `{missing}`; give the directory, or a zip of the directory, that has `wp-settings.php`"
    )]
    NotWordPress {
        /// What was looked at.
        origin: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// A download failed.
    #[error("could not download `{url}`")]
    Download {
        /// The address.
        url: String,
        /// How it failed.
        #[source]
        source: CommandError,
    },
    /// The bytes are not those that were promised.
    #[error("`{origin}` has the {kind} checksum `{actual}`, not `{expected}`; it was not used")]
    Checksum {
        /// What was checked.
        origin: String,
        /// `SHA-1` or `SHA-256`.
        kind: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// What stands beside a download is no checksum.
    #[error("`{0}` is no SHA-1 checksum")]
    NoChecksum(String),
    /// A zip cannot be read.
    #[error("`{}` is no whole zip file", path.display())]
    Zip {
        /// The zip.
        path: PathBuf,
        /// Why.
        #[source]
        source: zip::result::ZipError,
    },
    /// A zip has an entry that is not unpacked.
    #[error("`{}` was not unpacked: its entry `{entry}` {problem}", path.display())]
    Entry {
        /// The zip.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A zip is larger than a WordPress can be.
    #[error("`{}` was not unpacked: it holds more than {limit}", path.display())]
    TooLarge {
        /// The zip.
        path: PathBuf,
        /// The limit.
        limit: &'static str,
    },
    /// Debian's package cannot be had.
    #[error("could not get Debian's `wordpress` package")]
    Debian(#[source] CommandError),
    /// apt has no mirror to take the suite from.
    #[error(
        "could not find a mirror for Debian's suite `{0}`: this machine's apt uses none of Debian"
    )]
    NoMirror(String),
    /// Debian's package is not as expected.
    #[error("Debian's `wordpress` package has the link `{0}` that leads nowhere")]
    DeadLink(String),
    /// A file could not be read or written.
    #[error("could not {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that works on files ended early.
    #[error("the work on files stopped")]
    Task(#[from] tokio::task::JoinError),
}

impl SourceError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

/// Where a new site's WordPress comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The place.
    pub origin: Origin,
    /// What the SHA-256 of a zip must be.
    pub sha256: Option<String>,
    /// Where the newest WordPress is, when it is a mirror.
    pub latest_url: Option<String>,
}

impl From<Origin> for Source {
    fn from(origin: Origin) -> Self {
        Self { origin, sha256: None, latest_url: None }
    }
}

/// A WordPress that is ready to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The directory.
    pub directory: PathBuf,
    /// What was taken: `WordPress 6.1.9 from Debian bookworm`.
    pub description: String,
    /// The version it says it has.
    pub version: String,
}

impl Source {
    /// Gets the WordPress; `say` is told what is being done. The scratch directory may hold what an
    /// earlier try left, and holds the result unless that is a directory of the caller's.
    ///
    /// # Errors
    /// It cannot be had, or it is no WordPress.
    pub async fn take<S: Fn(String)>(&self, scratch: &Path, say: &S) -> Result<Taken, SourceError> {
        tokio::fs::create_dir_all(scratch).await.map_err(SourceError::file("create", scratch))?;
        match &self.origin {
            Origin::Directory(path) => check(path, &path.display().to_string()).await,
            Origin::Zip(path) => {
                download::check_sha256(path, self.sha256.as_deref(), path.display()).await?;
                unpack(path, scratch, &path.display().to_string(), say).await
            }
            Origin::Url(url) => {
                let file = scratch.join("download.zip");
                download::fetch(url, &file, say).await?;
                download::check_sha256(&file, self.sha256.as_deref(), url).await?;
                unpack(&file, scratch, url, say).await
            }
            Origin::Latest => self.take_latest(scratch, say).await,
            Origin::Debian(suite) => debian::take(suite.as_deref(), scratch, say).await,
        }
    }

    async fn take_latest<S: Fn(String)>(
        &self,
        scratch: &Path,
        say: &S,
    ) -> Result<Taken, SourceError> {
        let url = self.latest_url.as_deref().unwrap_or(LATEST_URL);
        match download::fetch_with_sha1(url, &scratch.join("download.zip"), say).await {
            Ok(file) => unpack(&file, scratch, "wordpress.org", say).await,
            Err(error @ SourceError::Download { .. }) => {
                tracing::warn!(error = chain(&error), "Falling back to Debian's WordPress");
                say(format!("{error}; taking Debian's package instead"));
                let mut taken = debian::take(None, scratch, say).await?;
                taken.description.push_str(" (wordpress.org did not answer)");
                Ok(taken)
            }
            Err(error) => Err(error),
        }
    }
}

async fn unpack<S: Fn(String)>(
    zip: &Path,
    scratch: &Path,
    origin: &str,
    say: &S,
) -> Result<Taken, SourceError> {
    say(format!("Unpacking {origin}"));
    let directory = scratch.join("unpacked");
    empty(&directory).await?;
    let (zip, into) = (zip.to_owned(), directory.clone());
    tokio::task::spawn_blocking(move || archive::unpack(&zip, &into)).await??;
    let top = archive::strip_single_directory(&directory).await?;
    check(&top, origin).await
}

/// Makes sure that a directory is a WordPress, and says which.
async fn check(directory: &Path, origin: &str) -> Result<Taken, SourceError> {
    let fail = |missing| SourceError::NotWordPress { origin: origin.to_owned(), missing };
    let settings = "wp-settings.php";
    if !tokio::fs::try_exists(directory.join(settings)).await.unwrap_or(false) {
        return Err(fail(settings));
    }
    let versions = "wp-includes/version.php";
    let bytes = tokio::fs::read(directory.join(versions)).await.ok();
    let parsed = bytes.and_then(|bytes| parse_versions(&bytes)).ok_or_else(|| fail(versions))?;
    Ok(Taken {
        directory: directory.to_owned(),
        description: format!("WordPress {} from {origin}", parsed.wordpress),
        version: parsed.wordpress,
    })
}

/// Makes an empty directory, removing what is there.
async fn empty(directory: &Path) -> Result<(), SourceError> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(SourceError::file("remove", directory)(error));
        }
        _ => {}
    }
    tokio::fs::create_dir_all(directory).await.map_err(SourceError::file("create", directory))
}

//! Git bundles: the form in which code travels to instances. Each is built once and is then a plain
//! file that never changes, with its SHA-256 beside it.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flotilla_core::id::Revision;
use flotilla_host::command::CommandError;
use flotilla_host::files::{Access, FileError, write_atomic};
use flotilla_host::git::{Git, GitError, release_reference};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

/// How many bundles are built at a time.
const BUILDS_MAX: usize = 2;
const TIME_LIMIT: Duration = Duration::from_secs(300);
const SUFFIX: &str = "bundle";
/// How much is read at a time.
const HASHED_BYTES: usize = 64 * 1024;

/// Says why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The repository lacks the revision.
    #[error("there is no revision `{0}` to bundle")]
    NoSuchRevision(Revision),
    /// A file could not be written.
    #[error("could not write `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The sum could not be written.
    #[error(transparent)]
    Sum(#[from] FileError),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The foreman is shutting down.
    #[error("no more bundles are built")]
    Closed(#[from] tokio::sync::AcquireError),
}

impl From<CommandError> for BundleError {
    fn from(error: CommandError) -> Self {
        Self::Git(error.into())
    }
}

/// How much the cache may hold; what was not built or used for longest goes first.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many bundles.
    pub count_max: usize,
    /// How many bytes in all.
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { count_max: 64, bytes_max: 2 * 1024 * 1024 * 1024 }
    }
}

/// Builds bundles and keeps them.
#[derive(Debug)]
pub struct Bundles {
    git: Git,
    directory: PathBuf,
    limits: Limits,
    builds: Semaphore,
    /// The bundles that were built by this process, or compared with their sum.
    trusted: Mutex<HashSet<PathBuf>>,
    /// One lock for each bundle that somebody waits for, so that it is built once.
    waiting: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Bundles {
    /// Keeps bundles of this repository in the directory, which is made when it is missing.
    #[must_use]
    pub fn new(git_dir: &Path, directory: &Path) -> Self {
        Self {
            git: Git::new(git_dir),
            directory: directory.to_owned(),
            limits: Limits::default(),
            builds: Semaphore::new(BUILDS_MAX),
            trusted: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Sets how much is kept.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the file of the bundle that leads from one revision to another, building it if need
    /// be. Without `from`, or when the repository cannot start from it, it is a full one. The file
    /// may be removed later to make room: open it at once.
    ///
    /// # Errors
    /// There is no revision `to`, or it cannot be written.
    pub async fn bundle(
        &self,
        from: Option<&Revision>,
        to: &Revision,
    ) -> Result<PathBuf, BundleError> {
        let base = match from {
            Some(from) if self.is_base(from, to).await? => Some(from),
            _ => None,
        };
        let start = base.map_or("full", Revision::as_str);
        let path = self.directory.join(format!("{start}-{to}.{SUFFIX}"));
        let lock = self.lock_of(&path);
        let outcome = {
            let _alone = lock.lock().await;
            self.find_or_build(base, to, &path).await
        };
        self.forget(&path, &lock);
        outcome.map(|()| path)
    }

    /// Returns the SHA-256 of a bundle, in hexadecimal digits.
    ///
    /// # Errors
    /// The bundle is gone.
    pub async fn sha256(&self, bundle: &Path) -> Result<String, BundleError> {
        let path = sum_path(bundle);
        let text = tokio::fs::read_to_string(&path).await.map_err(file_error(&path))?;
        Ok(text.trim().to_owned())
    }

    async fn is_base(&self, from: &Revision, to: &Revision) -> Result<bool, BundleError> {
        if from == to || !self.git.has_commit(from).await? {
            return Ok(false);
        }
        // Nothing is left to send when the instance has all of it; it asks because it lost it.
        Ok(!self.git.is_ancestor(to, from).await?)
    }

    async fn find_or_build(
        &self,
        base: Option<&Revision>,
        to: &Revision,
        path: &Path,
    ) -> Result<(), BundleError> {
        if tokio::fs::try_exists(path).await.map_err(file_error(path))? {
            if self.is_whole(path).await? {
                return Ok(());
            }
            tracing::warn!(path = %path.display(), "A bundle is damaged and is built anew");
        }
        let _permit = self.builds.acquire().await?;
        if !self.git.has_commit(to).await? {
            return Err(BundleError::NoSuchRevision(to.clone()));
        }
        self.git.pin(to).await?;
        tokio::fs::create_dir_all(&self.directory).await.map_err(file_error(&self.directory))?;
        let new = path.with_extension("new");
        let sum = self.build(base, to, &new).await?;
        let sum_path = sum_path(path);
        let write_sum = move || write_atomic(&sum_path, sum.as_bytes(), Access::Public);
        tokio::task::spawn_blocking(write_sum)
            .await
            .map_err(std::io::Error::from)
            .map_err(file_error(path))??;
        tokio::fs::rename(&new, path).await.map_err(file_error(path))?;
        self.sync_directory().await?;
        self.trust(path);
        let (directory, limits, built) = (self.directory.clone(), self.limits, path.to_owned());
        let trimmed =
            tokio::task::spawn_blocking(move || make_room(&directory, limits, &built)).await;
        if let Ok(Err(error)) | Err(error) = trimmed.map_err(std::io::Error::from) {
            tracing::warn!(%error, "Old bundles could not be removed");
        }
        Ok(())
    }

    async fn build(
        &self,
        base: Option<&Revision>,
        to: &Revision,
        path: &Path,
    ) -> Result<String, BundleError> {
        let mut command = self
            .git
            .command("bundle")
            .args(["create", "--quiet", "-", &release_reference(to)])
            .time_limit(TIME_LIMIT);
        if let Some(base) = base {
            command = command.arg(format!("^{base}"));
        }
        let mut running = command.start()?;
        let mut file = tokio::fs::File::create(path).await.map_err(file_error(path))?;
        let mut hash = Sha256::new();
        let mut buffer = Vec::new();
        while running.read(&mut buffer).await? > 0 {
            hash.update(&buffer);
            file.write_all(&buffer).await.map_err(file_error(path))?;
            buffer.clear();
        }
        file.flush().await.map_err(file_error(path))?;
        running.finish().await?;
        file.sync_all().await.map_err(file_error(path))?;
        Ok(hexadecimal(hash))
    }

    /// Whether a bundle that was found is what was built: one of before a loss of power may not be.
    async fn is_whole(&self, path: &Path) -> Result<bool, BundleError> {
        if self.trusted().contains(path) {
            return Ok(true);
        }
        let Ok(expected) = self.sha256(path).await else { return Ok(false) };
        let file = path.to_owned();
        let hashed = tokio::task::spawn_blocking(move || hash_file(&file)).await;
        let actual = hashed.map_err(std::io::Error::from).and_then(|sum| sum);
        let is_whole = actual.map_err(file_error(path))? == expected;
        if is_whole {
            self.trust(path);
        }
        Ok(is_whole)
    }

    fn trust(&self, path: &Path) {
        self.trusted().insert(path.to_owned());
    }

    fn trusted(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        // What was removed to make room is forgotten now and then, not one by one.
        if trusted.len() > 2 * self.limits.count_max {
            trusted.clear();
        }
        trusted
    }

    async fn sync_directory(&self) -> Result<(), BundleError> {
        let directory = tokio::fs::File::open(&self.directory).await;
        let directory = directory.map_err(file_error(&self.directory))?;
        directory.sync_all().await.map_err(file_error(&self.directory))
    }

    fn lock_of(&self, path: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(waiting.entry(path.to_string_lossy().into_owned()).or_default())
    }

    /// Drops the lock of a bundle when nobody else holds it: one in the map, one here.
    fn forget(&self, path: &Path, lock: &Arc<tokio::sync::Mutex<()>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(lock) <= 2 {
            waiting.remove(path.to_string_lossy().as_ref());
        }
    }
}

/// Removes what was built longest ago until the rest is within the limits.
fn make_room(directory: &Path, limits: Limits, built: &Path) -> std::io::Result<()> {
    let mut held = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let metadata = entry.metadata()?;
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if path.extension().is_some_and(|end| end == SUFFIX) && path != built {
            held.push((metadata.modified()?, metadata.len(), path));
        } else if path.extension().is_some_and(|end| end == "new") && age > 2 * TIME_LIMIT {
            // Its builder was killed.
            std::fs::remove_file(&path)?;
        }
    }
    held.sort();
    let mut bytes: u64 = std::fs::metadata(built)?.len();
    bytes += held.iter().map(|(_, size, _)| size).sum::<u64>();
    let mut count = held.len() + 1;
    for (_, size, path) in held {
        if count <= limits.count_max && bytes <= limits.bytes_max {
            break;
        }
        std::fs::remove_file(&path)?;
        std::fs::remove_file(sum_path(&path))?;
        count -= 1;
        bytes -= size;
    }
    Ok(())
}

fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASHED_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hexadecimal(hash));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum_path(bundle: &Path) -> PathBuf {
    bundle.with_extension("sha256")
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::File { path, source }
}

//! Looks at the workshop again and again, and remembers what it saw. The memory is only a cache: losing
//! it costs reading every file once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_core::capture::rest::{Limits, Rest, Watch};
use flotilla_core::error::chain;
use flotilla_core::id::{Millis, Revision};
use flotilla_host::files::{Access, write_atomic};
use flotilla_host::git::Git;
use flotilla_host::git::index::{self, Index};
use tokio::time::Instant;

use super::compare::{Compared, compare};
use super::error::{CaptureError, PATHS_MAX};
use super::listing::Listing;
use super::walk::{Walked, walk};

/// A larger file of memories is damaged.
const STATE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a look at the workshop tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The workshop holds its revision and nothing else.
    Clean,
    /// Something changed, and may change further.
    Waiting {
        /// Why it is not captured yet.
        rest: Rest,
        /// The first of what changed since the look before.
        paths: Vec<Vec<u8>>,
    },
    /// What changed has come to rest.
    Ready {
        /// How many paths changed.
        count: usize,
        /// The first of them.
        paths: Vec<Vec<u8>>,
        /// How many files had to be read to know.
        files_read: usize,
    },
}

/// Looks at a directory and compares it with a revision.
#[derive(Debug)]
pub struct Scanner {
    directory: PathBuf,
    state: PathBuf,
    limits: Limits,
    watch: Watch,
    remembered: Option<Index>,
    listing: Option<Arc<Listing>>,
    last: Option<Arc<Walked>>,
    /// What a look saw when there was no difference from this revision.
    clean: Option<(Revision, [u8; 20])>,
    started: Instant,
}

impl Scanner {
    /// Prepares to look at a directory; `state` is the file that it remembers in.
    #[must_use]
    pub fn new(directory: PathBuf, state: PathBuf, limits: Limits) -> Self {
        Self {
            directory,
            state,
            limits,
            watch: Watch::default(),
            remembered: None,
            listing: None,
            last: None,
            clean: None,
            started: Instant::now(),
        }
    }

    /// Looks once: stats all files, reads those that were touched once they are at rest.
    ///
    /// # Errors
    /// A file cannot be read or is too large, or git failed.
    pub async fn look(&mut self, git: &Git, revision: &Revision) -> Result<Look, CaptureError> {
        let listing = self.listing(git, revision).await?;
        let walked = self.walk(&listing).await?;
        let before = self.last.replace(Arc::clone(&walked));
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let unfinished = walked.unfinished.clone();
        let rest = self.watch.observe(&self.limits, Millis(now), walked.digest, unfinished);
        if self.is_clean(&walked, revision) {
            return Ok(Look::Clean);
        }
        if rest != Rest::AtRest {
            let mut paths = before.map(|before| before.differing(&walked)).unwrap_or_default();
            paths.truncate(PATHS_MAX);
            return Ok(Look::Waiting { rest, paths });
        }
        let compared = self.compare(&walked, &listing).await?;
        if compared.is_empty() {
            self.note_clean(&walked, revision).await;
            return Ok(Look::Clean);
        }
        let (count, files_read) = (compared.count(), compared.files_read);
        if files_read > 0 {
            self.remember().await;
        }
        Ok(Look::Ready { count, paths: compared.paths(PATHS_MAX), files_read })
    }

    /// Returns what a revision holds.
    pub(super) async fn listing(
        &mut self,
        git: &Git,
        revision: &Revision,
    ) -> Result<Arc<Listing>, CaptureError> {
        if let Some(listing) = &self.listing
            && listing.revision == *revision
        {
            return Ok(Arc::clone(listing));
        }
        let listing = Arc::new(Listing::read(git, revision).await?);
        Ok(Arc::clone(self.listing.insert(listing)))
    }

    pub(super) async fn walk(&self, listing: &Arc<Listing>) -> Result<Arc<Walked>, CaptureError> {
        let (directory, listing) = (self.directory.clone(), Arc::clone(listing));
        let walked = tokio::task::spawn_blocking(move || walk(&directory, &listing)).await;
        Ok(Arc::new(walked??))
    }

    pub(super) async fn compare(
        &mut self,
        walked: &Arc<Walked>,
        listing: &Arc<Listing>,
    ) -> Result<Compared, CaptureError> {
        let directory = self.directory.clone();
        let (walked, listing) = (Arc::clone(walked), Arc::clone(listing));
        let (held, state) = (self.remembered.take(), self.state.clone());
        let work = move || {
            let mut remembered = held.unwrap_or_else(|| read_state(&state));
            let compared = compare(&directory, &walked, &listing, &mut remembered);
            (remembered, compared)
        };
        let (remembered, compared) = tokio::task::spawn_blocking(work).await?;
        self.remembered = Some(remembered);
        compared
    }

    /// Notes that there is no difference from a revision any more, and remembers what was read.
    pub(super) async fn note_clean(&mut self, walked: &Walked, revision: &Revision) {
        self.clean = Some((revision.clone(), walked.digest));
        self.remember().await;
    }

    pub(super) fn is_clean(&self, walked: &Walked, revision: &Revision) -> bool {
        let clean = self.clean.as_ref();
        clean.is_some_and(|(held, digest)| held == revision && *digest == walked.digest)
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes down what is remembered. When that fails, only time is lost.
    async fn remember(&mut self) {
        let Some(remembered) = self.remembered.take() else { return };
        let state = self.state.clone();
        let work = move || {
            let written = write_atomic(&state, &index::write(&remembered), Access::Private);
            (remembered, written)
        };
        let Ok((remembered, written)) = tokio::task::spawn_blocking(work).await else { return };
        self.remembered = Some(remembered);
        if let Err(error) = written {
            tracing::warn!(
                error = chain(&error),
                "What was seen of the workshop is not written down"
            );
        }
    }
}

/// Reads what was remembered; nothing when there is no such file or it is damaged.
fn read_state(path: &Path) -> Index {
    let is_sane = std::fs::metadata(path).is_ok_and(|data| data.len() <= STATE_BYTES_MAX);
    let bytes = if is_sane { std::fs::read(path).ok() } else { None };
    bytes.and_then(|bytes| index::read(&bytes)).unwrap_or_default()
}

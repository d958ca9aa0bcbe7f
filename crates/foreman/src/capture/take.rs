//! Makes one commit of what changed in the workshop.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_core::capture::{Alarm, CaptureNumber, CaptureRecord, CaptureState, alarms, describe};
use flotilla_core::id::Revision;
use flotilla_host::git::GitError;
use flotilla_host::git::object::ObjectId;
use tokio::sync::mpsc;

use super::compare::Compared;
use super::error::{CaptureError, PATHS_MAX};
use super::feed::{self, list_command};
use super::listing::Listing;
use super::scanner::Scanner;
use super::walk::Walked;
use super::{Captures, REFERENCES, Request, Restless, facts};
use crate::repository::NewCommit;
use crate::repository::fast_import::{Existing, FastImport, delete, heading, modify, whole_tree};

/// The reference that trees are made on; nothing is read from it.
const CAPTURING: &str = "refs/flotilla/capturing";
/// How many pieces of files wait for git at a time.
const PIECES_MAX: usize = 8;

/// A tree that holds what the workshop held at one instant.
struct Snapshot {
    revision: Revision,
    walked: Arc<Walked>,
    left_out: Vec<Vec<u8>>,
}

impl Captures {
    /// Makes a commit of what changed in the workshop; `None` when nothing did. The branch is not
    /// touched.
    ///
    /// The commit holds what the workshop held at one instant: all files are looked at before and after
    /// they are read, and must not have been touched in between.
    ///
    /// # Errors
    /// An update is under way, files change meanwhile, somebody else works on the workshop, or a file
    /// cannot be read.
    pub async fn take(&self, request: &Request) -> Result<Option<CaptureRecord>, CaptureError> {
        let mut scanner = self.scanner.lock().await;
        let held = self.hold().await?;
        self.recover(&held).await?;
        let base = self.base().await?;
        let listing = scanner.listing(self.git(), &base).await?;
        let walked = scanner.walk(&listing).await?;
        if scanner.is_clean(&walked, &base) {
            return Ok(None);
        }
        refuse_unfinished(&scanner, &walked)?;
        let compared = scanner.compare(&walked, &listing).await?;
        if compared.is_empty() {
            scanner.note_clean(&walked, &base).await;
            return Ok(None);
        }
        if request.restless == Restless::Refuse {
            refuse_restless(&compared.fresh)?;
        }
        let snapshot = self.snapshot(&scanner, request, &listing, &walked, compared).await?;
        let tree = self.git().tree_id(&snapshot.revision).await?;
        if tree == self.git().tree_id(&base).await? {
            return Ok(None);
        }
        let record = self.commit(request, &listing, &snapshot, tree).await?;
        self.options.worktree.note_commit(&held, &record.revision).await?;
        self.store.add_capture(record.clone()).await?;
        if snapshot.left_out.is_empty() {
            scanner.note_clean(&snapshot.walked, &record.revision).await;
        }
        tracing::info!(
            capture = record.number.0,
            revision = record.revision.as_str(),
            subject = record.subject(),
            "Captured changes in the workshop"
        );
        Ok(Some(record))
    }

    /// Brings the changes into the repository, as a tree of a commit that is never kept.
    async fn snapshot(
        &self,
        scanner: &Scanner,
        request: &Request,
        listing: &Arc<Listing>,
        walked: &Walked,
        compared: Compared,
    ) -> Result<Snapshot, CaptureError> {
        self.clear_stale_lock(CAPTURING).await;
        let commit = NewCommit {
            message: "Changes in the workshop".to_owned(),
            author: request.author.clone(),
            time: request.time,
            parent: Some(listing.revision.clone()),
        };
        let mut import = FastImport::start(self.git(), Existing::Replace)?;
        let mut is_heard = import.send(&heading(&commit, CAPTURING)).await;
        let mut restless: BTreeSet<Vec<u8>> = compared.fresh.iter().cloned().collect();
        let (sender, mut receiver) = mpsc::channel(PIECES_MAX);
        let (directory, held) = (scanner.directory().to_owned(), Arc::clone(listing));
        let feed =
            tokio::task::spawn_blocking(move || feed::send(&directory, &compared, &held, &sender));
        while is_heard && let Some(bytes) = receiver.recv().await {
            is_heard = import.send(&bytes).await;
        }
        drop(receiver);
        feed.await??;
        let after = scanner.walk(listing).await?;
        refuse_unfinished(scanner, &after)?;
        restless.extend(walked.differing(&after));
        let left_out: Vec<Vec<u8>> = restless.into_iter().collect();
        if request.restless == Restless::Refuse {
            refuse_restless(&left_out)?;
        } else {
            put_back(&mut import, listing, &left_out).await;
        }
        let revision = import.finish().await?;
        Ok(Snapshot { revision, walked: after, left_out })
    }

    /// Makes the commit with its message, under a reference of its own.
    async fn commit(
        &self,
        request: &Request,
        before: &Listing,
        snapshot: &Snapshot,
        tree: ObjectId,
    ) -> Result<CaptureRecord, CaptureError> {
        let git = self.git();
        let after = Listing::read(git, &snapshot.revision).await?;
        let deltas = git.deltas(&before.revision, &snapshot.revision).await?;
        let changes = facts::changes(&deltas);
        let packages = facts::packages(git, &changes, before, &after).await?;
        let message = describe(&changes, &packages).text();
        let mut alarms = alarms(&changes, &request.uploads);
        alarms.extend(Alarm::left_out(snapshot.left_out.iter().map(Vec::as_slice)));
        let number = self.next_number().await?;
        let reference = format!("{REFERENCES}/{number}");
        let commit = NewCommit {
            message: message.clone(),
            author: request.author.clone(),
            time: request.time,
            parent: Some(before.revision.clone()),
        };
        let revision = self.write_commit(&commit, &reference, tree).await?;
        Ok(CaptureRecord {
            number,
            revision,
            parent: before.revision.clone(),
            author: request.author.name.clone(),
            message,
            state: CaptureState::PendingReview,
            created_at: request.time,
            alarms,
        })
    }

    /// Makes the commit and its reference in one step of git, unless the reference is there by now: a
    /// git that outlived whoever fed it may just make it.
    async fn write_commit(
        &self,
        commit: &NewCommit,
        reference: &str,
        tree: ObjectId,
    ) -> Result<Revision, GitError> {
        self.clear_stale_lock(reference).await;
        let mut import = FastImport::start(self.git(), Existing::Keep)?;
        let mut stream = heading(commit, reference);
        stream.extend(whole_tree(tree));
        import.send(&stream).await;
        import.finish().await
    }

    /// Returns the first number that no capture has had.
    async fn next_number(&self) -> Result<CaptureNumber, CaptureError> {
        let kept = self.references().await?.into_iter().map(|(number, _)| number).max();
        let stored = self.store.captures(1).await?.first().map(|record| record.number);
        let last = kept.max(stored).unwrap_or_default();
        Ok(CaptureNumber(last.0 + 1))
    }
}

/// Gives paths what the revision before had there.
async fn put_back(import: &mut FastImport, listing: &Listing, paths: &[Vec<u8>]) {
    let mut stream = Vec::new();
    for path in paths.iter().filter(|path| listing.get(path).is_none()) {
        // The path of a directory that only came or went says nothing of its files.
        if !listing.has_below(path) {
            stream.extend(delete(path));
        }
    }
    for path in paths {
        if let Some(blob) = listing.get(path) {
            stream.extend(modify(blob.mode, path, blob.object));
        }
    }
    if !paths.is_empty() {
        stream.extend(list_command(&listing.encoded_list()));
    }
    // Git that has ended says why when it is asked for the end.
    import.send(&stream).await;
}

fn refuse_unfinished(scanner: &Scanner, walked: &Walked) -> Result<(), CaptureError> {
    match &walked.unfinished {
        Some(seen) if seen.age < scanner.limits().unfinished => {
            Err(CaptureError::Unfinished { path: seen.path.clone(), age: seen.age })
        }
        _ => Ok(()),
    }
}

fn refuse_restless(paths: &[Vec<u8>]) -> Result<(), CaptureError> {
    if paths.is_empty() {
        return Ok(());
    }
    let named = paths.iter().take(PATHS_MAX).cloned().collect();
    Err(CaptureError::Restless { paths: named, count: paths.len() })
}

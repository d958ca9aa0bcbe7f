//! Finishes what a capture that was killed had begun. Everything may be repeated.

use flotilla_core::capture::{CaptureNumber, CaptureRecord, CaptureState, alarms};
use flotilla_core::id::{Millis, Revision};
use flotilla_host::git::worktree::Held;

use super::error::CaptureError;
use super::{Captures, REFERENCES, facts};

/// How many of the newest captures are looked for in the store.
const LOOKED_AT_MAX: u32 = 100;
/// What git calls its report when its input breaks off.
const CRASH_REPORT: &str = "fast_import_crash_";

impl Captures {
    /// Adds captures that were taken to the store, when a kill came in between. A commit that the
    /// workshop never got to is left alone: its changes still lie in the workshop.
    pub(super) async fn recover(&self, _held: &Held) -> Result<(), CaptureError> {
        let Some(mark) = self.options.worktree.checked_out().await else { return Ok(()) };
        let mut references = self.references().await?;
        references.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        let stored = self.store.captures(LOOKED_AT_MAX).await?;
        let newest = stored.first().map(|record| record.number).unwrap_or_default();
        for (number, revision) in references {
            if number <= newest {
                break;
            }
            if self.git().is_ancestor(&revision, &mark).await? {
                let record = self.record(number, &revision).await?;
                self.store.add_capture(record).await?;
            }
        }
        Ok(())
    }

    /// Returns the captures that have a reference.
    pub(super) async fn references(&self) -> Result<Vec<(CaptureNumber, Revision)>, CaptureError> {
        let output = self
            .git()
            .command("for-each-ref")
            .args(["--format=%(objectname) %(refname)", REFERENCES])
            .run()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let references = text.lines().filter_map(|line| {
            let (revision, name) = line.split_once(' ')?;
            let number = name.rsplit('/').next()?.parse().ok()?;
            Some((CaptureNumber(number), revision.parse().ok()?))
        });
        Ok(references.collect())
    }

    /// Reads off a commit what was not stored. What lay among the uploads then is not known any more.
    async fn record(
        &self,
        number: CaptureNumber,
        revision: &Revision,
    ) -> Result<CaptureRecord, CaptureError> {
        let commit = self.repository.commit(revision).await?;
        let parent = commit.parents.first().unwrap_or(revision).clone();
        let deltas = self.git().deltas(&parent, revision).await?;
        let body =
            if commit.body.is_empty() { String::new() } else { format!("\n\n{}", commit.body) };
        Ok(CaptureRecord {
            number,
            revision: revision.clone(),
            parent,
            author: commit.author_name,
            message: commit.subject + &body,
            state: CaptureState::PendingReview,
            created_at: Millis(commit.time_seconds.unsigned_abs() * 1_000),
            alarms: alarms(&facts::changes(&deltas), &[]),
        })
    }

    /// Removes the reports that git leaves when whoever feeds it is killed.
    pub(super) async fn clear_crash_reports(&self) {
        let directory = self.git().directory().to_owned();
        let clear = move || {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(CRASH_REPORT) {
                    // One that cannot be removed is only untidy.
                    drop(std::fs::remove_file(entry.path()));
                }
            }
        };
        drop(tokio::task::spawn_blocking(clear).await);
    }
}

//! The captures that were made, and what became of them.

use flotilla_core::capture::{CaptureNumber, CaptureRecord, CaptureState};
use flotilla_core::id::Millis;
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError};

const COLUMNS: &str = "number, revision, parent, author, message, state, created_at, alarms";

/// A row as it lies in the file.
struct Stored {
    number: i64,
    revision: String,
    parent: String,
    author: String,
    message: String,
    state: String,
    created_at: i64,
    alarms: String,
}

/// What is noted of a capture on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureNote {
    /// Why it waits or failed; empty when it does neither.
    pub reason: String,
    /// Whether somebody has approved it.
    pub is_approved: bool,
}

impl Store {
    /// Reads what is noted of a capture.
    ///
    /// # Errors
    /// The database failed.
    pub async fn capture_note(&self, number: CaptureNumber) -> Result<CaptureNote, StoreError> {
        self.run(move |connection| {
            let note = connection
                .query_row(
                    "SELECT reason, is_approved FROM capture_notes WHERE number = ?1",
                    [number.0.cast_signed()],
                    |row| Ok(CaptureNote { reason: row.get(0)?, is_approved: row.get(1)? }),
                )
                .optional()?;
            Ok(note.unwrap_or_default())
        })
        .await
    }

    /// Notes something of a capture.
    ///
    /// # Errors
    /// The database failed.
    pub async fn note_capture(
        &self,
        number: CaptureNumber,
        note: CaptureNote,
    ) -> Result<(), StoreError> {
        self.run(move |connection| {
            connection.execute(
                "INSERT INTO capture_notes (number, reason, is_approved) VALUES (?1, ?2, ?3)
                 ON CONFLICT (number) DO UPDATE
                 SET reason = excluded.reason, is_approved = excluded.is_approved",
                params![number.0.cast_signed(), note.reason, note.is_approved],
            )?;
            Ok(())
        })
        .await
    }

    /// Adds a capture; one that is there already stays as it is.
    ///
    /// # Errors
    /// The database failed, or another capture has the number.
    pub async fn add_capture(&self, record: CaptureRecord) -> Result<(), StoreError> {
        self.run(move |connection| {
            connection.execute(
                &format!(
                    "INSERT INTO captures ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT (revision) DO NOTHING"
                ),
                params![
                    record.number.0.cast_signed(),
                    record.revision.as_str(),
                    record.parent.as_str(),
                    record.author,
                    record.message,
                    record.state.as_str(),
                    record.created_at.0.cast_signed(),
                    serde_json::to_string(&record.alarms)?,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Reads the newest captures, newest first.
    ///
    /// # Errors
    /// The database failed or holds a damaged row.
    pub async fn captures(&self, limit: u32) -> Result<Vec<CaptureRecord>, StoreError> {
        self.run(move |connection| {
            let mut statement = connection.prepare(&format!(
                "SELECT {COLUMNS} FROM captures ORDER BY number DESC LIMIT ?1"
            ))?;
            let rows = statement.query_map([limit], stored)?;
            rows.map(|row| record(row?)).collect()
        })
        .await
    }

    /// Reads one capture.
    ///
    /// # Errors
    /// The database failed or holds a damaged row.
    pub async fn capture(
        &self,
        number: CaptureNumber,
    ) -> Result<Option<CaptureRecord>, StoreError> {
        self.run(move |connection| {
            let row = connection
                .query_row(
                    &format!("SELECT {COLUMNS} FROM captures WHERE number = ?1"),
                    [number.0.cast_signed()],
                    stored,
                )
                .optional()?;
            row.map(record).transpose()
        })
        .await
    }

    /// Notes what became of a capture; `false` when there is none, or when it may not become so any
    /// more.
    ///
    /// # Errors
    /// The database failed or holds a damaged row.
    pub async fn set_capture_state(
        &self,
        number: CaptureNumber,
        state: CaptureState,
    ) -> Result<bool, StoreError> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let held: Option<String> = transaction
                .query_row(
                    "SELECT state FROM captures WHERE number = ?1",
                    [number.0.cast_signed()],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(held) = held else { return Ok(false) };
            let held =
                CaptureState::from_word(&held).ok_or(StoreError::DamagedCapture(number.0))?;
            if !held.may_become(state) {
                return Ok(false);
            }
            transaction.execute(
                "UPDATE captures SET state = ?2 WHERE number = ?1",
                params![number.0.cast_signed(), state.as_str()],
            )?;
            transaction.commit()?;
            Ok(true)
        })
        .await
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        number: row.get(0)?,
        revision: row.get(1)?,
        parent: row.get(2)?,
        author: row.get(3)?,
        message: row.get(4)?,
        state: row.get(5)?,
        created_at: row.get(6)?,
        alarms: row.get(7)?,
    })
}

fn record(row: Stored) -> Result<CaptureRecord, StoreError> {
    let number = CaptureNumber(row.number.cast_unsigned());
    let damaged = || StoreError::DamagedCapture(number.0);
    Ok(CaptureRecord {
        number,
        revision: row.revision.parse().ok().ok_or_else(damaged)?,
        parent: row.parent.parse().ok().ok_or_else(damaged)?,
        author: row.author,
        message: row.message,
        state: CaptureState::from_word(&row.state).ok_or_else(damaged)?,
        created_at: Millis(row.created_at.cast_unsigned()),
        alarms: serde_json::from_str(&row.alarms)?,
    })
}

#[cfg(test)]
mod tests {
    use flotilla_core::capture::Alarm;
    use flotilla_core::id::Revision;

    use super::*;

    fn revision(digit: char) -> Revision {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn capture(number: u64, digit: char) -> CaptureRecord {
        CaptureRecord {
            number: CaptureNumber(number),
            revision: revision(digit),
            parent: revision('0'),
            author: "maria".to_owned(),
            message: "Update plugin akismet 5.1 → 5.2".to_owned(),
            state: CaptureState::PendingReview,
            created_at: Millis(1_700_000_000_123),
            alarms: Alarm::left_out([b"a".as_slice()]).into_iter().collect(),
        }
    }

    #[tokio::test]
    async fn captures_are_there_after_opening_again_newest_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("foreman.db");
        let store = Store::open(&path).unwrap();
        for (number, digit) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            store.add_capture(capture(number, digit)).await.unwrap();
        }
        store.add_capture(capture(2, 'b')).await.unwrap();
        assert!(store.add_capture(capture(2, 'd')).await.is_err(), "a number is given once");
        drop(store);
        let store = Store::open(&path).unwrap();
        let newest = store.captures(2).await.unwrap();
        assert_eq!(newest, [capture(3, 'c'), capture(2, 'b')]);
        assert_eq!(store.capture(CaptureNumber(1)).await.unwrap(), Some(capture(1, 'a')));
        assert_eq!(store.capture(CaptureNumber(9)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_capture_that_was_reverted_does_not_become_deployed_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("foreman.db")).unwrap();
        store.add_capture(capture(1, 'a')).await.unwrap();
        let number = CaptureNumber(1);
        for (state, expected) in [
            (CaptureState::Deployed, true),
            (CaptureState::PendingReview, false),
            (CaptureState::Reverted, true),
            (CaptureState::Deployed, false),
        ] {
            assert_eq!(
                store.set_capture_state(number, state).await.unwrap(),
                expected,
                "{state:?}"
            );
        }
        let state = store.capture(number).await.unwrap().unwrap().state;
        assert_eq!(state, CaptureState::Reverted);
        let unknown = CaptureNumber(2);
        assert!(!store.set_capture_state(unknown, CaptureState::Deployed).await.unwrap());
    }
}

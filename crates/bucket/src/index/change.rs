//! A transaction that several changes share, and the files that hang on it.

use rusqlite::Connection;

use crate::blobs::{BlobId, NewBlob};
use crate::fault::Fault;

/// The transaction, as one change sees it.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// For statements.
    pub(crate) connection: &'a Connection,
    adopted: Vec<NewBlob>,
    retired: Vec<BlobId>,
}

impl<'a> Change<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        Self { connection, adopted: Vec::new(), retired: Vec::new() }
    }

    /// Keeps a new file, if the transaction holds.
    pub(crate) fn adopt(&mut self, blob: NewBlob) {
        self.adopted.push(blob);
    }

    /// Gives up a file, if the transaction holds; it is removed when nobody reads it any more.
    pub(crate) fn retire(&mut self, blob: BlobId) -> rusqlite::Result<()> {
        let statement = "INSERT INTO garbage (blob) VALUES (?1)";
        self.connection.prepare_cached(statement)?.execute([blob])?;
        self.retired.push(blob);
        Ok(())
    }

    /// Makes one change wholly or not at all.
    pub(super) fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (adopted, retired) = (self.adopted.len(), self.retired.len());
        self.connection.execute_batch("SAVEPOINT change")?;
        let outcome = work(self);
        if outcome.is_err() {
            self.connection.execute_batch("ROLLBACK TO change")?;
            self.adopted.truncate(adopted);
            self.retired.truncate(retired);
        }
        self.connection.execute_batch("RELEASE change")?;
        outcome
    }

    /// Returns the files that were kept and those that were given up.
    pub(super) fn into_files(self) -> (Vec<NewBlob>, Vec<BlobId>) {
        (self.adopted, self.retired)
    }
}

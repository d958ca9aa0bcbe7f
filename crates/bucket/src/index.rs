//! The index: which objects there are and what they consist of. One `SQLite` file; a transaction is
//! the instant at which an object appears, changes or vanishes.
//!
//! One thread makes all changes. What waits for it goes into one transaction, so that many small
//! uploads share the cost of making it durable. Readers have a connection of their own and see the
//! last transaction that has ended.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::blobs::{BlobId, Blobs, NewBlob};
use crate::epoch::Epochs;
use crate::fault::{Code, Fault};

mod change;
mod listing;
mod objects;
mod schema;
mod uploads;

pub(crate) use change::Change;
pub(crate) use listing::{Listed, ListingPage, ListingRequest, list};
pub(crate) use objects::{
    Headers, NewObject, Object, Piece, delete_object, find_object, pieces, put_object, share_object,
};
pub(crate) use schema::prepare;
pub(crate) use uploads::{
    CHECKSUM_ALGORITHM, Part, PartChoice, Upload, UploadId, abort_upload, begin_upload,
    complete_upload, expire_uploads, find_upload, list_parts, list_uploads, put_part,
};

/// Changes that wait; whoever comes then is told to slow down.
const QUEUE_MAX: usize = 1_024;
/// Changes in one transaction at most.
const BATCH_MAX: usize = 128;
/// Files that are removed after one transaction at most, so that removing does not hold up writers.
const REMOVED_PER_BATCH_MAX: usize = 512;

/// What is to be done in a transaction: it returns what is to be done when that has ended.
type Job = Box<dyn FnOnce(&mut Change<'_>) -> Settle + Send>;
/// Tells the one who waits; the argument says whether the transaction holds.
type Settle = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// The index; clones share it.
#[derive(Clone)]
pub(crate) struct Index {
    jobs: mpsc::Sender<Job>,
    reader: Arc<Mutex<Connection>>,
    epochs: Arc<Epochs>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Index")
    }
}

impl Index {
    /// Opens the index of a store whose tables are prepared, and starts its thread, which ends when
    /// the last clone is gone. `stopping` is cancelled when the index is not to be trusted any more.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread started.
    pub(crate) fn start(
        path: &Path,
        blobs: Arc<Blobs>,
        stopping: CancellationToken,
    ) -> Result<(Self, JoinHandle<()>), IndexError> {
        let connection = schema::connect(path)?;
        let reader = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        reader.pragma_update(None, "query_only", "on")?;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let epochs = Arc::new(Epochs::default());
        let writer = Writer { connection, blobs, epochs: Arc::clone(&epochs), stopping };
        let thread = std::thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(IndexError::Thread)?;
        Ok((Self { jobs, reader: Arc::new(Mutex::new(reader)), epochs }, thread))
    }

    /// Reads; blocks, so it is for threads that may.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let connection = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        // One snapshot for all that is read.
        let transaction = connection.unchecked_transaction()?;
        work(&transaction)
    }

    /// Returns who reads files.
    pub(crate) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Makes a change and returns when it is durable and visible.
    ///
    /// The change is made even when nobody waits for it any more. One that returns a fault has
    /// changed nothing.
    ///
    /// # Errors
    /// The change was refused, or cannot be made durable.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |change| {
            let outcome = change.attempt(work);
            Box::new(move |committed| {
                // Whoever waited may be gone.
                drop(sender.send(committed.and(outcome)));
            })
        });
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Fault::new(Code::SlowDown, "too many changes wait to be made durable")
            }
            mpsc::error::TrySendError::Closed(_) => Fault::internal(),
        })?;
        receiver.await.map_err(|_error| Fault::internal())?
    }
}

/// Says why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database failed.
    #[error("the index failed")]
    Sql(#[from] rusqlite::Error),
    /// The directory belongs to another bucket.
    #[error("it holds the bucket `{found}`, not `{wanted}`")]
    OtherBucket {
        /// The bucket that is there.
        found: String,
        /// The bucket that was asked for.
        wanted: String,
    },
    /// A later version of this program has written it.
    #[error("it has format {found}; this program knows formats up to {known}")]
    Newer {
        /// The format that is there.
        found: i64,
        /// The highest format that is known.
        known: i64,
    },
    /// There is no thread for it.
    #[error("cannot start a thread for the index")]
    Thread(#[source] std::io::Error),
    /// What a process that died has left cannot be cleared away.
    #[error("cannot clear away what was left unfinished")]
    Recover(#[from] std::io::Error),
}

/// Makes the changes.
struct Writer {
    connection: Connection,
    blobs: Arc<Blobs>,
    epochs: Arc<Epochs>,
    stopping: CancellationToken,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            if !self.commit(std::mem::take(&mut batch)) {
                // What waits still is dropped, and those who wait are told.
                self.stopping.cancel();
                return;
            }
            self.remove_garbage();
        }
        self.remove_garbage();
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(%error, "The log of the index was not folded into it");
        }
    }

    /// Makes changes in one transaction; returns whether the index can be trusted still.
    fn commit(&mut self, batch: Vec<Job>) -> bool {
        let mut settles = Vec::with_capacity(batch.len());
        let outcome = self.transact(batch, &mut settles);
        let (told, is_sound) = match outcome {
            Ok(()) => (Ok(()), true),
            Err((fault, is_sound)) => (Err(fault), is_sound),
        };
        for settle in settles {
            settle(told.clone());
        }
        is_sound
    }

    fn transact(
        &mut self,
        batch: Vec<Job>,
        settles: &mut Vec<Settle>,
    ) -> Result<(), (Fault, bool)> {
        let refused = |error: rusqlite::Error| (Fault::of_index(&error), true);
        let transaction = self.connection.transaction().map_err(refused)?;
        let mut change = Change::new(&transaction);
        for job in batch {
            settles.push(job(&mut change));
        }
        let (adopted, retired) = change.into_files();
        if !adopted.is_empty() {
            let failed = |error| (Fault::of_disk("sync", &error), true);
            self.blobs.sync_incoming().map_err(failed)?;
        }
        match transaction.commit() {
            Ok(()) => {
                adopted.into_iter().for_each(NewBlob::place);
                self.epochs.retire(retired);
                Ok(())
            }
            Err(error) => {
                let fault = Fault::of_index(&error);
                let is_sound = fault.code == Code::StorageFull;
                if !is_sound {
                    // Whether the disk has it is not known; the next start finds out.
                    tracing::error!(%error, "The index cannot be trusted; the store stops");
                    adopted.into_iter().for_each(NewBlob::leave);
                }
                Err((fault, is_sound))
            }
        }
    }

    fn remove_garbage(&mut self) {
        let released = self.epochs.released();
        for blobs in released.chunks(REMOVED_PER_BATCH_MAX) {
            if let Err(error) = self.remove(blobs) {
                tracing::warn!(%error, "Files that nothing needs are left for the next start");
            }
        }
    }

    fn remove(&mut self, blobs: &[BlobId]) -> Result<(), IndexError> {
        for blob in blobs {
            self.blobs.remove(*blob)?;
        }
        // Not worth waiting for the disk: removing twice does no harm.
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        let outcome = objects::forget_garbage(&mut self.connection, blobs);
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(outcome?)
    }
}

/// Clears away what a process that died has left unfinished; returns how many files were removed.
///
/// # Errors
/// The disk or the database failed.
pub(crate) fn recover(connection: &mut Connection, blobs: &Blobs) -> Result<usize, IndexError> {
    let garbage = objects::garbage(connection)?;
    for blob in &garbage {
        blobs.remove(*blob)?;
    }
    objects::forget_garbage(connection, &garbage)?;
    let left = blobs.recover(|blob| Ok::<_, IndexError>(objects::is_known(connection, blob)?))?;
    Ok(garbage.len() + left)
}

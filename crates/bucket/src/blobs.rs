//! The bytes of objects, as files whose names say nothing: they are never changed, only made whole
//! and removed. What they belong to stands in the index.
//!
//! ```text
//! incoming/<id>       being written, or whole and perhaps not yet known to the index
//! content/<x>/<id>    known to the index
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::checksum::{hex, unhex};

const INCOMING: &str = "incoming";
const CONTENT: &str = "content";
/// Directories that files are spread over: 100,000 objects make 6,000 files in each.
const SHARDS: u16 = 16;
/// A file that moves from `incoming` is looked for this often; it moves once.
const OPEN_TRIES: usize = 3;

/// The name of a file; drawn at random, so it never comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlobId([u8; 16]);

impl BlobId {
    /// Draws a name.
    ///
    /// # Errors
    /// The machine has no random numbers.
    pub(crate) fn draw() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    fn read(name: &str) -> Option<Self> {
        unhex(name)?.try_into().ok().map(Self)
    }
}

impl std::fmt::Display for BlobId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl ToSql for BlobId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for BlobId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        bytes.try_into().map(Self).map_err(|_error| FromSqlError::InvalidType)
    }
}

/// The files of a store.
#[derive(Debug)]
pub(crate) struct Blobs {
    incoming: PathBuf,
    content: PathBuf,
}

impl Blobs {
    /// Opens the directories, or makes them.
    ///
    /// # Errors
    /// They cannot be made.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let blobs = Self { incoming: root.join(INCOMING), content: root.join(CONTENT) };
        make_directory(&blobs.incoming)?;
        make_directory(&blobs.content)?;
        for shard in 0..SHARDS {
            make_directory(&blobs.content.join(format!("{shard:x}")))?;
        }
        for directory in [&blobs.content, root] {
            sync_directory(directory)?;
        }
        Ok(blobs)
    }

    /// Begins a file.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn begin(self: &Arc<Self>) -> io::Result<(NewBlob, File)> {
        let id = BlobId::draw()?;
        let blob = NewBlob { id, blobs: Arc::clone(self), is_removed_on_drop: true };
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(self.incoming_path(id))?;
        Ok((blob, file))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// It is not there, or cannot be opened.
    pub(crate) fn open_for_reading(&self, id: BlobId) -> io::Result<File> {
        let mut outcome = File::open(self.content_path(id));
        for _ in 1..OPEN_TRIES {
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => break,
            }
            // It is known to the index, and about to be moved.
            outcome =
                File::open(self.incoming_path(id)).or_else(|_| File::open(self.content_path(id)));
        }
        outcome
    }

    /// Removes a file; it may be gone already.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(&self, id: BlobId) -> io::Result<()> {
        for path in [self.content_path(id), self.incoming_path(id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes sure that the names of new files outlive a power cut.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn sync_incoming(&self) -> io::Result<()> {
        sync_directory(&self.incoming)
    }

    /// Goes through what a process that died has left: files that the index knows are put in their
    /// place, all others are removed. Returns how many were removed.
    ///
    /// # Errors
    /// The disk or `is_known` failed.
    pub(crate) fn recover<E: From<io::Error>>(
        &self,
        mut is_known: impl FnMut(BlobId) -> Result<bool, E>,
    ) -> Result<usize, E> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.incoming)? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(BlobId::read);
            match id {
                Some(id) if is_known(id)? => fs::rename(entry.path(), self.content_path(id))?,
                _ => {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn incoming_path(&self, id: BlobId) -> PathBuf {
        self.incoming.join(id.to_string())
    }

    fn content_path(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        self.content.join(name.get(..1).unwrap_or("0")).join(&name)
    }
}

/// A file that the index does not know yet; dropping it removes it.
#[derive(Debug)]
pub(crate) struct NewBlob {
    id: BlobId,
    blobs: Arc<Blobs>,
    is_removed_on_drop: bool,
}

impl NewBlob {
    /// Returns its name.
    pub(crate) const fn id(&self) -> BlobId {
        self.id
    }

    /// Puts the file in its place, now that the index knows it.
    ///
    /// When that fails it stays where it is: readers find it there, and the next start moves it.
    pub(crate) fn place(mut self) {
        self.is_removed_on_drop = false;
        let (from, to) = (self.blobs.incoming_path(self.id), self.blobs.content_path(self.id));
        if let Err(error) = fs::rename(from, to) {
            tracing::warn!(id = %self.id, %error, "A file of the store stays where it came in");
        }
    }

    /// Leaves the file for the next start, because nobody knows whether the index knows it.
    pub(crate) fn leave(mut self) {
        self.is_removed_on_drop = false;
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.is_removed_on_drop {
            return;
        }
        let path = self.blobs.incoming_path(self.id);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(id = %self.id, %error, "A file of the store waits for the next start");
            }
            _ => {}
        }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

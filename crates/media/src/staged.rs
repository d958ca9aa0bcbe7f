//! The content of a file while it is written: a local file, and a note beside it that lets the next
//! daemon go on when this one is killed.
//!
//! It has one of two forms. A *tail* is what was appended to a version in the bucket, so appending
//! needs no download, and when somebody else appends at the same time, both tails are kept. *Whole*
//! is everything, for any other change.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::path::MediaPath;
use crate::version::Version;

/// How much is compared to know an append again that was done before the daemon was killed.
const RESENT_BYTES_MAX: usize = 1024 * 1024;

/// What the local file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// What comes after a version; after nothing when there is none.
    Tail(Option<Version>),
    /// Everything.
    Whole,
}

/// What is known of the content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) form: Form,
    /// How long the local file is, in bytes.
    #[serde(skip)]
    pub(crate) length: u64,
    /// Counts the changes.
    pub(crate) changes: u64,
    /// The count of changes when the content was last stored.
    pub(crate) stored: u64,
    /// The time of the last change.
    pub(crate) modified: SystemTime,
    /// The permission bits; `None` for the usual ones.
    pub(crate) mode: Option<u16>,
    /// Whether the time was set rather than taken.
    pub(crate) is_time_set: bool,
}

/// Content that is being written.
#[derive(Debug)]
pub(crate) struct Staged {
    directory: PathBuf,
    id: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Arc<File>,
    progress: Progress,
}

/// The content at one moment.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) form: Form,
    /// How long the local file is, in bytes.
    pub(crate) length: u64,
    file: Arc<File>,
}

/// What a note says; it is all that the next daemon knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) path: Option<MediaPath>,
    pub(crate) stored: Option<Version>,
    pub(crate) progress: Progress,
}

impl Staged {
    /// Makes the local file, empty. `now` is the time of the change.
    pub(crate) fn create(
        directory: &Path,
        id: u64,
        form: Form,
        mode: Option<u16>,
        now: SystemTime,
    ) -> io::Result<Self> {
        let file = open(&data_path(directory, id), true)?;
        let progress = Progress {
            form,
            length: 0,
            changes: 0,
            stored: 0,
            modified: now,
            mode,
            is_time_set: false,
        };
        Ok(Self::with(directory, id, file, progress))
    }

    /// Takes over what an earlier daemon wrote.
    pub(crate) fn restore(directory: &Path, note: &Note) -> io::Result<Self> {
        let file = open(&data_path(directory, note.id), false)?;
        let metadata = file.metadata()?;
        let mut progress = note.progress.clone();
        progress.length = metadata.len();
        // Notes are written when content becomes changed, not at every change after that.
        if progress.changes > progress.stored && !progress.is_time_set {
            progress.modified = metadata.modified()?;
        }
        Ok(Self::with(directory, note.id, file, progress))
    }

    fn with(directory: &Path, id: u64, file: File, progress: Progress) -> Self {
        Self {
            directory: directory.to_owned(),
            id,
            state: Mutex::new(State { file: Arc::new(file), progress }),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.lock().progress.clone()
    }

    pub(crate) fn view(&self) -> View {
        let state = self.lock();
        let Progress { form, length, .. } = &state.progress;
        View { form: form.clone(), length: *length, file: Arc::clone(&state.file) }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        let state = self.lock();
        state.progress.changes > state.progress.stored
    }

    /// Returns how long the file is as programs see it.
    pub(crate) fn size(&self) -> u64 {
        self.lock().progress.size()
    }

    /// Counts a change; returns whether it is the first since the content was stored, so that a note
    /// is due.
    pub(crate) fn change(&self, now: SystemTime) -> bool {
        let progress = &mut self.lock().progress;
        let is_first = progress.changes == progress.stored;
        progress.changes += 1;
        progress.modified = now;
        progress.is_time_set = false;
        is_first
    }

    /// Sets what is not content.
    pub(crate) fn set_attributes(&self, modified: Option<SystemTime>, mode: Option<Option<u16>>) {
        let progress = &mut self.lock().progress;
        if let Some(modified) = modified {
            progress.modified = modified;
            progress.is_time_set = true;
        }
        if let Some(mode) = mode {
            progress.mode = mode;
        }
        progress.changes += 1;
    }

    /// Writes at a place of the local file.
    pub(crate) fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let file = Arc::clone(&self.lock().file);
        file.write_all_at(data, offset)?;
        let end = offset + u64::try_from(data.len()).unwrap_or_default();
        let progress = &mut self.lock().progress;
        progress.length = progress.length.max(end);
        Ok(())
    }

    /// Writes at the end; `is_resent` when an earlier daemon may have done it already, and `offset`
    /// is where the kernel expects it.
    pub(crate) fn append(&self, data: &[u8], offset: u64, is_resent: bool) -> io::Result<()> {
        let bytes = u64::try_from(data.len()).unwrap_or_default();
        // Held while it is written, so that no two appends get the same place.
        let State { file, progress } = &mut *self.lock();
        if is_resent && progress.length >= bytes {
            let size = progress.size();
            let is_done = offset + bytes == size
                || (offset != size && ends_with(file, progress.length - bytes, data)?);
            if is_done {
                return Ok(());
            }
        }
        file.write_all_at(data, progress.length)?;
        progress.length += bytes;
        Ok(())
    }

    /// Cuts or extends the local file.
    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        let State { file, progress } = &mut *self.lock();
        file.set_len(length)?;
        progress.length = length;
        Ok(())
    }

    /// Makes the local file everything, and empty.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.set_length(0)?;
        self.lock().progress.form = Form::Whole;
        Ok(())
    }

    /// Returns a new file beside the local one, to be made everything.
    pub(crate) fn open_replacement(&self) -> io::Result<File> {
        open(&self.replacement_path(), true)
    }

    /// Makes the replacement the local file.
    pub(crate) fn replace(&self, file: File) -> io::Result<()> {
        let length = file.metadata()?.len();
        fs::rename(self.replacement_path(), data_path(&self.directory, self.id))?;
        let mut state = self.lock();
        state.file = Arc::new(file);
        (state.progress.form, state.progress.length) = (Form::Whole, length);
        Ok(())
    }

    /// Takes a tail to be everything, as it is when nothing comes before it.
    pub(crate) fn become_whole(&self) {
        self.lock().progress.form = Form::Whole;
    }

    /// Puts the tail after another version.
    pub(crate) fn rebase(&self, base: Option<Version>) {
        self.lock().progress.form = Form::Tail(base);
    }

    /// Learns that what is stored has another name, and so is another version.
    pub(crate) fn moved(&self, version: &Version) {
        let progress = &mut self.lock().progress;
        if matches!(progress.form, Form::Tail(_)) {
            progress.form = Form::Tail(Some(version.clone()));
        }
    }

    /// Learns that the content as it was after so many changes is stored.
    pub(crate) fn stored(&self, changes: u64, version: &Version) -> io::Result<()> {
        let State { file, progress } = &mut *self.lock();
        progress.stored = changes;
        if matches!(progress.form, Form::Tail(_)) {
            // Readers have views of the old file.
            *file = Arc::new(open(&self.replacement_path(), true)?);
            fs::rename(self.replacement_path(), self.data_path())?;
            (progress.form, progress.length) = (Form::Tail(Some(version.clone())), 0);
        }
        Ok(())
    }

    /// Writes the note for the next daemon.
    pub(crate) fn note(
        &self,
        path: Option<&MediaPath>,
        stored: Option<&Version>,
    ) -> io::Result<()> {
        let note = Note {
            id: self.id,
            path: path.cloned(),
            stored: stored.cloned(),
            progress: self.progress(),
        };
        // Not synced: it outlives the process, and without the machine there is no mount to go on.
        let aside = self.directory.join(format!("{:016x}.note.new", self.id));
        fs::write(&aside, serde_json::to_vec(&note)?)?;
        fs::rename(aside, note_path(&self.directory, self.id))
    }

    /// Returns the local file's path.
    pub(crate) fn data_path(&self) -> PathBuf {
        data_path(&self.directory, self.id)
    }

    /// Removes the local file and the note; whatever is gone already may be.
    pub(crate) fn discard(&self) {
        drop(fs::remove_file(note_path(&self.directory, self.id)));
        drop(fs::remove_file(self.data_path()));
        drop(fs::remove_file(self.replacement_path()));
    }

    fn replacement_path(&self) -> PathBuf {
        self.directory.join(format!("{:016x}.whole", self.id))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Returns how much of the file is not in the local file.
    pub(crate) fn base_size(&self) -> u64 {
        self.form.base_size()
    }

    /// Reads from the local file, less at its end.
    pub(crate) fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let there = self.length.saturating_sub(offset).min(length);
        let mut data = vec![0; usize::try_from(there).unwrap_or_default()];
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + u64::try_from(done).unwrap_or_default();
            match self.file.read_at(rest, at)? {
                0 => break,
                count => done += count,
            }
        }
        data.truncate(done);
        Ok(data)
    }
}

impl Form {
    fn base_size(&self) -> u64 {
        match self {
            Self::Tail(Some(base)) => base.size,
            Self::Tail(None) | Self::Whole => 0,
        }
    }
}

impl Progress {
    /// Returns how long the file is as programs see it.
    pub(crate) fn size(&self) -> u64 {
        self.form.base_size() + self.length
    }
}

/// Reads the notes of an earlier daemon; those that cannot be read, and files without one, go.
pub(crate) fn read_notes(directory: &Path) -> io::Result<Vec<Note>> {
    let mut notes = Vec::new();
    let mut strangers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "note") {
            strangers.push(path);
            continue;
        }
        match fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok()) {
            Some(note) => notes.push(note),
            None => strangers.push(path),
        }
    }
    let known: Vec<PathBuf> = notes.iter().map(|note| data_path(directory, note.id)).collect();
    for path in strangers.iter().filter(|path| !known.contains(path)) {
        fs::remove_file(path)?;
    }
    Ok(notes)
}

fn data_path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:016x}.data"))
}

fn note_path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:016x}.note"))
}

fn open(path: &Path, is_new: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(is_new).truncate(is_new).mode(0o600).open(path)
}

fn ends_with(file: &File, offset: u64, data: &[u8]) -> io::Result<bool> {
    if data.len() > RESENT_BYTES_MAX {
        return Ok(false);
    }
    let mut there = vec![0; data.len()];
    file.read_exact_at(&mut there, offset)?;
    Ok(there == data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    #[test]
    fn what_was_written_is_there_for_the_next_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = MediaPath::from_relative_key("a").unwrap();
        let staged =
            Staged::create(directory.path(), 7, Form::Tail(None), Some(0o600), now()).unwrap();
        assert!(staged.change(now()));
        staged.note(Some(&path), None).unwrap();
        staged.append(b"hello", 0, false).unwrap();
        drop(staged);
        let notes = read_notes(directory.path()).unwrap();
        let note = notes.first().unwrap();
        let staged = Staged::restore(directory.path(), note).unwrap();
        assert_eq!((staged.size(), staged.is_dirty(), note.path.clone()), (5, true, Some(path)));
        staged.discard();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_append_that_is_sent_again_is_done_once() {
        let directory = tempfile::tempdir().unwrap();
        let staged = Staged::create(directory.path(), 7, Form::Tail(None), None, now()).unwrap();
        staged.append(b"line\n", 0, false).unwrap();
        staged.append(b"line\n", 0, true).unwrap();
        assert_eq!(staged.size(), 5, "the kernel expected it where it is");
        staged.append(b"line\n", 5, true).unwrap();
        assert_eq!(staged.size(), 10, "the kernel expected it where nothing was");
        staged.append(b"line\n", 99, true).unwrap();
        assert_eq!(staged.size(), 10, "nobody knows, and it is there");
    }

    #[test]
    fn files_without_a_note_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("0000000000000001.data"), "x").unwrap();
        fs::write(directory.path().join("0000000000000002.note"), "torn").unwrap();
        assert!(read_notes(directory.path()).unwrap().is_empty());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

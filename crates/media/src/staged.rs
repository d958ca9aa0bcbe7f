//! The content of a file while it is written: a local file, and a note beside it that lets the next
//! daemon go on when this one is killed.
//!
//! It has one of two forms. A *tail* is what was appended to a version in the bucket, so appending
//! needs no download, and when somebody else appends at the same time, both tails are kept. *Whole*
//! is everything, for any other change.
//!
//! A tail has a number from its beginning on, which the note has and the object gets. So whoever puts
//! it after another version sees in that how much of it is there already.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nix::fcntl::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use crate::path::MediaPath;
use crate::store::{Appends, TailId};
use crate::version::Version;

/// How much is compared to know an append again that was done before the daemon was killed.
const RESENT_BYTES_MAX: usize = 1024 * 1024;

/// What the local file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// What comes after a version; after nothing when there is none.
    Tail(Option<Version>),
    /// Everything, and the tails of others that are in it.
    Whole(Appends),
}

/// What is known of the content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) form: Form,
    /// Where the content begins in the local file, in bytes. What is before that is stored.
    start: u64,
    /// How long it is from there on, in bytes.
    #[serde(skip)]
    length: u64,
    /// Names the tail in the object.
    tail: TailId,
    /// Counts the local files. One that replaces another takes effect with the note.
    generation: u64,
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
    /// Held while the note is written, so that an older one never replaces a newer one.
    noting: Mutex<()>,
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
    /// Where it begins in the local file, in bytes.
    start: u64,
    /// How long it is from there on, in bytes.
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
        let file = open(&data_path(directory, id, 0), true)?;
        let progress = Progress {
            form,
            start: 0,
            length: 0,
            tail: TailId::draw()?,
            generation: 0,
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
        let file = open(&data_path(directory, note.id, note.progress.generation), false)?;
        let metadata = file.metadata()?;
        let mut progress = note.progress.clone();
        progress.length = metadata.len().saturating_sub(progress.start);
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
            noting: Mutex::default(),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.lock().progress.clone()
    }

    pub(crate) fn view(&self) -> View {
        let state = self.lock();
        let Progress { form, start, length, .. } = &state.progress;
        View { form: form.clone(), start: *start, length: *length, file: Arc::clone(&state.file) }
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

    /// Writes at a place of what is everything.
    pub(crate) fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let (file, start) = {
            let state = self.lock();
            (Arc::clone(&state.file), state.progress.start)
        };
        file.write_all_at(data, start + offset)?;
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
                || (offset != size && ends_with(file, progress.end() - bytes, data)?);
            if is_done {
                return Ok(());
            }
        }
        file.write_all_at(data, progress.end())?;
        progress.length += bytes;
        Ok(())
    }

    /// Cuts or extends what is everything.
    pub(crate) fn set_length(&self, length: u64) -> io::Result<()> {
        let State { file, progress } = &mut *self.lock();
        file.set_len(progress.start + length)?;
        progress.length = length;
        Ok(())
    }

    /// Makes the local file everything, and empty; a note is due.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.set_length(0)?;
        self.become_whole();
        Ok(())
    }

    /// Returns a new file beside the local one, to be made everything.
    pub(crate) fn open_replacement(&self) -> io::Result<File> {
        open(&self.replacement_path(), true)
    }

    /// Makes the replacement the local file; a note is due.
    pub(crate) fn replace(&self, replacement: File) -> io::Result<()> {
        let end = replacement.metadata()?.len();
        let State { file, progress } = &mut *self.lock();
        *file = Arc::new(replacement);
        progress.generation += 1;
        (progress.start, progress.length) = (0, end);
        progress.form = Form::Whole(progress.form.appends());
        Ok(())
    }

    /// Takes a tail to be everything, as it is when nothing comes before it; a note is due.
    pub(crate) fn become_whole(&self) {
        let progress = &mut self.lock().progress;
        progress.form = Form::Whole(progress.form.appends());
    }

    /// Puts the tail after another version; a note is due.
    ///
    /// What of it is in that already is not put there again: it was stored, but its answer was lost,
    /// or the daemon was killed before it heard it.
    pub(crate) fn rebase(&self, base: Option<Version>) {
        let progress = &mut self.lock().progress;
        if let Some(base) = &base
            && let Some(stored) = base.appends.bytes_of(progress.tail)
        {
            let count = stored.saturating_sub(progress.start).min(progress.length);
            progress.start += count;
            progress.length -= count;
            if progress.length == 0 && progress.is_described_by(base) {
                progress.stored = progress.changes;
            }
        }
        progress.form = Form::Tail(base);
    }

    /// Learns that what is stored has another name, and so is another version.
    pub(crate) fn moved(&self, version: &Version) {
        let progress = &mut self.lock().progress;
        if matches!(progress.form, Form::Tail(_)) {
            progress.form = Form::Tail(Some(version.clone()));
        }
    }

    /// Learns that the content as it was after so many changes is stored; a note is due.
    pub(crate) fn stored(&self, changes: u64, version: &Version) {
        let progress = &mut self.lock().progress;
        progress.stored = changes;
        if matches!(progress.form, Form::Tail(_)) {
            progress.form = Form::Tail(Some(version.clone()));
            (progress.start, progress.length) = (progress.end(), 0);
        }
    }

    /// Writes the note for the next daemon, and frees the disk of what that will not need.
    pub(crate) fn note(
        &self,
        path: Option<&MediaPath>,
        stored: Option<&Version>,
    ) -> io::Result<()> {
        let _noting = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        let note = Note {
            id: self.id,
            path: path.cloned(),
            stored: stored.cloned(),
            progress: self.progress(),
        };
        // Not synced: it outlives the process, and without the machine there is no mount to go on.
        let aside = self.directory.join(format!("{:016x}.note.new", self.id));
        fs::write(&aside, serde_json::to_vec(&note)?)?;
        fs::rename(aside, note_path(&self.directory, self.id))?;
        self.free(&note.progress);
        Ok(())
    }

    /// Frees the disk of what is stored, and of an earlier local file. That may be done already, and
    /// not every disk can do it.
    fn free(&self, noted: &Progress) {
        if let Some(earlier) = noted.generation.checked_sub(1) {
            drop(fs::remove_file(data_path(&self.directory, self.id, earlier)));
        }
        let start = i64::try_from(noted.start).unwrap_or_default();
        let state = self.lock();
        if start > 0 && state.progress.generation == noted.generation {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let _ = fallocate(&state.file, hole, 0, start);
        }
    }

    /// Returns the local file's path when that is the content and nothing else.
    pub(crate) fn whole_path(&self) -> Option<PathBuf> {
        let Progress { form, start, generation, .. } = &self.lock().progress;
        let is_whole = matches!(form, Form::Whole(_)) && *start == 0;
        is_whole.then(|| data_path(&self.directory, self.id, *generation))
    }

    /// Removes the local file and the note; whatever is gone already may be.
    pub(crate) fn discard(&self) {
        let generation = self.lock().progress.generation;
        drop(fs::remove_file(note_path(&self.directory, self.id)));
        drop(fs::remove_file(data_path(&self.directory, self.id, generation)));
        drop(fs::remove_file(self.replacement_path()));
    }

    fn replacement_path(&self) -> PathBuf {
        data_path(&self.directory, self.id, self.lock().progress.generation + 1)
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
            let at = self.start + offset + u64::try_from(done).unwrap_or_default();
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
            Self::Tail(None) | Self::Whole(_) => 0,
        }
    }

    fn appends(&self) -> Appends {
        match self {
            Self::Tail(Some(base)) => base.appends.clone(),
            Self::Tail(None) => Appends::default(),
            Self::Whole(appends) => appends.clone(),
        }
    }
}

impl Progress {
    /// Returns how long the file is as programs see it.
    pub(crate) fn size(&self) -> u64 {
        self.form.base_size() + self.length
    }

    /// Returns what the object remembers of tails once the content is stored.
    pub(crate) fn appends(&self) -> Appends {
        match &self.form {
            Form::Tail(_) => self.form.appends().with(self.tail, self.end()),
            Form::Whole(appends) => appends.clone(),
        }
    }

    /// Returns where the content ends in the local file.
    fn end(&self) -> u64 {
        self.start + self.length
    }

    /// Returns whether a version has what is not content as it is to be.
    fn is_described_by(&self, version: &Version) -> bool {
        self.mode == version.mode && (!self.is_time_set || self.modified == version.modified)
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
    let known: Vec<PathBuf> =
        notes.iter().map(|note| data_path(directory, note.id, note.progress.generation)).collect();
    for path in strangers.iter().filter(|path| !known.contains(path)) {
        fs::remove_file(path)?;
    }
    Ok(notes)
}

fn data_path(directory: &Path, id: u64, generation: u64) -> PathBuf {
    directory.join(format!("{id:016x}-{generation}.data"))
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

    /// The version that an object has after everything was stored.
    fn version_with(staged: &Staged, etag: &str) -> Version {
        let progress = staged.progress();
        Version {
            etag: etag.to_owned(),
            size: progress.size(),
            modified: progress.modified,
            mode: progress.mode,
            appends: progress.appends(),
        }
    }

    fn content(staged: &Staged) -> Vec<u8> {
        staged.view().read(0, 1000).unwrap()
    }

    #[test]
    fn a_tail_that_was_stored_before_a_kill_is_not_stored_again() {
        let directory = tempfile::tempdir().unwrap();
        let staged = Staged::create(directory.path(), 7, Form::Tail(None), None, now()).unwrap();
        staged.change(now());
        staged.note(None, None).unwrap();
        staged.append(b"one\n", 0, false).unwrap();
        let version = version_with(&staged, "1");
        drop(staged);
        let restore = || {
            let notes = read_notes(directory.path()).unwrap();
            Staged::restore(directory.path(), notes.first().unwrap()).unwrap()
        };
        let staged = restore();
        staged.rebase(Some(version.clone()));
        assert!(!staged.is_dirty());
        assert_eq!((staged.size(), content(&staged)), (4, Vec::new()));
        // And when something was written since, that is all that is left.
        let staged = restore();
        staged.change(now());
        staged.append(b"two\n", 4, false).unwrap();
        staged.rebase(Some(version));
        assert!(staged.is_dirty());
        assert_eq!((staged.size(), content(&staged)), (8, b"two\n".to_vec()));
    }

    #[test]
    fn a_tail_goes_after_what_others_have_appended() {
        let directory = tempfile::tempdir().unwrap();
        let staged = Staged::create(directory.path(), 7, Form::Tail(None), None, now()).unwrap();
        let other = Staged::create(directory.path(), 8, Form::Tail(None), None, now()).unwrap();
        other.append(b"other\n", 0, false).unwrap();
        staged.change(now());
        staged.append(b"one\n", 0, false).unwrap();
        staged.rebase(Some(version_with(&other, "1")));
        assert!(staged.is_dirty());
        assert_eq!((staged.size(), content(&staged)), (10, b"one\n".to_vec()));
        let version = version_with(&staged, "2");
        staged.stored(1, &version);
        assert!(!staged.is_dirty());
        // The other one's answer was lost; its lines are told from the later ones.
        other.change(now());
        other.rebase(Some(version));
        assert!(!other.is_dirty());
        assert_eq!((other.size(), content(&other)), (10, Vec::new()));
    }

    #[test]
    fn a_stored_tail_that_is_described_otherwise_is_still_to_be_stored() {
        let directory = tempfile::tempdir().unwrap();
        let staged = Staged::create(directory.path(), 7, Form::Tail(None), None, now()).unwrap();
        staged.append(b"one\n", 0, false).unwrap();
        let version = version_with(&staged, "1");
        staged.set_attributes(None, Some(Some(0o600)));
        staged.rebase(Some(version));
        assert_eq!((staged.is_dirty(), content(&staged)), (true, Vec::new()));
    }

    #[test]
    fn what_is_stored_takes_no_room_on_the_disk() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let staged = Staged::create(directory.path(), 7, Form::Tail(None), None, now()).unwrap();
        let piece = vec![b'x'; 256 * 1024];
        for round in 1..=4 {
            staged.change(now());
            staged.append(&piece, staged.size(), false).unwrap();
            staged.stored(round, &version_with(&staged, "1"));
            staged.note(None, None).unwrap();
        }
        staged.append(b"end", staged.size(), false).unwrap();
        assert_eq!((staged.size(), content(&staged)), (4 * 256 * 1024 + 3, b"end".to_vec()));
        let blocks = fs::metadata(data_path(directory.path(), 7, 0)).unwrap().blocks();
        assert!(blocks * 512 < 256 * 1024, "{blocks} blocks");
    }

    #[test]
    fn a_replacement_takes_effect_with_its_note() {
        let directory = tempfile::tempdir().unwrap();
        let staged = Staged::create(directory.path(), 7, Form::Tail(None), None, now()).unwrap();
        staged.append(b"tail", 0, false).unwrap();
        staged.note(None, None).unwrap();
        let restore = || {
            let notes = read_notes(directory.path()).unwrap();
            Staged::restore(directory.path(), notes.first().unwrap()).unwrap()
        };
        let replace = |staged: &Staged| {
            let file = staged.open_replacement().unwrap();
            file.write_all_at(b"whole", 0).unwrap();
            staged.replace(file).unwrap();
        };
        replace(&staged);
        assert_eq!((content(&restore()), restore().whole_path()), (b"tail".to_vec(), None));
        replace(&staged);
        staged.note(None, None).unwrap();
        assert_eq!(
            (content(&restore()), restore().whole_path().is_some()),
            (b"whole".to_vec(), true)
        );
        restore().discard();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
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

//! Going on where an earlier daemon was killed: the kernel still knows its numbers, and programs
//! still have files open.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::Volume;
use crate::nodes::Kind;
use crate::path::MediaPath;
use crate::staged::{Note, Staged, read_notes};

impl Volume {
    /// Puts back the nodes of what is cached and of what was being written. The kernel will ask about
    /// some of them; to a question about any other the answer is that it should look again.
    pub(super) fn restore(&self) -> io::Result<()> {
        let mut directories = BTreeSet::new();
        let headers: Vec<_> = self.cache().shelf().headers().cloned().collect();
        for header in headers {
            directories.insert(header.path.parent());
            let version = Some(header.version);
            self.nodes().restore(header.node, &header.path, Kind::File, version);
        }
        for note in read_notes(&self.options().staging_directory())? {
            if let Some(path) = &note.path {
                directories.insert(path.parent());
            }
            self.restore_staged(&note)?;
        }
        for directory in directories {
            self.restore_directories(directory);
        }
        Ok(())
    }

    fn restore_staged(&self, note: &Note) -> io::Result<()> {
        let directory = self.options().staging_directory();
        let staged = match Staged::restore(&directory, note) {
            Ok(staged) => staged,
            Err(error) => {
                tracing::error!(%error, path = ?note.path, "What was being written to a media file is lost");
                return Ok(());
            }
        };
        let node = self.nodes().restore_written(note.id, note.path.as_ref(), note.stored.clone());
        let mut state = node.lock();
        state.staged = Some(Arc::new(staged));
        // Open as often as the kernel says when it lets go; at least once, or it would be gone.
        (state.handles, state.writers) = (1, 1);
        Ok(())
    }

    fn restore_directories(&self, mut directory: MediaPath) {
        while !directory.is_root() {
            self.nodes().restore(directory.directory_id(), &directory, Kind::Directory, None);
            directory = directory.parent();
        }
    }
}

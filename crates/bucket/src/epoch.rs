//! Keeps the files of an object until the last reader that may have seen it is done.
//!
//! A reader enters before it asks the index, and leaves when it has read all. Files that a change
//! has made garbage are removed when everybody has left who entered before the change.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::blobs::BlobId;

/// Holds a reader's place; dropping it is leaving.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    _epoch: Arc<()>,
}

/// Who reads, and what waits for it to end.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Arc<()>,
    waiting: VecDeque<(Arc<()>, Vec<BlobId>)>,
}

impl Epochs {
    /// Enters as a reader.
    pub(crate) fn enter(&self) -> Reading {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Reading { _epoch: Arc::clone(&state.current) }
    }

    /// Takes what no object has any more; the change that made it so must be visible already.
    pub(crate) fn retire(&self, blobs: Vec<BlobId>) {
        if blobs.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut state.current);
        state.waiting.push_back((before, blobs));
    }

    /// Returns what nobody can be reading any more.
    pub(crate) fn released(&self) -> Vec<BlobId> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut released = Vec::new();
        // In order: who entered earlier may be reading what was retired later.
        while let Some((epoch, _)) = state.waiting.front() {
            if Arc::strong_count(epoch) > 1 {
                break;
            }
            released.extend(state.waiting.pop_front().into_iter().flat_map(|(_, blobs)| blobs));
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::Epochs;
    use crate::blobs::BlobId;

    fn blob() -> BlobId {
        BlobId::draw().unwrap()
    }

    #[test]
    fn what_nobody_reads_is_released_at_once() {
        let (epochs, one) = (Epochs::default(), blob());
        epochs.retire(vec![one]);
        assert_eq!(epochs.released(), [one]);
        assert_eq!(epochs.released(), []);
    }

    #[test]
    fn a_reader_keeps_what_is_retired_while_it_reads() {
        let (epochs, one, two) = (Epochs::default(), blob(), blob());
        let early = epochs.enter();
        epochs.retire(vec![one]);
        let late = epochs.enter();
        epochs.retire(vec![two]);
        assert_eq!(epochs.released(), []);
        drop(late);
        assert_eq!(epochs.released(), []);
        drop(early);
        assert_eq!(epochs.released(), [one, two]);
    }

    #[test]
    fn a_reader_does_not_keep_what_was_retired_before() {
        let (epochs, one) = (Epochs::default(), blob());
        epochs.retire(vec![one]);
        let _late = epochs.enter();
        assert_eq!(epochs.released(), [one]);
    }
}

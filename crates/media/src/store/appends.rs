//! What an object remembers of the tails that were appended to it, so that one whose answer was lost
//! is known again and not appended twice, even when others have appended since.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// How many tails an object remembers, the last ones. Each takes at most 29 bytes, so all of them
/// take less than half of what an object's metadata may have (2 KiB).
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
pub(crate) const TAILS_MAX: usize = 32;

/// Names a tail: all that is appended to one file through one local file, among those of all
/// instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TailId(u64);

/// The tails that are in an object, and how many bytes of each; the newest is the first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Appends(Vec<(TailId, u64)>);

impl TailId {
    /// Draws a new one.
    ///
    /// # Errors
    /// There are no random numbers. One that is not random could be taken for another one's.
    pub(crate) fn draw() -> io::Result<Self> {
        getrandom::u64().map(Self).map_err(|error| io::Error::other(error.to_string()))
    }
}

impl Appends {
    /// Returns how many bytes of a tail are there; `None` when it is not known, or not any more.
    pub(crate) fn bytes_of(&self, tail: TailId) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == tail).map(|(_, bytes)| *bytes)
    }

    /// Returns the same after so many bytes of a tail are there.
    pub(crate) fn with(&self, tail: TailId, bytes: u64) -> Self {
        let others = self.0.iter().copied().filter(|(known, _)| *known != tail);
        Self(std::iter::once((tail, bytes)).chain(others).take(TAILS_MAX).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the text of metadata; what cannot be understood counts as absent.
    pub(super) fn read(text: &str) -> Self {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let tails = text.split_whitespace().filter_map(|entry| {
            let (tail, bytes) = entry.split_once('-')?;
            Some((TailId(number(tail)?), number(bytes)?))
        });
        Self(tails.take(TAILS_MAX).collect())
    }
}

impl fmt::Display for Appends {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (TailId(tail), bytes)) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(formatter, "{space}{tail:016x}-{bytes:x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tails_are_remembered_each_once() {
        let mut appends = Appends::default().with(TailId(0), 1);
        for tail in 1..u64::try_from(TAILS_MAX).unwrap() {
            appends = appends.with(TailId(tail), 10 * tail);
        }
        assert_eq!(appends.bytes_of(TailId(0)), Some(1));
        // More of the same tail takes no other one's place.
        appends = appends.with(TailId(7), 99);
        assert_eq!(appends.bytes_of(TailId(0)), Some(1));
        assert_eq!(appends.bytes_of(TailId(7)), Some(99));
        appends = appends.with(TailId(500), 1);
        assert_eq!(appends.bytes_of(TailId(0)), None);
        assert_eq!(appends.bytes_of(TailId(1)), Some(10));
    }

    #[test]
    fn what_is_written_is_read_back_and_leaves_room_for_other_metadata() {
        let largest_object = 5 * 1024 * 1024 * 1024 * 1024;
        let appends = (0..100).fold(Appends::default(), |appends, tail| {
            appends.with(TailId(u64::MAX - tail), largest_object)
        });
        let text = appends.to_string();
        assert_eq!(Appends::read(&text), appends);
        assert!(text.len() < 1024, "{} bytes", text.len());
    }

    #[test]
    fn text_of_others_is_passed_over() {
        let appends = Appends::default().with(TailId(2), 3);
        assert_eq!(Appends::read("x 1 - 1- 0000000000000002-3 g-1"), appends);
        assert_eq!(Appends::read(""), Appends::default());
    }
}

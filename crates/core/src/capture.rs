//! What people changed in the workshop becomes a commit: when it may, what the commit says, what of it
//! is an alarm, and how it meets commits that were pushed meanwhile.
//!
//! Everything here is decided from paths, versions and times that the foreman has read. Which paths
//! belong in a commit at all is not decided here.

mod alarm;
mod header;
pub mod merge;
mod message;
mod part;
mod record;
pub mod rest;

pub use alarm::{Alarm, alarms, is_php_below_uploads};
pub use header::{HEADER_BYTES_MAX, is_plugin, version, wordpress_version};
pub use message::{Message, Package, Packages, Versions, describe};
pub use part::{Kind, Part};
pub use record::{CaptureNumber, CaptureRecord, CaptureState};

/// How a path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It was not there before.
    Added,
    /// It has other bytes, another mode or another type.
    Edited,
    /// It is gone.
    Deleted,
}

/// One path that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path from the root of the site; not necessarily UTF-8.
    pub path: Vec<u8>,
    /// How it changed.
    pub happened: Happened,
}

/// Writes a path or name for people: on one line, and not without end.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 120;
    let text = String::from_utf8_lossy(bytes);
    let mut characters = text.chars().map(|one| if one.is_control() { '?' } else { one });
    let mut shown: String = characters.by_ref().take(CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

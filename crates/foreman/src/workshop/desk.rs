//! The desk of the workshop: notes that PHP leaves for the foreman, of who changes code and of what
//! people decide about captures. PHP can put anything there, so nothing of it is believed but that.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flotilla_core::api::Verdict;
use flotilla_core::capture::CaptureNumber;
use nix::libc;
use serde::Deserialize;

use crate::repository::Author;

/// A longer note is none.
const NOTE_BYTES_MAX: u64 = 4096;
/// How many notes are read at a time; what is beyond is read the next time.
const NOTES_MAX: usize = 1000;
const NAME_CHARACTERS_MAX: usize = 100;

/// A note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// Who wrote it.
    pub(super) author: Author,
    /// What is decided about which capture, when it is not just about who changes code.
    pub(super) verdict: Option<(Verdict, CaptureNumber)>,
}

#[derive(Debug, Deserialize)]
struct Written {
    name: String,
    email: String,
    ask: Option<Verdict>,
    #[serde(default)]
    capture: u64,
}

/// Takes all notes, oldest first.
pub(super) fn take(directory: &Path) -> Vec<Note> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let is_note = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    let paths = entries.flatten().map(|entry| entry.path()).filter(is_note);
    let mut paths: Vec<PathBuf> = paths.take(NOTES_MAX).collect();
    // Their names begin with the time.
    paths.sort_unstable();
    let mut notes = Vec::new();
    for path in paths {
        let note = read(&path);
        // One that cannot be removed would be read for ever.
        if std::fs::remove_file(&path).is_ok() {
            notes.extend(note);
        }
    }
    notes
}

fn read(path: &Path) -> Option<Note> {
    // What PHP puts there is not followed, and a pipe would keep whoever opens it waiting.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(NOTE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let written: Written = serde_json::from_str(&text).ok()?;
    let author = Author { name: plain(&written.name)?, email: plain(&written.email)? };
    let verdict = written.ask.map(|ask| (ask, CaptureNumber(written.capture)));
    Some(Note { author, verdict })
}

/// Returns what git takes as a name or an address.
fn plain(text: &str) -> Option<String> {
    let is_kept = |one: &char| !one.is_control() && !matches!(one, '<' | '>');
    let plain: String = text.chars().filter(is_kept).take(NAME_CHARACTERS_MAX).collect();
    let plain = plain.trim().to_owned();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_taken_once_oldest_first_and_nonsense_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        write("2.json", r#"{"name":"Eve <x>\n","email":"eve@shop.example"}"#);
        write("1.json", r#"{"name":"maria","email":"m@shop.example","ask":"revert","capture":7}"#);
        write("3.json", "not JSON");
        write("4.json", r#"{"name":"","email":"nobody"}"#);
        write("5.new", "half");
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("6.json")).unwrap();
        nix::unistd::mkfifo(
            &directory.path().join("7.json"),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        let author = |name: &str, email: &str| Author { name: name.into(), email: email.into() };
        assert_eq!(
            take(directory.path()),
            [
                Note {
                    author: author("maria", "m@shop.example"),
                    verdict: Some((Verdict::Revert, CaptureNumber(7))),
                },
                Note { author: author("Eve x", "eve@shop.example"), verdict: None },
            ]
        );
        assert_eq!(take(directory.path()), []);
        assert!(directory.path().join("5.new").exists());
    }
}

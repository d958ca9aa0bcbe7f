//! The constants of a `wp-config.php` that came with a site's code: kept beside the repository, since
//! the file itself is never in it. `wordpress.constants` in `flotilla.toml` goes before them.

use std::path::{Path, PathBuf};

use flotilla_core::constants::Constants;
use flotilla_core::wp_config::{Note, Reading, read as read_wp_config};
use flotilla_host::files::{Access, FileError, read_json, write_json};

/// The file's name at the top of a site.
pub const FILE_NAME: &str = "wp-config.php";
/// A configuration is smaller by far.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Names the file in the foreman's directory.
#[must_use]
pub fn path(directory: &Path) -> PathBuf {
    directory.join("wordpress-constants.json")
}

/// Reads what was taken; nothing when there was no such file.
///
/// # Errors
/// The file cannot be read.
pub fn read(directory: &Path) -> Result<Constants, FileError> {
    Ok(read_json(&path(directory))?.unwrap_or_default())
}

/// Reads the configuration that lies in a site's code, if one does.
#[must_use]
pub fn of_site(site: &Path) -> Option<Reading> {
    let file = site.join(FILE_NAME);
    let is_small = std::fs::metadata(&file).is_ok_and(|data| data.len() <= FILE_BYTES_MAX);
    let bytes = if is_small { std::fs::read(&file).ok()? } else { return None };
    Some(read_wp_config(&String::from_utf8_lossy(&bytes)))
}

/// Keeps what was taken; returns whether that is news.
///
/// # Errors
/// The file cannot be written.
pub fn keep(directory: &Path, taken: &Constants) -> Result<bool, FileError> {
    if read(directory)? == *taken {
        return Ok(false);
    }
    write_json(&path(directory), taken, Access::Private)?;
    Ok(true)
}

/// Writes notes for people, a line for each.
#[must_use]
pub fn lines(notes: &[Note]) -> Vec<String> {
    notes.iter().map(|note| format!("line {}: {}: {}", note.line, note.what, note.why)).collect()
}

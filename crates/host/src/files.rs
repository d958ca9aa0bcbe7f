//! Small files that are whole or absent: written aside, synced, renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Says which file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading failed.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("`{path}` is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Who may read a file besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody: mode 0600.
    Private,
    /// Everybody: mode 0644.
    Public,
}

impl Access {
    const fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Replaces a file as a whole; after a crash it has the old or the new content.
///
/// # Errors
/// Names the file when it cannot be written.
pub fn write_atomic(path: &Path, content: &[u8], access: Access) -> Result<(), FileError> {
    let attempt = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = directory.join(format!(".{name}.{}.new", std::process::id()));
        // Left by a process that died and had this number.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(access.mode()).open(&aside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(directory)?.sync_all()
    };
    attempt().map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Returns whether a path is what [`write_atomic`] leaves beside a file of this name when it is
/// killed.
#[must_use]
pub fn is_aside_of(path: &Path, name: &str) -> bool {
    let rest = path.file_name().and_then(|aside| aside.to_str()).and_then(|aside| {
        aside.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".new")
    });
    rest.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Replaces a file with a value as JSON; see [`write_atomic`].
///
/// # Errors
/// Names the file when it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize, access: Access) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|source| FileError::Damaged { path: path.to_owned(), source })?;
    write_atomic(path, &text, access)
}

/// Reads a value from a JSON file; `None` when there is no such file.
///
/// # Errors
/// Names the file when it cannot be read or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| FileError::Damaged { path: path.to_owned(), source })
}

/// Makes a directory and its parents, if they are not there.
///
/// # Errors
/// Names the directory when it cannot be made.
pub fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Makes an empty file, if it is not there.
///
/// # Errors
/// Names the file when it cannot be made.
pub fn make_file(path: &Path) -> Result<(), FileError> {
    let outcome = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
    outcome.map(drop).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Returns the last lines of a log file, at most `lines`; empty when it cannot be read.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    const TAIL_BYTES_MAX: usize = 64 * 1024;
    let Ok(content) = fs::read(path) else { return String::new() };
    let start = content.len().saturating_sub(TAIL_BYTES_MAX);
    let text = String::from_utf8_lossy(content.get(start..).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

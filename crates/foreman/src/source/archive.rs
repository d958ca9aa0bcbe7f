//! Unpacks a zip that nobody has to trust: no path leaves the directory, and all sizes are bounded.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::SourceError;

const ENTRIES_MAX: usize = 100_000;
const BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Unpacks into an empty directory. Blocks.
pub(super) fn unpack(path: &Path, into: &Path) -> Result<(), SourceError> {
    let zip_error = |source| SourceError::Zip { path: path.to_owned(), source };
    let file = File::open(path).map_err(SourceError::file("open", path))?;
    let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(zip_error)?;
    if archive.len() > ENTRIES_MAX {
        return Err(SourceError::TooLarge { path: path.to_owned(), limit: "100000 entries" });
    }
    let mut left = BYTES_MAX;
    for number in 0..archive.len() {
        let mut entry = archive.by_index(number).map_err(zip_error)?;
        let name = entry.name().map_err(zip_error)?.into_owned();
        let refuse =
            |problem| SourceError::Entry { path: path.to_owned(), entry: name.clone(), problem };
        let relative = inside(&name).ok_or_else(|| refuse("leads out of the directory"))?;
        if entry.is_symlink() {
            return Err(refuse("is a symbolic link"));
        }
        let target = into.join(relative);
        if entry.is_dir() {
            std::fs::create_dir_all(&target).map_err(SourceError::file("create", &target))?;
            continue;
        }
        let is_executable = entry.unix_mode().is_some_and(|mode| mode & 0o100 != 0);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(SourceError::file("create", parent))?;
        }
        let written = write(&mut entry, &target, left, is_executable).map_err(|error| {
            // What is wrong with the zip comes as an error of its reader, such as a bad checksum.
            if error.raw_os_error().is_some() {
                SourceError::file("write", &target)(error)
            } else {
                zip_error(ZipError::Io(error))
            }
        })?;
        left = left
            .checked_sub(written)
            .ok_or_else(|| SourceError::TooLarge { path: path.to_owned(), limit: "2 GiB" })?;
    }
    Ok(())
}

/// Writes one entry and returns its size, which may be one more than what is left.
fn write(entry: &mut impl Read, target: &Path, left: u64, is_executable: bool) -> io::Result<u64> {
    let mut file = File::create(target)?;
    let written = io::copy(&mut entry.take(left + 1), &mut file)?;
    let mode = if is_executable { 0o755 } else { 0o644 };
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(written)
}

/// Returns the path of an entry when it stays inside.
fn inside(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let is_plain = path.components().all(|one| matches!(one, Component::Normal(_)));
    let is_named = !name.is_empty() && !name.contains(['\0', '\\']);
    (is_plain && is_named).then(|| path.to_owned())
}

/// Returns the directory itself, or the only one in it: most zips have `wordpress/` at their top.
pub(super) async fn strip_single_directory(directory: &Path) -> Result<PathBuf, SourceError> {
    let fail = || SourceError::file("read", directory);
    let mut entries = tokio::fs::read_dir(directory).await.map_err(fail())?;
    let mut only = None;
    while let Some(entry) = entries.next_entry().await.map_err(fail())? {
        if entry.file_name() == "__MACOSX" {
            continue;
        }
        let is_directory = entry.file_type().await.map_err(fail())?.is_dir();
        if only.is_some() || !is_directory {
            return Ok(directory.to_owned());
        }
        only = Some(entry.path());
    }
    Ok(only.unwrap_or_else(|| directory.to_owned()))
}

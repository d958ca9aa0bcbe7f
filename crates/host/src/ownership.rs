//! Whose a file is: root hands files that PHP must read or write to PHP's user.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, chown};

use crate::files::{FileError, make_directory};
use crate::launch::find_user;

/// Gives a file or directory to a user; does nothing where this process is not root.
///
/// # Errors
/// There is no such user or the file system refuses.
pub fn give_to(path: &Path, user: Option<&str>) -> Result<(), FileError> {
    let Some((uid, gid)) = owner(path, user)? else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).map_err(|errno| failed(path, errno.into()))
}

/// Returns whom files in a directory are to be given to; `None` where this process is not root.
///
/// # Errors
/// There is no such user.
pub fn owner(path: &Path, user: Option<&str>) -> Result<Option<(Uid, Gid)>, FileError> {
    let Some(user) = user.filter(|_| Uid::effective().is_root()) else { return Ok(None) };
    find_user(user).map(Some).map_err(|error| failed(path, io::Error::other(error)))
}

/// Makes a directory that a user may write in and everybody may read, if it is not that already.
///
/// # Errors
/// There is no such user or the file system refuses.
pub fn make_directory_of(path: &Path, user: Option<&str>) -> Result<(), FileError> {
    make_directory(path)?;
    set_mode(path, 0o755)?;
    give_to(path, user)
}

/// Sets the permission bits of a file or directory.
///
/// # Errors
/// The file system refuses.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    set_permissions(path, Permissions::from_mode(mode)).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> FileError {
    FileError::Write { path: path.to_owned(), source }
}

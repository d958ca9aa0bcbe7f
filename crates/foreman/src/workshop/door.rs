//! The door of the workshop: PHP goes in through it for each request, and the foreman changes files
//! only when nobody is inside. It is a lock of the kernel, so whoever dies is out.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_host::files::{FileError, make_file};
use flotilla_host::ownership::set_mode;
use tokio::time::Instant;

/// How long the foreman waits for those inside; then it comes again later.
const WAIT_MAX: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The door; `wordpress/php/workshop.php` has the other side.
#[derive(Debug, Clone)]
pub(super) struct Door {
    path: PathBuf,
}

impl Door {
    /// Makes the door in the directory that PHP sees as `/srv/flotilla/run`.
    pub(super) fn make(run: &Path) -> Result<Self, FileError> {
        let path = run.join("door");
        make_file(&path)?;
        set_mode(&path, 0o644)?;
        Ok(Self { path })
    }

    /// Keeps everybody out for as long as the returned value lives; `None` when somebody stays inside.
    pub(super) async fn close(&self) -> std::io::Result<Option<File>> {
        let file = File::open(&self.path)?;
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_door_is_closed_only_when_nobody_is_inside() {
        let directory = tempfile::tempdir().unwrap();
        let door = Door::make(directory.path()).unwrap();
        let inside = File::open(directory.path().join("door")).unwrap();
        inside.lock_shared().unwrap();
        assert!(door.close().await.unwrap().is_none());
        drop(inside);
        let closed = door.close().await.unwrap();
        assert!(closed.is_some());
        let late = File::open(directory.path().join("door")).unwrap();
        assert!(late.try_lock_shared().is_err());
        drop(closed);
        late.try_lock_shared().unwrap();
    }
}

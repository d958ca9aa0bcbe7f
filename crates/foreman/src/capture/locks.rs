//! Locks of references that a killed git left behind: they would stop every later move.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use flotilla_core::id::Millis;

use super::Captures;
use crate::clock;

impl Captures {
    /// Removes the lock of a reference when it is so old that no git can be at work on it: a git that
    /// lives holds one for milliseconds.
    pub(super) async fn clear_stale_lock(&self, reference: &str) {
        let lock = self.git().directory().join(format!("{reference}.lock"));
        let limit = self.options.lock_age;
        let clear = move || {
            if age(&lock).is_some_and(|age| age > limit) {
                // When it cannot be removed, git says what is in its way.
                drop(std::fs::remove_file(lock));
            }
        };
        drop(tokio::task::spawn_blocking(clear).await);
    }
}

fn age(path: &Path) -> Option<Duration> {
    let modified = std::fs::metadata(path).and_then(|data| data.modified()).ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    let modified = Millis(u64::try_from(since.as_millis()).ok()?);
    Some(clock::now().since(modified))
}

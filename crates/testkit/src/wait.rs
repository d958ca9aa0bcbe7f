//! Waiting for a condition: bounded, and telling the last state that was seen.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What a look at a condition found.
pub type Look<T> = Result<T, String>;

/// Looks again and again until there is a result; returns it.
///
/// # Errors
/// There is none within the limit; what was seen last is told.
pub async fn until<T>(
    what: impl Debug,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Look<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = match look().await {
            Ok(result) => return Ok(result),
            Err(seen) => seen,
        };
        if Instant::now() > deadline {
            bail!("waited {limit:?} for {what:?}; seen last: {seen}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

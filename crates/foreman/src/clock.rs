//! The one place of the foreman that reads the wall clock.

use std::time::UNIX_EPOCH;

use flotilla_core::id::Millis;

/// Returns the present time.
#[must_use]
pub fn now() -> Millis {
    #[expect(clippy::disallowed_methods, reason = "the shell reads the clock and hands it to core")]
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

//! A value that may change while the fleet runs, asked for whenever it is needed.

use std::fmt;
use std::sync::Arc;

/// A value as it is now.
#[derive(Clone)]
pub struct Live<T>(Arc<dyn Fn() -> T + Send + Sync>);

impl<T> Live<T> {
    /// Asks `read` each time.
    pub fn new(read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Returns the value as it is now.
    #[must_use]
    pub fn now(&self) -> T {
        (self.0)()
    }
}

impl<T: Clone + Send + Sync + 'static> Live<T> {
    /// A value that stays as it is.
    pub fn fixed(value: T) -> Self {
        Self::new(move || value.clone())
    }
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Live(…)")
    }
}

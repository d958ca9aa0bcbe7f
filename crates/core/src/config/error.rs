//! What is wrong with a configuration file, and where.

use std::fmt;

use crate::error::{ErrorKind, Failure};

/// One fault of the file. The message says the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ConfigError {
    /// The file, as it was named to [`Config::parse`](super::Config::parse).
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The key, as `section.key`, when the fault belongs to one.
    pub key: Option<String>,
    /// What is wrong and what to write instead. It never holds a secret.
    pub message: String,
}

/// All faults of a file, in its order; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// Returns the faults in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(ErrorKind::Configuration, errors.to_string())
    }
}

/// Shows a text of the file in a message, unless it is long or may hold a password.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().count() > 40 || text.contains('@') {
        "this value".to_owned()
    } else if text.is_empty() {
        "an empty text".to_owned()
    } else {
        format!("`{}`", text.escape_debug())
    }
}

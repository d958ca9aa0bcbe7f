//! The kinds of error at the edge of the program: exit code, HTTP status and hint.

use serde::{Deserialize, Serialize};

/// What sort of failure it is for the person or program that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// The command line is wrong.
    Usage,
    /// `flotilla.toml` or the machine's set-up is wrong.
    Configuration,
    /// The fleet understood and will not do it, for a reason that is told.
    Refused,
    /// Something that is needed does not answer; trying again later may help.
    Unavailable,
    /// It was done in part; what is missing is told.
    Partial,
    /// A fault of flotilla.
    Bug,
}

impl ErrorKind {
    /// All kinds, in the order of the documented table.
    pub const ALL: [Self; 6] = [
        Self::Usage,
        Self::Configuration,
        Self::Refused,
        Self::Unavailable,
        Self::Partial,
        Self::Bug,
    ];

    /// Returns the exit code of the command line.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Refused => 4,
            Self::Unavailable => 5,
            Self::Partial => 6,
            Self::Bug => 70,
        }
    }

    /// Returns the HTTP status of the foreman's answer.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Usage => 400,
            Self::Configuration => 422,
            Self::Refused => 409,
            Self::Unavailable => 503,
            Self::Partial | Self::Bug => 500,
        }
    }

    /// Says in a few words what the kind means, for the reference.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Usage => "the command line is wrong",
            Self::Configuration => "flotilla.toml or the machine's set-up is wrong",
            Self::Refused => "the fleet understood and refused; the message says why",
            Self::Unavailable => "something needed does not answer; trying again may help",
            Self::Partial => "done in part; the message says what is missing",
            Self::Bug => "a fault of flotilla",
        }
    }
}

/// An error as it crosses the wire or reaches the terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind.
    pub kind: ErrorKind,
    /// What failed, lower case, the object in backticks, no full stop.
    pub message: String,
    /// The way out, when one is known.
    pub hint: Option<String>,
}

impl Failure {
    /// Makes a failure without a hint.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Adds the way out.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Writes an error with all its causes, from the outermost to the first.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_differ_and_leave_0_and_1_alone() {
        let mut codes: Vec<u8> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        assert!(codes.iter().all(|code| *code > 1));
    }
}

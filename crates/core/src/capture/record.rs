//! What is remembered of a capture.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Alarm;
use crate::id::{Millis, Revision};

/// Numbers the captures of a site from 1.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CaptureNumber(pub u64);

impl fmt::Display for CaptureNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// What became of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureState {
    /// It is a commit that is not deployed yet.
    PendingReview,
    /// It is in a release that settled.
    Deployed,
    /// It could not be merged or deployed; the commit is kept.
    Failed,
    /// A later commit undoes it.
    Reverted,
}

impl CaptureState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::PendingReview, Self::Deployed, Self::Failed, Self::Reverted];

    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingReview => "pending-review",
            Self::Deployed => "deployed",
            Self::Failed => "failed",
            Self::Reverted => "reverted",
        }
    }

    /// Returns the state that a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether the one may follow the other. What is reverted stays so; what was deployed never waits
    /// again.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::PendingReview => true,
            Self::Failed => !matches!(next, Self::PendingReview),
            Self::Deployed => matches!(next, Self::Deployed | Self::Reverted),
            Self::Reverted => matches!(next, Self::Reverted),
        }
    }
}

/// One capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRecord {
    /// Its number.
    pub number: CaptureNumber,
    /// The commit.
    pub revision: Revision,
    /// What the workshop held before.
    pub parent: Revision,
    /// Who changed the files.
    pub author: String,
    /// The commit's message; its first line says what happened.
    pub message: String,
    /// What became of it.
    pub state: CaptureState,
    /// When it was made.
    pub created_at: Millis,
    /// What should be looked at.
    pub alarms: Vec<Alarm>,
}

impl CaptureRecord {
    /// Returns the first line of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_one_word_in_the_store_and_on_the_wire() {
        for state in CaptureState::ALL {
            assert_eq!(CaptureState::from_word(state.as_str()), Some(state));
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(text, format!("\"{}\"", state.as_str()));
        }
        assert_eq!(CaptureState::from_word("lost"), None);
    }

    #[test]
    fn what_is_reverted_stays_reverted() {
        for next in CaptureState::ALL {
            let may = CaptureState::Reverted.may_become(next);
            assert_eq!(may, next == CaptureState::Reverted);
            assert!(CaptureState::PendingReview.may_become(next));
        }
        assert!(!CaptureState::Deployed.may_become(CaptureState::PendingReview));
        assert!(CaptureState::Failed.may_become(CaptureState::Deployed));
    }
}

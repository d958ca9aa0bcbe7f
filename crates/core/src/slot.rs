//! The two places of an instance where a release runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which of the two slots: the colour is the same on every instance of a fleet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SlotName {
    /// The slot a new site starts in.
    #[default]
    Blue,
    /// The other one.
    Green,
}

impl SlotName {
    /// Both slots, blue first.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// Returns the slot that this one is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// Returns `blue` or `green`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// One value for each slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slots<T> {
    /// The value of the blue slot.
    pub blue: T,
    /// The value of the green slot.
    pub green: T,
}

impl<T> Slots<T> {
    /// Returns the value of one slot.
    pub const fn get(&self, name: SlotName) -> &T {
        match name {
            SlotName::Blue => &self.blue,
            SlotName::Green => &self.green,
        }
    }

    /// Returns the value of one slot, to be changed.
    pub const fn get_mut(&mut self, name: SlotName) -> &mut T {
        match name {
            SlotName::Blue => &mut self.blue,
            SlotName::Green => &mut self.green,
        }
    }
}

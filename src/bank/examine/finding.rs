//! What an examination says.

use crate::error::Result;

/// How something was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As it should be, and what was looked at.
    Well(String),
    /// It was not, and is now.
    Mended(String),
    /// There is something that nobody needs: repairing removes it. No problem.
    Leftover(String),
    /// Something derived was made for a version that the bank never got to: the next search makes it anew. No problem.
    Behind(String),
    /// Something derived is missing or wrong: repairing makes it again.
    Derived(String),
    /// Something is wrong that no other data can mend.
    Broken(String),
}

impl State {
    /// Well, or broken for a reason.
    pub(crate) fn of(checked: Result<String>) -> Self {
        checked.map_or_else(|error| Self::Broken(error.to_string()), Self::Well)
    }

    /// What `self` says where it is a problem, else the other.
    pub(super) fn or(self, other: Self) -> Self {
        if matches!(self, Self::Well(_)) { other } else { self }
    }
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub subject: String,
    /// How it was found.
    pub state: State,
}

//! Where a release stands on a host: one of three fixed addresses a container.
//!
//! Two hold what is active and what is warm behind it; the third is free, so that the next release can
//! start while both are still whole. A deployment that fails has cost nothing, not even the way back,
//! and one that succeeds need not wait for anything to stop.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One of a service's three berths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Berth {
    /// The first.
    A,
    /// The second.
    B,
    /// The third.
    C,
}

impl Berth {
    /// All, in the order nginx looks them up.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    /// `a`, `b` or `c`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
        }
    }
}

impl fmt::Display for Berth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no berth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("berth {0:?} is none of \"a\", \"b\" and \"c\"")]
pub struct BerthError(String);

impl FromStr for Berth {
    type Err = BerthError;
    fn from_str(text: &str) -> Result<Self, BerthError> {
        let found = Self::ALL.into_iter().find(|berth| berth.as_str() == text);
        found.ok_or_else(|| BerthError(text.chars().take(80).collect()))
    }
}

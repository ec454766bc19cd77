//! Whether a store still tells the history a host has lived through.
//!
//! A store that is put back from a copy has forgotten what came after the copy, and its revisions, and with them
//! generations, would come a second time with another content. So a store has a [`HistoryId`], drawn when it is
//! made, and the list of its [`Reign`]s; a host remembers, durably, the newest revision it has heard, and in whose
//! reign. A revision that was heard in a reign is in the store only if the next reign began after it: no clock and
//! no counting of later writes can hide that it is gone.
//!
//! A host that finds it gone obeys nobody: it serves what it serves, and reports. People confirm that the store is
//! meant to be older; the confirmation draws a new history that names those it replaces.

use crate::ids::{Epoch, Revision};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Names one history: drawn at random when a store is made, put back, or confirmed after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryId(pub u128);

impl HistoryId {
    /// The first eight hexadecimal digits, enough to tell histories apart by eye.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for HistoryId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// The time of one leader. The mark is drawn at random: two copies of a store may both elect at one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reign {
    /// The revision at which it began.
    pub epoch: Epoch,
    /// Tells it from a reign of the same epoch in a copy.
    pub mark: u64,
}

/// What a store says of itself, through its leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chronicle {
    /// Its history.
    pub history: HistoryId,
    /// Histories that ended with this one, by a person's word.
    pub replaces: BTreeSet<HistoryId>,
    /// Its reigns, oldest first; the last one is the present one. Very old ones may have been let go of.
    pub reigns: Vec<Reign>,
    /// Its present revision.
    pub revision: Revision,
}

/// What a host remembers of the store it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Which history.
    pub history: HistoryId,
    /// In whose reign the newest revision was heard.
    pub reign: Reign,
    /// The newest revision that was heard.
    pub revision: Revision,
}

/// What a host may make of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It has everything the host has heard: follow it.
    Follows,
    /// A person has put it in the place of the history the host knows: follow it, and remember the new one.
    Replaces,
    /// It is the host's own history, and the end of it is gone.
    WentBack {
        /// The first revision that is not what the host heard.
        forgotten_from: Revision,
    },
    /// It is another history, and nobody has said that it replaces the host's.
    Foreign,
}

impl Standing {
    /// Whether a host may obey.
    pub fn may_obey(self) -> bool {
        match self {
            Self::Follows | Self::Replaces => true,
            Self::WentBack { .. } | Self::Foreign => false,
        }
    }
}

impl Chronicle {
    /// The present reign; none in a chronicle that nobody leads.
    pub fn reign(&self) -> Option<Reign> {
        self.reigns.last().copied()
    }

    /// How this store stands to a host that remembers this. A host that never followed any may follow.
    pub fn standing(&self, seen: Option<&Seen>) -> Standing {
        let Some(seen) = seen else { return Standing::Follows };
        if seen.history != self.history {
            return if self.replaces.contains(&seen.history) { Standing::Replaces } else { Standing::Foreign };
        }
        // The first revision that is certainly of a later reign than the one in which the host heard its newest.
        let end = match self.reigns.iter().position(|reign| *reign == seen.reign) {
            Some(place) => self.reigns.get(place + 1).map(|next| Revision(next.epoch.0)),
            // So old that it was let go of: the first that is kept began after it.
            None if self.reigns.first().is_some_and(|oldest| seen.reign.epoch < oldest.epoch) => {
                self.reigns.first().map(|oldest| Revision(oldest.epoch.0))
            }
            // A leader this store has never had.
            None => Some(Revision(seen.reign.epoch.0)),
        };
        let end = end.unwrap_or(Revision(self.revision.0.saturating_add(1)));
        if seen.revision < end { Standing::Follows } else { Standing::WentBack { forgotten_from: end } }
    }

    /// What a host remembers after it has heard this revision from the present leader.
    pub fn seen(&self, revision: Revision) -> Option<Seen> {
        self.reign().map(|reign| Seen { history: self.history, reign, revision })
    }
}

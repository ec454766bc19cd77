//! Which version answered when.
//!
//! Answers overtake each other: one to a request that was sent before the new version was first seen
//! may still be of the old one, and shows nothing. One to a request sent after that shows a change.

use serde::Serialize;
use std::collections::BTreeMap;

/// Most changes that are kept; later ones are counted only.
const CHANGES_MAX: usize = 10_000;

/// From here on, another version answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionChange {
    /// What answered before. None: this was the first answer.
    pub from: Option<String>,
    /// What answers now.
    pub to: String,
    /// When the first answer of it arrived, in µs since the load began.
    pub at_micros: u64,
    /// When the request to that answer was sent.
    pub sent_micros: u64,
}

#[derive(Debug, Default)]
pub(super) struct Versions {
    changes: Vec<VersionChange>,
    changes_dropped: u64,
    stragglers: u64,
    /// Of each version, stragglers included.
    answers: BTreeMap<String, u64>,
}

impl Versions {
    pub(super) fn saw(&mut self, version: &str, sent_micros: u64, at_micros: u64) {
        match self.answers.get_mut(version) {
            Some(count) => *count += 1,
            None => drop(self.answers.insert(version.to_owned(), 1)),
        }
        let current = self.changes.last();
        if current.is_some_and(|current| current.to == version) {
            return;
        }
        if current.is_some_and(|current| sent_micros <= current.at_micros) {
            self.stragglers += 1;
            return;
        }
        if self.changes.len() >= CHANGES_MAX {
            self.changes_dropped += 1;
            return;
        }
        let from = current.map(|current| current.to.clone());
        self.changes.push(VersionChange { from, to: version.to_owned(), at_micros, sent_micros });
    }

    pub(super) fn changes(&self) -> &[VersionChange] {
        &self.changes
    }

    pub(super) fn answers(&self) -> &BTreeMap<String, u64> {
        &self.answers
    }

    pub(super) fn changes_dropped(&self) -> u64 {
        self.changes_dropped
    }

    /// Answers of the old version to requests that were under way at a change.
    pub(super) fn stragglers(&self) -> u64 {
        self.stragglers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(seen: &[(&str, u64, u64)]) -> (Vec<String>, u64) {
        let mut versions = Versions::default();
        for (version, sent, at) in seen {
            versions.saw(version, *sent, *at);
        }
        (versions.changes().iter().map(|change| change.to.clone()).collect(), versions.stragglers())
    }

    #[test]
    fn an_old_answer_to_a_request_under_way_is_no_change() {
        let seen = [("1", 0, 5), ("2", 10, 15), ("1", 9, 16), ("2", 17, 20)];
        assert_eq!(sequence(&seen), (vec!["1".to_owned(), "2".to_owned()], 1));
    }

    #[test]
    fn every_answer_counts_for_its_version_also_one_that_shows_no_change() {
        let mut versions = Versions::default();
        for (version, sent, at) in [("1", 0, 5), ("2", 10, 15), ("1", 9, 16), ("2", 17, 20)] {
            versions.saw(version, sent, at);
        }
        let expected = [("1".to_owned(), 2), ("2".to_owned(), 2)];
        assert_eq!(*versions.answers(), BTreeMap::from(expected));
    }

    #[test]
    fn an_old_answer_to_a_request_sent_after_the_new_one_was_seen_is_a_change_back() {
        let seen = [("1", 0, 5), ("2", 10, 15), ("1", 16, 18), ("2", 19, 20)];
        assert_eq!(sequence(&seen).0, ["1", "2", "1", "2"]);
    }
}

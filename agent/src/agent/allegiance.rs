//! Whom this host follows: a controller whose store has everything the host has heard, and no other.

use super::Agent;
use crate::memory::{Introduction, Memory};
use cutover::Revision;
use cutover::history::{Chronicle, Standing};

impl Agent {
    /// Counts a hello and writes the count down before it is said.
    pub(super) async fn introduce(&mut self) -> Introduction {
        let mark_before = self.state.memory.mark;
        self.state.memory = self.state.memory.after_hello(self.world.ambient.random() as u64);
        self.persist().await;
        let is_kept = self.journal_trouble.is_empty();
        Introduction { memory: self.state.memory, mark_before, is_kept, machine: self.machine.clone() }
    }

    /// The controller has said what its store is. What this host decides holds until the stream ends.
    pub(super) async fn hear_chronicle(&mut self, chronicle: Chronicle) {
        let standing = chronicle.standing(self.state.memory.seen.as_ref());
        if standing.may_obey() {
            if standing == Standing::Replaces {
                tracing::warn!(history = %chronicle.history, "the store was confirmed under a new history; following it");
            }
            let revision = chronicle.revision;
            self.estrangement.clear();
            self.following = Some(chronicle);
            self.remember(revision);
            // Before anything of it is obeyed.
            self.keep_memory().await;
        } else {
            let told = estrangement(&self.state.memory, &chronicle, standing);
            tracing::error!(reason = %told, "not following this store; serving what is applied");
            self.estrangement = told;
            self.following = None;
        }
        self.tell_health();
    }

    /// Whether what comes through this stream may be obeyed.
    pub(super) fn obeys(&self) -> bool {
        if self.following.is_none() {
            tracing::debug!("not obeyed: this host does not follow that store");
        }
        self.following.is_some()
    }

    /// A revision was heard. It is on the disk with the next record, or within a second.
    pub(super) fn remember(&mut self, revision: Revision) {
        let Some(chronicle) = &self.following else { return };
        let after = self.state.memory.after_hearing(chronicle, revision);
        self.is_memory_news |= after != self.state.memory;
        self.state.memory = after;
    }

    /// Writes down what was heard since.
    pub(super) async fn keep_memory(&mut self) {
        if self.is_memory_news {
            self.persist().await;
            self.is_memory_news = !self.journal_trouble.is_empty();
        }
    }
}

fn estrangement(memory: &Memory, chronicle: &Chronicle, standing: Standing) -> String {
    let (ours, revision) =
        memory.seen.map_or_else(|| ("none".to_owned(), 0), |seen| (seen.history.short(), seen.revision.0));
    let theirs = chronicle.history.short();
    let why = match standing {
        Standing::Follows | Standing::Replaces => return String::new(),
        Standing::WentBack { forgotten_from } => format!(
            "the store went back: this host has heard revision {revision} of history {ours}, and the store has \
             forgotten everything from {forgotten_from} on"
        ),
        Standing::Foreign => {
            format!("the store tells history {theirs}, this host follows {ours} and has heard its revision {revision}")
        }
    };
    format!("{why}; serving on and obeying nothing until `bgctl store confirm` says that this store is the right one")
}

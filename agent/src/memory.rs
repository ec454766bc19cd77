//! What a host remembers of the store it follows, and of its own hellos. Kept in the journal, beside the record.

use crate::state::StateError;
use bgctl_proto::session as wire;
use cutover::Revision;
use cutover::history::{Chronicle, Reign, Seen};
use cutover::ids::Epoch;
use serde::{Deserialize, Serialize};

/// What must survive so that a store which went back, and a second agent with this state, are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The newest revision this host has heard; none if it never followed a store.
    pub seen: Option<Seen>,
    /// How many hellos were said.
    pub count: u64,
    /// The mark of the last one.
    pub mark: u64,
}

/// What a hello says beside the protocol's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// What is remembered, with this hello counted.
    pub memory: Memory,
    /// The mark of the hello before this one.
    pub mark_before: u64,
    /// The memory is on the disk. A count that may come a second time must not be said.
    pub is_kept: bool,
    /// Names the machine; empty: unknown.
    pub machine: String,
}

impl Memory {
    /// With one hello more, of this mark.
    pub fn after_hello(self, mark: u64) -> Self {
        Self { count: self.count + 1, mark, ..self }
    }

    /// With this revision of the store heard. What was heard before is never taken back but by another history.
    pub fn after_hearing(self, chronicle: &Chronicle, revision: Revision) -> Self {
        let heard = chronicle.seen(revision);
        let is_newer = |seen: &Seen| {
            self.seen.is_none_or(|known| {
                let age = |seen: &Seen| (seen.reign.epoch, seen.revision);
                known.history != seen.history || age(&known) < age(seen)
            })
        };
        Self { seen: heard.filter(is_newer).or(self.seen), ..self }
    }
}

impl Introduction {
    /// Into the message.
    pub fn tell(self, hello: wire::Hello) -> wire::Hello {
        let Self { memory: Memory { seen, count, mark }, mark_before, is_kept, machine } = self;
        let count = if is_kept { count } else { 0 };
        wire::Hello { seen: seen.map(Into::into), count, mark, mark_before, machine, ..hello }
    }
}

/// The journal's form.
#[derive(Serialize, Deserialize, Default)]
pub struct WrittenMemory {
    seen: Option<WrittenSeen>,
    hellos: u64,
    /// Hexadecimal.
    mark: String,
}

#[derive(Serialize, Deserialize)]
struct WrittenSeen {
    history: String,
    epoch: u64,
    /// Hexadecimal.
    mark: String,
    revision: u64,
}

impl From<&Memory> for WrittenMemory {
    fn from(memory: &Memory) -> Self {
        let Memory { seen, count, mark } = memory;
        let seen = seen.map(|Seen { history, reign, revision }| WrittenSeen {
            history: history.to_string(),
            epoch: reign.epoch.0,
            mark: format!("{:x}", reign.mark),
            revision: revision.0,
        });
        Self { seen, hellos: *count, mark: format!("{mark:x}") }
    }
}

impl TryFrom<WrittenMemory> for Memory {
    type Error = StateError;

    fn try_from(written: WrittenMemory) -> Result<Self, StateError> {
        let WrittenMemory { seen, hellos, mark } = written;
        let seen = seen.map(|WrittenSeen { history, epoch, mark, revision }| {
            let history = history.parse().map_err(|error| StateError::new("a history", &error))?;
            let reign = Reign { epoch: Epoch(epoch), mark: read_mark(&mark)? };
            Ok::<_, StateError>(Seen { history, reign, revision: Revision(revision) })
        });
        Ok(Self { seen: seen.transpose()?, count: hellos, mark: read_mark(&mark)? })
    }
}

/// Empty in a journal of an agent that knew no marks.
fn read_mark(text: &str) -> Result<u64, StateError> {
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 16).map_err(|error| StateError::new("a mark", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover::history::HistoryId;
    use std::collections::BTreeSet;

    fn chronicle(history: u128, epochs: &[u64]) -> Chronicle {
        let reigns = epochs.iter().map(|epoch| Reign { epoch: Epoch(*epoch), mark: *epoch }).collect();
        Chronicle { history: HistoryId(history), replaces: BTreeSet::new(), reigns, revision: Revision(9) }
    }

    #[test]
    fn what_was_heard_is_taken_back_by_another_history_only() {
        let first = chronicle(1, &[2]);
        let memory = Memory::default().after_hearing(&first, Revision(9));
        assert_eq!(memory.seen, first.seen(Revision(9)));
        assert_eq!(memory.after_hearing(&first, Revision(8)), memory);
        let later = chronicle(1, &[2, 10]);
        let memory = memory.after_hearing(&later, Revision(11));
        assert_eq!(memory.seen, later.seen(Revision(11)));
        assert_eq!(memory.after_hearing(&first, Revision(50)), memory, "a leader from before");
        let other = chronicle(7, &[3]);
        assert_eq!(memory.after_hearing(&other, Revision(4)).seen, other.seen(Revision(4)));
    }

    #[test]
    fn it_comes_back_from_the_journal_as_it_was() {
        let memory = Memory::default().after_hearing(&chronicle(1, &[2, 5]), Revision(9)).after_hello(0xfeed);
        let text = serde_json::to_string(&WrittenMemory::from(&memory)).expect("plain JSON");
        let written: WrittenMemory = serde_json::from_str(&text).expect("its own form");
        assert_eq!(Memory::try_from(written).expect("readable"), memory);
        assert_eq!(Memory::try_from(WrittenMemory::default()).expect("an older journal"), Memory::default());
    }

    #[test]
    fn a_count_that_is_not_on_the_disk_is_not_said() {
        let memory = Memory::default().after_hello(5);
        let introduction = Introduction { memory, mark_before: 0, is_kept: false, machine: String::new() };
        assert_eq!(introduction.clone().tell(wire::Hello::default()).count, 0);
        assert_eq!(Introduction { is_kept: true, ..introduction }.tell(wire::Hello::default()).count, 1);
    }
}

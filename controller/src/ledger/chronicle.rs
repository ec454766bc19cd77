//! Which history the store tells: continued by each leader, doubted when the store was put back, and confirmed
//! by a person.

use super::{Ledger, LedgerError, leads};
use crate::records::{self, ChronicleRecord, HISTORIES_KEPT, REIGNS_KEPT, RecordError, ReignRecord, keys};
use crate::store::{Field, Guard, Operation, Reply, Transaction};
use bgctl_proto::ambient::Ambient;
use cutover::history::{Chronicle, HistoryId, Reign, Seen};
use cutover::ids::{Epoch, Revision};
use std::collections::BTreeSet;

/// The record of a new leader: the one before with its reign added, or the first of a new store. `cluster`: where
/// the store lives now; another one than the record's is a backup that was put back.
pub fn continued(
    before: Option<ChronicleRecord>,
    reign: Reign,
    cluster: Option<&str>,
    fresh: HistoryId,
    now_unix_millis: u64,
) -> ChronicleRecord {
    let here = cluster.unwrap_or_default();
    let mut record = match before {
        None => beginning(fresh, now_unix_millis),
        Some(before) if !here.is_empty() && !before.cluster.is_empty() && before.cluster != here => {
            let doubt = format!("it was written in etcd cluster {} and is now in {here}", before.cluster);
            put_back(Some(before), &doubt, fresh, now_unix_millis)
        }
        Some(before) => before,
    };
    if !here.is_empty() {
        here.clone_into(&mut record.cluster);
    }
    record.reigns.push(ReignRecord { epoch: reign.epoch.0, mark: format!("{:x}", reign.mark) });
    let surplus = record.reigns.len().saturating_sub(REIGNS_KEPT);
    record.reigns.drain(..surplus);
    record
}

/// The record of a store that was put back from a backup: a history of its own, which no host follows before a
/// person has confirmed it.
pub fn put_back(
    before: Option<ChronicleRecord>,
    doubt: &str,
    fresh: HistoryId,
    now_unix_millis: u64,
) -> ChronicleRecord {
    let Some(before) = before else {
        return ChronicleRecord { doubt: doubt.to_owned(), ..beginning(fresh, now_unix_millis) };
    };
    let ChronicleRecord { history, replaces, claims, cluster, reigns, .. } = before;
    let claims = newest(replaces.iter().cloned().chain(claims).chain([history]));
    let (history, doubt) = (fresh.to_string(), doubt.to_owned());
    ChronicleRecord { history, since_unix_millis: now_unix_millis, replaces, doubt, claims, cluster, reigns }
}

fn beginning(fresh: HistoryId, now_unix_millis: u64) -> ChronicleRecord {
    ChronicleRecord {
        history: fresh.to_string(),
        since_unix_millis: now_unix_millis,
        replaces: Vec::new(),
        doubt: String::new(),
        claims: Vec::new(),
        cluster: String::new(),
        reigns: Vec::new(),
    }
}

/// The record after a person's word: a new history in the place of this one, of those it claims, and of those the
/// hosts follow. Hosts begin to follow it in the present reign.
fn confirmed(
    before: &ChronicleRecord,
    followed: &BTreeSet<String>,
    fresh: HistoryId,
    now_unix_millis: u64,
) -> ChronicleRecord {
    let all = before.replaces.iter().chain(&before.claims).chain([&before.history]).chain(followed).cloned();
    ChronicleRecord {
        history: fresh.to_string(),
        since_unix_millis: now_unix_millis,
        replaces: newest(all),
        doubt: String::new(),
        claims: Vec::new(),
        cluster: before.cluster.clone(),
        reigns: before.reigns.last().cloned().into_iter().collect(),
    }
}

/// Each once, the newest of them.
fn newest(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut each: Vec<_> = all.filter(|history| known.insert(history.clone())).collect();
    let surplus = each.len().saturating_sub(HISTORIES_KEPT);
    each.drain(..surplus);
    each
}

/// A history that nobody else has.
pub fn fresh_history(ambient: &dyn Ambient) -> HistoryId {
    HistoryId(ambient.random())
}

/// A reign that begins now.
pub(super) fn fresh_reign(epoch: Epoch, ambient: &dyn Ambient) -> Reign {
    Reign { epoch, mark: ambient.random() as u64 }
}

impl ChronicleRecord {
    /// Checked, as hosts hear it.
    pub fn read(&self, revision: Revision) -> Result<Chronicle, RecordError> {
        let history = |text: &String| records::parse::<HistoryId>(keys::CHRONICLE, text);
        let reign = |record: &ReignRecord| {
            let mark = u64::from_str_radix(&record.mark, 16);
            let mark = mark.map_err(|error| RecordError::new(keys::CHRONICLE, error))?;
            Ok::<_, RecordError>(Reign { epoch: Epoch(record.epoch), mark })
        };
        Ok(Chronicle {
            history: history(&self.history)?,
            replaces: self.replaces.iter().map(history).collect::<Result<_, _>>()?,
            reigns: self.reigns.iter().map(reign).collect::<Result<_, _>>()?,
            revision,
        })
    }
}

impl Ledger {
    /// What the store says of itself now.
    pub fn chronicle(&self) -> Result<Chronicle, RecordError> {
        self.read(|truth| truth.chronicle.read(Revision(truth.revision)))
    }

    /// Confirms the store as the one to follow: a new history, at a revision above everything these hosts have
    /// heard. The leader must stand for election again afterwards, so that its epoch is above theirs too.
    pub async fn confirm(&self, heard: &[Seen], actor: &str) -> Result<ChronicleRecord, LedgerError> {
        let _turn = self.writing.lock().await;
        let before = self.read(|truth| truth.chronicle.clone());
        let followed: BTreeSet<_> = heard.iter().map(|seen| seen.history.to_string()).collect();
        let record = confirmed(&before, &followed, fresh_history(&*self.ambient), self.ambient.unix_millis());
        let highest = heard.iter().map(|seen| seen.revision.0.max(seen.reign.epoch.0)).max().unwrap_or_default();
        let mut operations = vec![Operation::Put(keys::CHRONICLE.to_owned(), records::write(&record))];
        let replaced: Vec<_> = record.replaces.iter().map(|history| &history[..8.min(history.len())]).collect();
        let action = format!("store confirmed as history {}; it replaces {}", record.history, replaced.join(", "));
        operations.extend(self.audit(actor, action));
        let unchanged = Guard {
            key: keys::CHRONICLE.to_owned(),
            field: Field::ModRevision,
            equals: self.read(|truth| truth.chronicle_revision),
        };
        let transaction = Transaction { guards: vec![leads(self.epoch), unchanged], operations, otherwise: Vec::new() };
        match self.store.transact_beyond(&transaction, highest).await? {
            Reply::Done { revision } => {
                self.update(|truth| {
                    truth.revision = revision;
                    truth.chronicle_revision = revision;
                    truth.chronicle = record.clone();
                });
                Ok(record)
            }
            Reply::Refused { .. } => Err(LedgerError::Deposed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign(epoch: u64) -> Reign {
        Reign { epoch: Epoch(epoch), mark: epoch }
    }

    fn first() -> ChronicleRecord {
        continued(None, reign(2), Some("c1"), HistoryId(1), 100)
    }

    #[test]
    fn each_leader_continues_the_history() {
        let second = continued(Some(first()), reign(9), Some("c1"), HistoryId(2), 200);
        assert_eq!(second.history, first().history);
        let chronicle = second.read(Revision(11)).expect("readable");
        assert_eq!((chronicle.reigns, chronicle.history), (vec![reign(2), reign(9)], HistoryId(1)));
    }

    #[test]
    fn reigns_that_are_too_many_are_let_go_of_from_the_oldest_on() {
        let mut record = first();
        for epoch in 3..1_000 {
            record = continued(Some(record), reign(epoch), None, HistoryId(2), 200);
        }
        assert_eq!((record.reigns.len(), record.reigns.last().map(|last| last.epoch)), (REIGNS_KEPT, Some(999)));
    }

    #[test]
    fn another_cluster_is_a_store_that_was_put_back_and_stays_so_until_it_is_confirmed() {
        let moved = continued(Some(first()), reign(9), Some("c2"), HistoryId(2), 200);
        assert!(moved.doubt.contains("c1") && moved.doubt.contains("c2"), "{}", moved.doubt);
        assert_eq!(moved.history, HistoryId(2).to_string());
        assert!(moved.replaces.is_empty());
        let again = continued(Some(moved.clone()), reign(12), Some("c2"), HistoryId(3), 300);
        assert_eq!((again.doubt.is_empty(), &again.history), (false, &moved.history));
        let confirmed = confirmed(&again, &BTreeSet::new(), HistoryId(4), 400);
        assert_eq!(confirmed.replaces, [HistoryId(1).to_string(), HistoryId(2).to_string()]);
        assert_eq!((confirmed.doubt.as_str(), confirmed.reigns.len()), ("", 1));
    }

    #[test]
    fn a_confirmation_also_replaces_what_the_hosts_follow() {
        let followed = BTreeSet::from([HistoryId(7).to_string(), HistoryId(1).to_string()]);
        let confirmed = confirmed(&first(), &followed, HistoryId(4), 400);
        assert_eq!(confirmed.replaces, [HistoryId(1).to_string(), HistoryId(7).to_string()]);
    }

    #[test]
    fn a_store_without_a_cluster_is_not_doubted() {
        let embedded = continued(None, reign(2), None, HistoryId(1), 100);
        assert_eq!(continued(Some(embedded), reign(9), None, HistoryId(2), 200).doubt, "");
        // Moved from a build that did not know of clusters.
        let older = ChronicleRecord { cluster: String::new(), ..first() };
        let known = continued(Some(older), reign(9), Some("c1"), HistoryId(2), 200);
        assert_eq!((known.doubt.as_str(), known.cluster.as_str()), ("", "c1"));
    }
}

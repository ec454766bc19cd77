//! The tables: what is alive, what changed, and the counters. One transaction of ours is one of redb's.

use super::super::{Change, Entry, Field, Guard, Operation, Transaction};
use super::failure::Fault;
use super::history::{self, At, CHANGES, Extent, Kept, Record};
use redb::{Database, ReadableTable, Table, TableDefinition};

pub(super) const KEYS: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("keys");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_REVISION: &str = "revision";
pub(super) const META_OLDEST: &str = "oldest";
pub(super) const META_BYTES: &str = "history_bytes";

/// The tables, open for writing.
pub(super) struct Pages<'txn> {
    keys: Table<'txn, &'static str, (u64, u64, &'static [u8])>,
    changes: Table<'txn, At, Record>,
    pub(super) revision: u64,
    extent: Extent,
}

impl Pages<'_> {
    /// Carries out one transaction. The revision goes up only if something changes.
    pub(super) fn apply(&mut self, operations: &[Operation], kept: Kept) -> Result<(), Fault> {
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        for operation in operations {
            match operation {
                Operation::Put(key, value) => {
                    let made = self.keys.get(key.as_str())?.map(|stored| stored.value().0);
                    let create_revision = made.unwrap_or(revision);
                    self.keys.insert(key.as_str(), (create_revision, revision, value.as_slice()))?;
                    let (key, value) = (key.clone(), value.clone());
                    changes.push(Change::Put(Entry { key, value, create_revision, mod_revision: revision }));
                }
                Operation::Delete(key) => {
                    if self.keys.remove(key.as_str())?.is_some() {
                        changes.push(Change::Deleted { key: key.clone(), revision });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.revision = revision;
            history::append(&mut self.changes, &mut self.extent, &changes)?;
            history::prune(&mut self.changes, &mut self.extent, revision, kept)?;
        }
        Ok(())
    }

    /// Goes on from there. The changes before it are let go of: a reader of them must read everything again.
    pub(super) fn leap(&mut self, revision: u64) -> Result<(), Fault> {
        history::forget_all(&mut self.changes, &mut self.extent, revision + 1)?;
        self.revision = revision;
        Ok(())
    }

    /// None if all guards hold, else those of the keys to read that exist.
    pub(super) fn refusal(&self, transaction: &Transaction) -> Result<Option<Vec<Entry>>, Fault> {
        for guard in &transaction.guards {
            if !self.holds(guard)? {
                let mut read = Vec::new();
                for key in &transaction.otherwise {
                    read.extend(self.keys.get(key.as_str())?.map(|stored| entry(key, stored.value())));
                }
                return Ok(Some(read));
            }
        }
        Ok(None)
    }

    fn holds(&self, guard: &Guard) -> Result<bool, Fault> {
        let (create, modified) = match self.keys.get(guard.key.as_str())? {
            Some(stored) => (stored.value().0, stored.value().1),
            None => (0, 0),
        };
        Ok(guard.equals
            == match guard.field {
                Field::CreateRevision => create,
                Field::ModRevision => modified,
            })
    }
}

/// Runs the work in one transaction of redb's; what changed is on the disk afterwards. Answers with the revision.
pub(super) fn commit<T>(
    database: &Database,
    work: impl FnOnce(&mut Pages<'_>) -> Result<T, Fault>,
) -> Result<(T, u64), Fault> {
    let mut write = database.begin_write()?;
    // A second fsync. With one, a commit that was answered and is damaged later looks like one that a power cut tore,
    // and redb would quietly go back to the one before it: a decision would be gone, a revision would come twice.
    write.set_two_phase_commit(true);
    let (answer, before, after) = {
        let mut meta = write.open_table(META)?;
        let before = number(&meta, META_REVISION)?;
        let mut pages = Pages {
            keys: write.open_table(KEYS)?,
            changes: write.open_table(CHANGES)?,
            revision: before,
            extent: Extent { oldest: number(&meta, META_OLDEST)?, bytes: number(&meta, META_BYTES)? },
        };
        let answer = work(&mut pages)?;
        meta.insert(META_REVISION, pages.revision)?;
        meta.insert(META_OLDEST, pages.extent.oldest)?;
        meta.insert(META_BYTES, pages.extent.bytes)?;
        (answer, before, pages.revision)
    };
    if after == before {
        write.abort()?;
    } else {
        write.commit()?;
    }
    Ok((answer, after))
}

/// A counter that must be there.
pub(super) fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, Fault> {
    match meta.get(name)? {
        Some(stored) => Ok(stored.value()),
        None => Err(redb::Error::Corrupted(format!("`{name}` is missing")).into()),
    }
}

/// As the outside knows it.
pub(super) fn entry(key: &str, (create_revision, mod_revision, value): (u64, u64, &[u8])) -> Entry {
    Entry { key: key.to_owned(), value: value.to_vec(), create_revision, mod_revision }
}

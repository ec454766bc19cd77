//! The changes that are still kept, so that a watch can start in the past. Bounded in number and in bytes.

use super::super::{Change, Entry};
use super::failure::Fault;
use redb::{ReadableTable, Table, TableDefinition};
use std::collections::VecDeque;

/// Revisions kept at most: hours of work, for a reader who was away.
const REVISIONS_KEPT: u64 = 10_000;

/// Bytes of changes kept at most. The file is never larger than about twice this and what is alive.
const BYTES_KEPT: u64 = 32 * 1024 * 1024;

/// What a record costs beside its key and value, roughly.
const RECORD_BYTES: u64 = 64;

/// Changes read in one go at most, so that a reader of a long past holds neither the file nor the memory.
const BATCH_CHANGES: usize = 256;

/// Bytes read in one go at most; one change more may come on top.
const BATCH_BYTES: usize = 1024 * 1024;

/// The first revision that can hold a change: as in etcd, an empty store is at revision 1.
pub(super) const FIRST_REVISION: u64 = 2;

/// A record: the key, and its create revision and value, or nothing if it was removed.
pub(super) type Record = (&'static str, Option<(u64, &'static [u8])>);

/// The revision, and the place in its transaction.
pub(super) type At = (u64, u32);

pub(super) const CHANGES: TableDefinition<'_, At, Record> = TableDefinition::new("changes");

/// How much of the past stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) revisions: u64,
    pub(super) bytes: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { revisions: REVISIONS_KEPT, bytes: BYTES_KEPT }
    }
}

/// Where a reader is: the next change it has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) revision: u64,
    pub(super) place: u32,
}

impl Cursor {
    /// At the first change of a revision.
    pub(super) fn at(revision: u64) -> Self {
        Self { revision: revision.max(FIRST_REVISION), place: 0 }
    }
}

/// Some changes, and where to go on.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) changes: VecDeque<Change>,
    pub(super) next: Cursor,
}

/// Which revisions are in the table, and how large they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) oldest: u64,
    pub(super) bytes: u64,
}

/// Writes down the changes of one revision, in order.
pub(super) fn append(table: &mut Table<'_, At, Record>, extent: &mut Extent, changes: &[Change]) -> Result<(), Fault> {
    for (place, change) in (0u32..).zip(changes) {
        let (revision, key, put) = match change {
            Change::Put(entry) => {
                (entry.mod_revision, &entry.key, Some((entry.create_revision, entry.value.as_slice())))
            }
            Change::Deleted { key, revision } => (*revision, key, None),
        };
        extent.bytes += cost(key, put.map(|(_, value)| value));
        table.insert((revision, place), (key.as_str(), put))?;
    }
    Ok(())
}

/// Forgets the oldest revisions until the rest is within bounds. The newest always stays.
pub(super) fn prune(
    table: &mut Table<'_, At, Record>,
    extent: &mut Extent,
    newest: u64,
    kept: Kept,
) -> Result<(), Fault> {
    while extent.oldest < newest && (newest - extent.oldest >= kept.revisions || extent.bytes > kept.bytes) {
        let after = (extent.oldest + 1, 0);
        while let Some((at, bytes)) = first_before(table, after)? {
            table.remove(at)?;
            extent.bytes = extent.bytes.saturating_sub(bytes);
        }
        extent.oldest += 1;
    }
    Ok(())
}

/// Lets go of everything; the next revision that can hold a change is that one.
pub(super) fn forget_all(table: &mut Table<'_, At, Record>, extent: &mut Extent, next: u64) -> Result<(), Fault> {
    table.retain(|_, _| false)?;
    *extent = Extent { oldest: next, bytes: 0 };
    Ok(())
}

/// Changes of keys that start with the prefix, from the cursor on, as many as go in one batch.
pub(super) fn read(
    table: &impl ReadableTable<At, Record>,
    prefix: &str,
    from: Cursor,
    newest: u64,
) -> Result<Batch, Fault> {
    let mut changes = VecDeque::new();
    let mut bytes = 0;
    for record in table.range((from.revision, from.place)..)? {
        let (at, record) = record?;
        let (revision, place) = at.value();
        if changes.len() >= BATCH_CHANGES || bytes >= BATCH_BYTES {
            return Ok(Batch { changes, next: Cursor { revision, place } });
        }
        let (key, put) = record.value();
        if !key.starts_with(prefix) {
            continue;
        }
        let key = key.to_owned();
        changes.push_back(match put {
            Some((create_revision, value)) => {
                bytes += value.len();
                Change::Put(Entry { key, value: value.to_vec(), create_revision, mod_revision: revision })
            }
            None => Change::Deleted { key, revision },
        });
    }
    Ok(Batch { changes, next: Cursor::at(from.revision.max(newest + 1)) })
}

fn first_before(table: &Table<'_, At, Record>, end: At) -> Result<Option<(At, u64)>, Fault> {
    let Some(record) = table.range(..end)?.next() else { return Ok(None) };
    let (at, record) = record?;
    let (key, put) = record.value();
    Ok(Some((at.value(), cost(key, put.map(|(_, value)| value)))))
}

fn cost(key: &str, value: Option<&[u8]>) -> u64 {
    RECORD_BYTES + key.len() as u64 + value.map_or(0, <[u8]>::len) as u64
}

//! The file itself, without a runtime, and what to do when the disk says no.

use super::super::{Health, LEADER_KEY, Member, Operation, Range, Reply, Room, StoreError, Transaction};
use super::failure::{Fault, full};
use super::history::{self, Batch, CHANGES, Cursor, Kept};
use super::opening::{Absent, open_database};
use super::pages::{KEYS, META, META_OLDEST, META_REVISION, Pages, commit, entry, number};
use redb::{Database, ReadableDatabase};
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// Space on the disk under which nothing is put any more, so that removing and closing still work.
const DISK_RESERVE_BYTES: u64 = 2 * 1024 * 1024;

/// How far a store that was put back leaps, as etcd's own tool does it: hosts that are away may have heard more than
/// those that are linked, and thirty years of a write a second are no more than this.
const LEAP: u64 = 1_000_000_000;

/// One open file. Any failure of the disk closes it, because redb answers nothing after one; the next
/// request opens it again.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    kept: Kept,
    database: Option<Database>,
    revision: watch::Sender<u64>,
}

impl File {
    pub(super) fn open(path: &Path, kept: Kept) -> Result<Self, StoreError> {
        let (database, revision) = open_database(path, Absent::Make)?;
        Ok(Self { path: path.to_owned(), kept, database: Some(database), revision: watch::Sender::new(revision) })
    }

    /// Hears of each revision once it is on the disk.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(super) fn transact(&mut self, transaction: &Transaction) -> Result<Reply, StoreError> {
        self.check_room(transaction)?;
        self.transact_unchecked(transaction)
    }

    /// For a disk that fills up just after it was looked at.
    pub(super) fn transact_unchecked(&mut self, transaction: &Transaction) -> Result<Reply, StoreError> {
        let kept = self.kept;
        self.write(|pages| {
            if let Some(read) = pages.refusal(transaction)? {
                return Ok(Reply::Refused { revision: pages.revision, read });
            }
            pages.apply(&transaction.operations, kept)?;
            Ok(Reply::Done { revision: pages.revision })
        })
    }

    /// The same, far above this revision: everything before it is history that no watch can begin in.
    pub(super) fn transact_beyond(&mut self, transaction: &Transaction, revision: u64) -> Result<Reply, StoreError> {
        self.check_room(transaction)?;
        let kept = self.kept;
        self.write(|pages| {
            if let Some(read) = pages.refusal(transaction)? {
                return Ok(Reply::Refused { revision: pages.revision, read });
            }
            pages.leap(pages.revision.max(revision).saturating_add(LEAP))?;
            pages.apply(&transaction.operations, kept)?;
            Ok(Reply::Done { revision: pages.revision })
        })
    }

    /// Writes the leader key anew. If it was there, it is removed at a revision of its own, so that its create
    /// revision is new, and those who watch see what they would see of etcd.
    pub(super) fn take_seat(&mut self, candidate: &str) -> Result<u64, StoreError> {
        let put = vec![Operation::Put(LEADER_KEY.to_owned(), candidate.as_bytes().to_vec())];
        let kept = self.kept;
        self.write(|pages| {
            pages.apply(&[Operation::Delete(LEADER_KEY.to_owned())], kept)?;
            pages.apply(&put, kept)?;
            Ok(pages.revision)
        })
    }

    pub(super) fn range(&mut self, prefix: &str) -> Result<Range, StoreError> {
        self.read(|read| {
            let keys = read.open_table(KEYS)?;
            let mut entries = Vec::new();
            for pair in keys.range(prefix..)? {
                let (key, stored) = pair?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                entries.push(entry(key.value(), stored.value()));
            }
            Ok(Range { revision: number(&read.open_table(META)?, META_REVISION)?, entries })
        })
    }

    /// Changes from there on, or `Compacted` if some of them are gone.
    pub(super) fn changes(&mut self, prefix: &str, from: Cursor) -> Result<Batch, StoreError> {
        let (oldest, batch) = self.read(|read| {
            let meta = read.open_table(META)?;
            let newest = number(&meta, META_REVISION)?;
            Ok((number(&meta, META_OLDEST)?, history::read(&read.open_table(CHANGES)?, prefix, from, newest)?))
        })?;
        if from.revision < oldest {
            return Err(StoreError::Compacted { asked: from.revision, oldest });
        }
        Ok(batch)
    }

    fn read<T>(&mut self, work: impl FnOnce(&redb::ReadTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        let database = self.database()?;
        let answer = database.begin_read().map_err(Fault::from).and_then(|read| work(&read));
        answer.map_err(|fault| {
            self.database = None;
            fault.reading(&self.path)
        })
    }

    /// Runs the work and commits what it changed. After a failure the file is opened again, and its revision
    /// tells whether the write is in it.
    fn write<T>(&mut self, work: impl FnOnce(&mut Pages<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        let before = *self.revision.borrow();
        match commit(self.database()?, work) {
            Ok((answer, revision)) => {
                self.announce(revision);
                Ok(answer)
            }
            Err(fault) => {
                tracing::error!(path = %self.path.display(), ?fault, "a write failed; opening the file again");
                self.database = None;
                let opened_again = self.database().is_ok();
                if opened_again && *self.revision.borrow() == before {
                    return Err(fault.not_written(&self.path));
                }
                Err(fault.perhaps_written(&self.path))
            }
        }
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(open) => open,
            None => {
                let (database, revision) = open_database(&self.path, Absent::Refuse)?;
                self.announce(revision);
                database
            }
        };
        Ok(self.database.insert(database))
    }

    fn announce(&self, revision: u64) {
        self.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }

    /// How large it is, and what is left on its disk.
    pub(super) fn health(&self) -> Health {
        let path = self.path.display().to_string();
        let size_bytes = std::fs::metadata(&self.path).map(|metadata| metadata.len()).unwrap_or_default();
        let room = self.left_bytes().map(|left_bytes| Room {
            path: path.clone(),
            left_bytes,
            needed_bytes: DISK_RESERVE_BYTES,
        });
        let file = Member { name: "file".to_owned(), address: path, size_bytes, leads: true, ..Member::default() };
        Health { kind: "embedded", members: vec![file], room, ..Health::default() }
    }

    /// None: the disk does not say.
    fn left_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }

    fn check_room(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let bytes: usize = transaction.operations.iter().map(Operation::value_bytes).sum();
        let puts = transaction.operations.iter().any(|operation| matches!(operation, Operation::Put(..)));
        // The value goes into the keys and into the history, and pages are copied before they are replaced.
        let needed = DISK_RESERVE_BYTES + 4 * bytes as u64;
        if puts && self.left_bytes().is_some_and(|left| left < needed) {
            return Err(StoreError::Refused { detail: full(&self.path) });
        }
        Ok(())
    }
}

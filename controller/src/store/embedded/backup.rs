//! A copy of the file that is whole, taken while a controller writes to it, and putting one back.
//!
//! Nothing that a commit refers to is written over before the next one, and each commit changes the file's header: a
//! copy during which the header stayed the same is one committed state, whole. Every page of it is checked before
//! it is called a backup.

use super::super::Operation;
use super::super::StoreError;
use super::failure::unreachable_file;
use super::history::Kept;
use super::opening::{Absent, open_database};
use super::pages::{KEYS, commit};
use crate::ledger::put_back;
use crate::records::{self, ChronicleRecord, keys};
use cutover::history::HistoryId;
use redb::{Database, ReadableDatabase};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Copies that are taken before giving up. A deployment writes for some milliseconds in a second, and a copy takes
/// a few.
const COPIES_MAX: usize = 50;

/// Pause before the next one.
const COPY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// redb's header: a magic, the layout, and the roots of the last two commits.
const HEADER_BYTES: usize = 320;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The newest revision in it.
    pub revision: u64,
    /// Which history; empty: it was never led.
    pub history: String,
    /// Keys.
    pub keys: usize,
}

/// Copies the store into a new file, mode 0600, whether a controller runs or not.
///
/// # Errors
/// `Unusable`, with what to do: the target exists, a file cannot be reached, or the store is damaged.
pub fn back_up(store: &Path, to: &Path) -> Result<Contents, StoreError> {
    if to.try_exists().map_err(|error| unusable(unreachable_file(to, &error)))? {
        return Err(unusable(format!("`{}` exists, and no backup is written over; name another file", to.display())));
    }
    let part = beside(to, "part");
    let copied = copy_between_writes(store, &part).and_then(|()| check(&part));
    match copied {
        Ok(contents) => {
            put_in_place(&part, to)?;
            Ok(contents)
        }
        Err(error) => {
            drop(fs::remove_file(&part));
            Err(error)
        }
    }
}

/// Puts a backup in the place of the store, whose file is kept beside it; answers where, if there was one. What was
/// put back tells a history of its own, which no host follows until a person has confirmed it.
///
/// # Errors
/// `Unusable`, with what to do: a controller holds the store, the backup is damaged, or a file cannot be reached.
pub fn restore(
    backup: &Path,
    store: &Path,
    fresh: HistoryId,
    now_unix_millis: u64,
) -> Result<(Contents, Option<PathBuf>), StoreError> {
    let part = beside(store, "part");
    copy(backup, &part)?;
    let doubted = doubt(&part, backup, fresh, now_unix_millis).and_then(|()| check(&part));
    let contents = match doubted {
        Ok(contents) => contents,
        Err(error) => {
            drop(fs::remove_file(&part));
            return Err(unusable(format!("the backup `{}` cannot be put back: {error}", backup.display())));
        }
    };
    let kept = set_aside(store, &part, now_unix_millis)?;
    put_in_place(&part, store)?;
    Ok((contents, kept))
}

fn doubt(part: &Path, backup: &Path, fresh: HistoryId, now_unix_millis: u64) -> Result<(), StoreError> {
    let (database, _) = open_database(part, Absent::Refuse)?;
    let at = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(now_unix_millis));
    let before = chronicle(&database, part)?;
    let record = put_back(before, &format!("from {} at {at}", backup.display()), fresh, now_unix_millis);
    let write = [Operation::Put(keys::CHRONICLE.to_owned(), records::write(&record))];
    commit(&database, |pages| pages.apply(&write, Kept::default())).map_err(|fault| fault.not_written(part))?;
    Ok(())
}

/// Checks every page, and says what is in it. The file is closed and on the disk afterwards.
fn check(path: &Path) -> Result<Contents, StoreError> {
    let (database, revision) = open_database(path, Absent::Refuse)?;
    let history = chronicle(&database, path)?.map(|record| record.history).unwrap_or_default();
    let count = || -> Result<usize, super::failure::Fault> {
        let read = database.begin_read()?;
        Ok(read.open_table(KEYS)?.range::<&str>(..)?.count())
    };
    let keys = count().map_err(|fault| fault.reading(path))?;
    drop(database);
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(|error| unusable(unreachable_file(path, &error)))?;
    Ok(Contents { revision, history, keys })
}

fn chronicle(database: &Database, path: &Path) -> Result<Option<ChronicleRecord>, StoreError> {
    let read = || -> Result<Option<Vec<u8>>, super::failure::Fault> {
        let table = database.begin_read()?.open_table(KEYS)?;
        let found = table.get(keys::CHRONICLE)?;
        Ok(found.map(|stored| stored.value().2.to_vec()))
    };
    let value = read().map_err(|fault| fault.reading(path))?;
    let record = value.map(|value| records::read(keys::CHRONICLE, &value)).transpose();
    record.map_err(|error| unusable(error.to_string()))
}

/// Moves the store aside, unless a controller holds it. What comes in its place belongs to the same user.
fn set_aside(store: &Path, part: &Path, now_unix_millis: u64) -> Result<Option<PathBuf>, StoreError> {
    let fault = |error: io::Error| unusable(unreachable_file(store, &error));
    let is_there = store.try_exists().map_err(fault)?;
    if is_there && is_held(store) {
        let detail =
            format!("`{}` is held by a controller; stop it first (systemctl stop bgctl-controller)", store.display());
        drop(fs::remove_file(part));
        return Err(unusable(detail));
    }
    let owner = fs::metadata(if is_there { store } else { directory(store) }).map_err(fault)?;
    let ours = fs::metadata(part).map_err(fault)?;
    if (owner.uid(), owner.gid()) != (ours.uid(), ours.gid()) {
        std::os::unix::fs::chown(part, Some(owner.uid()), Some(owner.gid())).map_err(fault)?;
    }
    if !is_there {
        return Ok(None);
    }
    let kept = beside(store, &format!("before-{now_unix_millis}"));
    fs::rename(store, &kept).map_err(fault)?;
    Ok(Some(kept))
}

/// A file that is damaged is held by nobody.
fn is_held(store: &Path) -> bool {
    let opened = Database::open(store).map(drop).map_err(super::failure::Fault::from);
    opened.is_err_and(|fault| fault.is_held())
}

fn copy_between_writes(store: &Path, to: &Path) -> Result<(), StoreError> {
    for _ in 0..COPIES_MAX {
        let before = header(store)?;
        copy(store, to)?;
        if header(store)? == before {
            return Ok(());
        }
        std::thread::sleep(COPY_AGAIN_AFTER);
    }
    let store = store.display();
    Err(unusable(format!("`{store}` is written to all the time: {COPIES_MAX} copies were overtaken; try again later")))
}

/// Where the latest commit is named.
fn header(store: &Path) -> Result<[u8; HEADER_BYTES], StoreError> {
    let mut bytes = [0; HEADER_BYTES];
    let read = fs::File::open(store).and_then(|file| file.read_exact_at(&mut bytes, 0));
    read.map(|()| bytes).map_err(|error| unusable(unreachable_file(store, &error)))
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = fs::File::open(from).map_err(|error| unusable(unreachable_file(from, &error)))?;
    // The values may carry what a service keeps in its environment.
    let target = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to);
    let copied = target.and_then(|mut target| io::copy(&mut source, &mut target));
    copied.map(drop).map_err(|error| unusable(unreachable_file(to, &error)))
}

fn put_in_place(part: &Path, path: &Path) -> Result<(), StoreError> {
    let placed = fs::rename(part, path).and_then(|()| fs::File::open(directory(path))?.sync_all());
    placed.map_err(|error| unusable(unreachable_file(path, &error)))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{what}"));
    PathBuf::from(name)
}

fn unusable(detail: String) -> StoreError {
    StoreError::Unusable { detail }
}

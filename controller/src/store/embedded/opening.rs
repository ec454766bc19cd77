//! Opening the file: ours, whole, and held by nobody else.

use super::super::StoreError;
use super::failure::{Fault, damaged, unreachable_file};
use super::history::{CHANGES, FIRST_REVISION};
use super::pages::{KEYS, META, META_BYTES, META_FORMAT, META_OLDEST, META_REVISION, number};
use redb::{Builder, Database, ReadableDatabase, WriteTransaction};
use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

/// Memory for pages. The whole store is a few megabytes, and the kernel caches the file as well.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// How long a controller that is just ending may keep the file.
const HELD_PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two attempts at a file that is held.
const HELD_PAUSE: Duration = Duration::from_millis(20);

/// The layout of the tables in this build.
const FORMAT: u64 = 1;

/// Whether a file that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// At the first start.
    Make,
    /// It was there before: an empty store in its place would forget everything without a word.
    Refuse,
}

/// Opens or makes the file and checks every page of it. Some damage makes redb panic where it should say so: sizes
/// that are not those of the file, for instance. It is damage all the same, and a person is told so, also by a
/// program that ends with its first panic.
pub(super) fn open_database(path: &Path, absent: Absent) -> Result<(Database, u64), StoreError> {
    static TOLD_ON_PANIC: Once = Once::new();
    TOLD_ON_PANIC.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            OPENING.with_borrow(|words| words.iter().for_each(|words| tracing::error!("{words}")));
            before(info);
        }));
    });
    let words = damaged(path, &"reading it ended in a panic");
    OPENING.set(Some(words.clone()));
    let opened = panic::catch_unwind(|| open_and_check(path, absent));
    OPENING.set(None);
    opened.unwrap_or(Err(StoreError::Unusable { detail: words }))
}

thread_local! {
    /// What to say if this thread panics now.
    static OPENING: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn open_and_check(path: &Path, absent: Absent) -> Result<(Database, u64), StoreError> {
    let started = Instant::now();
    let mut database = loop {
        match create(path, absent)? {
            Err(fault) if fault.is_held() && started.elapsed() < HELD_PATIENCE => std::thread::sleep(HELD_PAUSE),
            outcome => break outcome.map_err(|fault| fault.opening(path))?,
        }
    };
    let whole = database.check_integrity().map_err(|error| Fault::from(error).opening(path))?;
    if !whole {
        return Err(StoreError::Unusable { detail: damaged(path, &"its checksums are wrong") });
    }
    let revision = match stored_revision(&database) {
        Err(fault) if fault.is_missing_table() => lay_out(&database, path)?,
        outcome => outcome.map_err(|fault| fault.opening(path))?,
    };
    Ok((database, revision))
}

fn create(path: &Path, absent: Absent) -> Result<Result<Database, Fault>, StoreError> {
    let unreachable = |error| StoreError::Unusable { detail: unreachable_file(path, &error) };
    let is_new = !path.try_exists().map_err(unreachable)?;
    if is_new && absent == Absent::Refuse {
        return Err(StoreError::Unusable { detail: damaged(path, &"it is gone") });
    }
    // What was cut to nothing looks like a file that was never written to.
    if !is_new && fs::metadata(path).map_err(unreachable)?.len() == 0 {
        return Err(StoreError::Unusable { detail: damaged(path, &"it is empty") });
    }
    // The values may carry what a service keeps in its environment.
    let options = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = options.map_err(unreachable)?;
    let outcome = Builder::new().set_cache_size(CACHE_BYTES).create_file(file).map_err(Fault::from);
    if is_new && let Some(directory) = path.parent() {
        // Without this, a power cut could take the whole file away.
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        fs::File::open(here).and_then(|directory| directory.sync_all()).map_err(unreachable)?;
    }
    Ok(outcome)
}

fn stored_revision(database: &Database) -> Result<u64, Fault> {
    let meta = database.begin_read()?.open_table(META)?;
    let format = number(&meta, META_FORMAT)?;
    if format != FORMAT {
        return Err(redb::Error::Corrupted(format!("its format is {format}, and this build knows {FORMAT}")).into());
    }
    number(&meta, META_REVISION)
}

/// Makes the tables of an empty file. Refuses a file that is somebody else's.
pub(super) fn lay_out(database: &Database, path: &Path) -> Result<u64, StoreError> {
    let make = || -> Result<Option<u64>, Fault> {
        let write = database.begin_write()?;
        if write.list_tables()?.next().is_some() || write.list_multimap_tables()?.next().is_some() {
            return Ok(None);
        }
        fill(&write)?;
        write.commit()?;
        Ok(Some(FIRST_REVISION - 1))
    };
    match make() {
        Ok(Some(revision)) => Ok(revision),
        Ok(None) => Err(StoreError::Unusable { detail: damaged(path, &"it holds other tables") }),
        Err(fault) => Err(fault.opening(path)),
    }
}

fn fill(write: &WriteTransaction) -> Result<(), Fault> {
    write.open_table(KEYS)?;
    write.open_table(CHANGES)?;
    let mut meta = write.open_table(META)?;
    meta.insert(META_FORMAT, FORMAT)?;
    meta.insert(META_REVISION, FIRST_REVISION - 1)?;
    meta.insert(META_OLDEST, FIRST_REVISION)?;
    meta.insert(META_BYTES, 0)?;
    Ok(())
}

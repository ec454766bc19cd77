//! The suite on real files, and what only a file can do: be held, be damaged, be full, lose its power.

mod backup;
mod torn;

use super::super::contract::{self, Ground};
use super::super::{Operation, Reply, Store, StoreError, Transaction};
use super::Embedded;
use super::history::Kept;
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use redb::ReadableDatabase;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Few, so that the suite can fill it.
const KEPT: Kept = Kept { revisions: 300, bytes: 8 * 1024 * 1024 };

/// Files in one directory. The latest is the one that is opened again.
struct Files {
    directory: TempDir,
    count: Mutex<usize>,
}

impl Files {
    fn latest(&self) -> PathBuf {
        self.directory.path().join(format!("{}.redb", self.count.lock().expect("not poisoned")))
    }
}

#[async_trait]
impl Ground for Files {
    async fn fresh(&self) -> Arc<dyn Store> {
        *self.count.lock().expect("not poisoned") += 1;
        Arc::new(Embedded::open_keeping(&self.latest(), KEPT).await.expect("a new file"))
    }

    async fn reopened(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        Arc::new(Embedded::open_keeping(&self.latest(), KEPT).await.expect("the same file"))
    }

    async fn forget(&self, store: &dyn Store) -> u64 {
        let mut last = 0;
        for n in 0..KEPT.revisions {
            last = put(store, "filler", n.to_string().as_bytes()).await;
        }
        last - KEPT.revisions + 1
    }
}

#[tokio::test]
async fn passes_the_contract() {
    contract::all(&Files { directory: directory(), count: Mutex::default() }).await;
}

/// A follower does so each time it asks for something else while changes come.
#[tokio::test]
async fn a_watch_that_is_left_alone_in_its_turn_holds_nobody_up() {
    let directory = directory();
    let store = Embedded::open(&directory.path().join("store.redb")).await.expect("a new file");
    let revision = put(&store, "a", b"1").await;
    let mut changes = store.watch("", revision + 1).await.expect("a watch");
    put(&store, "a", b"2").await;
    let write = Transaction {
        guards: vec![],
        operations: vec![Operation::Put("a".to_owned(), b"3".to_vec())],
        otherwise: vec![],
    };
    let mut writing = std::pin::pin!(store.transact(&write));
    assert!(writing.as_mut().now_or_never().is_none(), "it writes");
    assert!(changes.next().now_or_never().is_none(), "the watch stands behind it");
    writing.await.expect("written");
    let asked = tokio::time::timeout(Duration::from_secs(20), store.range("a")).await;
    assert_eq!(asked.expect("the file is free").expect("a range").entries.len(), 1);
    assert!(changes.next().await.is_some_and(|change| change.is_ok()));
}

#[tokio::test]
async fn a_second_controller_is_told_who_is_in_the_way() {
    let directory = directory();
    let path = directory.path().join("store.redb");
    let first = Embedded::open(&path).await.expect("a new file");
    let message = refused(&path).await;
    assert!(message.contains("held by another controller") && names(&message, &path), "{message}");
    drop(first);
    Embedded::open(&path).await.expect("free again");
}

#[tokio::test]
async fn waits_for_a_controller_that_is_just_ending() {
    let directory = directory();
    let path = directory.path().join("store.redb");
    let first = Embedded::open(&path).await.expect("a new file");
    let (second, ()) = tokio::join!(Embedded::open(&path), async move { drop(first) });
    second.expect("the file once it is free");
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let directory = directory();
    let text = directory.path().join("text");
    fs::write(&text, "not a database\n".repeat(1000)).expect("written");
    let foreign = directory.path().join("foreign.redb");
    let table = redb::TableDefinition::<u64, u64>::new("somebody");
    let database = redb::Database::create(&foreign).expect("made");
    let write = database.begin_write().expect("begun");
    write.open_table(table).expect("opened").insert(1, 1).expect("inserted");
    write.commit().expect("committed");
    drop(database);
    let before = fs::read(&text).expect("read");
    for path in [&text, &foreign] {
        let message = refused(path).await;
        assert!(message.contains("not a file of bgctl") && names(&message, path), "{message}");
    }
    assert!(fs::read(&text).expect("read") == before, "it was changed");
    let read = redb::Database::open(&foreign).expect("still a database").begin_read().expect("begun");
    assert_eq!(read.open_table(table).expect("opened").get_owned(1).expect("read").map(|found| found.value()), Some(1));
}

#[tokio::test]
async fn damage_is_found_when_it_is_opened() {
    let directory = directory();
    let path = directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    let mark = b"a value that is found again";
    put(&store, "before", b"1").await;
    put(&store, "a", mark).await;
    let as_killed = fs::read(&path).expect("read");
    drop(store);
    let as_closed = fs::read(&path).expect("read");
    for whole in [as_killed, as_closed] {
        // Never the state before it: what was answered may not vanish.
        for content in [&flipped(&whole, mark), &whole[..whole.len() / 2].to_vec(), &whole[..100].to_vec()] {
            fs::write(&path, content).expect("written");
            for attempt in ["the first", "the second"] {
                let message = refused(&path).await;
                assert!(message.contains("damaged") && names(&message, &path), "{attempt}: {message}");
            }
        }
        fs::write(&path, whole).expect("written");
        let store = Embedded::open(&path).await.expect("whole again");
        assert_eq!(store.range("a").await.expect("a range").entries[0].value, mark);
    }
}

fn flipped(whole: &[u8], mark: &[u8]) -> Vec<u8> {
    let mut flipped = whole.to_vec();
    let places: Vec<usize> = (0..whole.len() - mark.len()).filter(|&at| whole[at..].starts_with(mark)).collect();
    assert!(!places.is_empty());
    for at in places {
        flipped[at] ^= 1;
    }
    flipped
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let directory = directory();
    let path = directory.path().join("nowhere/store.redb");
    let message = refused(&path).await;
    assert!(message.contains("make its directory first") && names(&message, &path), "{message}");
}

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    let directory = directory();
    let path = directory.path().join("store.redb");
    let _store = Embedded::open(&path).await.expect("a new file");
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_copy_taken_at_any_moment_has_all_that_was_answered() {
    let directory = directory();
    let path = directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    for n in 0..20_u32 {
        let revision = put(&store, &format!("k{n}"), &n.to_le_bytes()).await;
        // The file as a power cut or kill -9 would leave it: not closed.
        let left = directory.path().join(format!("left{n}.redb"));
        fs::copy(&path, &left).expect("copied");
        let again = Embedded::open(&left).await.expect("the file that was left");
        let range = again.range("").await.expect("a range");
        assert_eq!((range.revision, range.entries.len()), (revision, n as usize + 1));
    }
}

#[tokio::test]
async fn the_past_is_bounded_in_bytes_too() {
    let directory = directory();
    let kept = Kept { revisions: 1_000, bytes: 1024 * 1024 };
    let store = Embedded::open_keeping(&directory.path().join("store.redb"), kept).await.expect("a new file");
    let mut slow = store.watch("", 0).await.expect("a watch");
    let mut last = 0;
    for _ in 0..10 {
        last = put(&store, "large", &vec![0; 200 * 1024]).await;
    }
    let Some(Err(StoreError::Compacted { asked: 2, oldest })) = slow.next().await else { panic!("it fell behind") };
    assert!(slow.next().await.is_none(), "the stream ends");
    assert_eq!(oldest, last - 4, "five times 200 KiB are within a mebibyte");
    assert_eq!(store.watch("", oldest).await.expect("a watch").take(5).count().await, 5);
}

#[tokio::test]
async fn a_full_disk_refuses_and_harms_nothing() {
    let disk = SmallDisk::mount(8);
    let path = disk.directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    let before = put(&store, "a", b"1").await;
    fs::write(disk.directory.path().join("ballast"), vec![1; 16 * 1024 * 1024]).expect_err("the disk is full");

    let write =
        Transaction { operations: vec![Operation::Put("b".to_owned(), vec![0; 1000])], ..Transaction::default() };
    let Err(StoreError::Refused { detail }) = store.transact(&write).await else { panic!("written to a full disk") };
    assert!(detail.contains("no space left") && names(&detail, &path), "{detail}");
    let range = store.range("").await.expect("reading goes on");
    assert_eq!((range.revision, range.entries.len()), (before, 1));

    fs::remove_file(disk.directory.path().join("ballast")).expect("removed");
    assert_eq!(store.transact(&write).await, Ok(Reply::Done { revision: before + 1 }));
}

/// What an abort and the leader after a restart need: removals, and the seat.
#[tokio::test]
async fn a_full_disk_takes_removals_and_elects_a_leader() {
    let disk = SmallDisk::mount(8);
    let path = disk.directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    for n in 0..40 {
        put(&store, &format!("pending/{n}"), &[7; 2_000]).await;
    }
    fs::write(disk.directory.path().join("ballast"), vec![1; 16 * 1024 * 1024]).expect_err("the disk is full");
    for n in 0..20 {
        let abort =
            Transaction { operations: vec![Operation::Delete(format!("pending/{n}"))], ..Transaction::default() };
        let answer = store.transact(&abort).await;
        assert!(matches!(answer, Ok(Reply::Done { .. })), "removal {n}: {answer:?}");
    }
    drop(store);
    let again = Embedded::open(&path).await.expect("it opens on a full disk");
    again.campaign("c1").await.expect("a leader, for aborts");
    assert_eq!(again.range("pending/").await.expect("a range").entries.len(), 20);
}

#[tokio::test]
async fn a_disk_that_fills_during_a_write_leaves_the_last_state() {
    let disk = SmallDisk::mount(8);
    let path = disk.directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    let before = put(&store, "a", b"1").await;
    let value = vec![7; 900 * 1024];
    // The check of the free space is passed by; the disk itself says no.
    fs::write(disk.directory.path().join("ballast"), vec![1; 16 * 1024 * 1024]).expect_err("the disk is full");
    let large = Transaction { operations: vec![Operation::Put("b".to_owned(), value)], ..Transaction::default() };
    let answer = store.run(move |file| file.transact_unchecked(&large)).await;
    let Err(StoreError::Refused { detail }) = answer else { panic!("{answer:?}") };
    assert!(detail.contains("no space left") && names(&detail, &path), "{detail}");
    let range = store.range("").await.expect("reading goes on");
    assert_eq!((range.revision, range.entries.len()), (before, 1));
    fs::remove_file(disk.directory.path().join("ballast")).expect("removed");
    assert_eq!(put(&store, "b", b"2").await, before + 1);
}

/// A file system of its own, unmounted at the end.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn mount(mebibytes: u32) -> Self {
        let directory = directory();
        let size = format!("size={mebibytes}m");
        let options = ["-t", "tmpfs", "-o", &size, "bgctl-test"].map(std::ffi::OsStr::new);
        as_root("mount", &[&options[..], &[directory.path().as_os_str()]].concat());
        Self { directory }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        as_root("umount", &["--lazy".as_ref(), self.directory.path().as_os_str()]);
    }
}

fn as_root(program: &str, arguments: &[&std::ffi::OsStr]) {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", program]);
        sudo
    };
    let ended = command.args(arguments).status();
    assert!(
        ended.as_ref().is_ok_and(ExitStatus::success),
        "`{program}` of a small disk failed ({ended:?}): run the tests as root, or with sudo that asks no password"
    );
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("bgctl-store-").tempdir().expect("a temporary directory")
}

async fn put(store: &dyn Store, key: &str, value: &[u8]) -> u64 {
    let operations = vec![Operation::Put(key.to_owned(), value.to_vec())];
    match store.transact(&Transaction { operations, ..Transaction::default() }).await {
        Ok(Reply::Done { revision }) => revision,
        other => panic!("a write without guards was answered {other:?}"),
    }
}

async fn refused(path: &Path) -> String {
    match Embedded::open(path).await {
        Err(StoreError::Unusable { detail }) => detail,
        other => panic!("`{}` should be unusable, not {other:?}", path.display()),
    }
}

fn names(message: &str, path: &Path) -> bool {
    message.contains(&path.display().to_string())
}

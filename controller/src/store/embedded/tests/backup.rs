//! Backups: taken while it is written to, put back, and never in anybody's way.

use super::super::backup::{back_up, restore};
use super::*;
use crate::records::{self, ChronicleRecord, keys};
use cutover::history::HistoryId;
use std::sync::atomic::{AtomicBool, Ordering};

async fn chronicle(store: &dyn Store) -> ChronicleRecord {
    let range = store.range(keys::CHRONICLE).await.expect("a range");
    let entry = range.entries.first().expect("it was written");
    records::read(&entry.key, &entry.value).expect("readable")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_taken_while_it_is_written_to_is_one_committed_state() {
    let directory = directory();
    let path = directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    // Both of one transaction: a copy that is torn would have one without the other.
    let pair = |n: u32| {
        let value = vec![n as u8; 2_000];
        let put = |key: &str| Operation::Put(key.to_owned(), [&n.to_le_bytes()[..], &value].concat());
        Transaction { operations: vec![put("one"), put("two")], ..Transaction::default() }
    };
    store.transact(&pair(0)).await.expect("written");
    let is_over = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (store, is_over) = (store.clone(), Arc::clone(&is_over));
        async move {
            let mut n = 1;
            while !is_over.load(Ordering::Relaxed) {
                store.transact(&pair(n)).await.expect("written");
                n += 1;
                // As a deployment does it: some writes, and a pause.
                if n % 10 == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
            n
        }
    });
    let mut last = 0;
    for number in 0..5 {
        let to = directory.path().join(format!("backup{number}"));
        let (from, target) = (path.clone(), to.clone());
        let contents = tokio::task::spawn_blocking(move || back_up(&from, &target)).await.expect("it ends");
        let contents = contents.expect("a backup");
        assert_eq!(fs::metadata(&to).expect("it is there").permissions().mode() & 0o777, 0o600);
        let copy = Embedded::open(&to).await.expect("whole");
        let range = copy.range("").await.expect("a range");
        assert_eq!((range.revision, range.entries.len()), (contents.revision, 2));
        assert!(range.entries[0].value == range.entries[1].value, "half of a transaction");
        assert!(range.revision > last, "a backup of before the one before");
        last = range.revision;
        // The next one has something new to hold.
        while store.range("").await.expect("a range").revision <= last {
            tokio::task::yield_now().await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(writing.await.expect("it ends") > 10);
    let message = back_up(&path, &directory.path().join("backup0")).expect_err("it exists").to_string();
    assert!(message.contains("no backup is written over"), "{message}");
}

#[tokio::test]
async fn what_is_put_back_tells_a_history_of_its_own_and_what_was_there_is_kept() {
    let directory = directory();
    let (path, backup) = (directory.path().join("store.redb"), directory.path().join("backup"));
    let store = Embedded::open(&path).await.expect("a new file");
    let before = ChronicleRecord { history: HistoryId(1).to_string(), ..ChronicleRecord::default() };
    put(&store, keys::CHRONICLE, &records::write(&before)).await;
    put(&store, "svc/web", b"v1").await;
    back_up(&path, &backup).expect("a backup");
    put(&store, "svc/web", b"v2").await;
    let held = restore(&backup, &path, HistoryId(2), 1_000).expect_err("it is held").to_string();
    assert!(held.contains("stop it first"), "{held}");
    drop(store);

    let (_, kept) = restore(&backup, &path, HistoryId(2), 1_000).expect("put back");
    let restored = Embedded::open(&path).await.expect("a store");
    assert_eq!(restored.range("svc/").await.expect("a range").entries[0].value, b"v1");
    let record = chronicle(&restored).await;
    assert_eq!((record.history, record.claims), (HistoryId(2).to_string(), vec![HistoryId(1).to_string()]));
    assert!(record.doubt.contains("backup") && record.doubt.contains("1970-01-01"), "{}", record.doubt);
    let kept = Embedded::open(&kept.expect("there was one")).await.expect("whole");
    assert_eq!(kept.range("svc/").await.expect("a range").entries[0].value, b"v2");
    assert!(!directory.path().join("store.redb.part").exists());
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_the_store_stays() {
    let directory = directory();
    let (path, backup) = (directory.path().join("store.redb"), directory.path().join("backup"));
    put(&Embedded::open(&path).await.expect("a new file"), "svc/web", b"v1").await;
    for content in [&b""[..], b"not a store", &fs::read(&path).expect("read")[..5_000]] {
        fs::write(&backup, content).expect("written");
        let message = restore(&backup, &path, HistoryId(2), 1_000).expect_err("damaged").to_string();
        assert!(message.contains("cannot be put back") && names(&message, &backup), "{message}");
    }
    let store = Embedded::open(&path).await.expect("as it was");
    assert_eq!(store.range("svc/").await.expect("a range").entries[0].value, b"v1");
}

#[tokio::test]
async fn a_store_leaps_beyond_what_anybody_can_have_heard() {
    let directory = directory();
    let path = directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    put(&store, "a", b"1").await;
    let write =
        Transaction { operations: vec![Operation::Put("b".to_owned(), b"2".to_vec())], ..Transaction::default() };
    let Reply::Done { revision } = store.transact_beyond(&write, 5_000).await.expect("written") else {
        panic!("a write without guards was refused")
    };
    assert!(revision > 1_000_000_000, "{revision}");
    assert_eq!(put(&store, "c", b"3").await, revision + 1);
    let Err(StoreError::Compacted { oldest, .. }) = store.watch("", 2).await.map(drop) else {
        panic!("a watch from before the leap sees a gap")
    };
    assert_eq!(oldest, revision);
    drop(store);
    let again = Embedded::open(&path).await.expect("the same file");
    assert_eq!(again.range("").await.expect("a range").entries.len(), 3);
    assert_eq!(again.watch("", oldest).await.expect("a watch").take(2).count().await, 2);
}

#[tokio::test]
async fn a_file_that_vanished_is_not_made_anew_while_it_is_used() {
    let disk = SmallDisk::mount(8);
    let path = disk.directory.path().join("store.redb");
    let store = Embedded::open(&path).await.expect("a new file");
    put(&store, "a", b"1").await;
    // A write that fails closes the file, and the next one looks for it again.
    fs::write(disk.directory.path().join("ballast"), vec![1; 16 * 1024 * 1024]).expect_err("the disk is full");
    let value = vec![7; 900 * 1024];
    let large = Transaction { operations: vec![Operation::Put("b".to_owned(), value)], ..Transaction::default() };
    fs::remove_file(&path).expect("removed by a careless person");
    drop(store.run(move |file| file.transact_unchecked(&large)).await.expect_err("the disk is full"));
    fs::remove_file(disk.directory.path().join("ballast")).expect("removed");
    let Err(StoreError::Unusable { detail }) = store.range("").await else { panic!("an empty store in its place") };
    assert!(detail.contains("it is gone"), "{detail}");
}

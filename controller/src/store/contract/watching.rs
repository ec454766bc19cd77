//! Watches: from the past, from now, across the two, and from too long ago.

use super::super::{Change, Store, StoreError};
use super::{Ground, case, delete, entry, next, put, within, write};
use std::sync::Arc;

/// Writers and writes of each in the case that looks for gaps.
const WRITERS: u64 = 4;
const WRITES: u64 = 50;

pub(super) async fn all(ground: &dyn Ground) {
    past_and_present(&*ground.fresh().await).await;
    from_the_future(&*ground.fresh().await).await;
    across_a_restart(ground).await;
    no_gap_and_no_duplicate(ground.fresh().await).await;
    too_long_ago(ground).await;
}

async fn past_and_present(store: &dyn Store) {
    case("a watch starts in the past, inclusive, and goes on with the present, in order, for its prefix");
    let first = write(store, &[put("w/b", "1"), put("x", "no"), put("w/a", "2")]).await;
    let second = write(store, &[put("w/a", "3"), delete("w/b"), delete("w/missing")]).await;
    let mut all = store.watch("w/", first).await.expect("a watch");
    let mut later = store.watch("w/", second).await.expect("a watch");
    let third = write(store, &[put("w/b", "4")]).await;
    let expected = [
        Change::Put(entry("w/b", "1", first, first)),
        Change::Put(entry("w/a", "2", first, first)),
        Change::Put(entry("w/a", "3", first, second)),
        Change::Deleted { key: "w/b".to_owned(), revision: second },
        Change::Put(entry("w/b", "4", third, third)),
    ];
    for change in &expected {
        assert_eq!(next(&mut all).await, *change);
    }
    for change in &expected[2..] {
        assert_eq!(next(&mut later).await, *change);
    }
    let mut from_zero = store.watch("w/", 0).await.expect("a watch");
    assert_eq!(next(&mut from_zero).await, expected[0], "revision 0 is the beginning, not the present");
}

async fn from_the_future(store: &dyn Store) {
    case("a watch from a revision to come says nothing of those before");
    let first = write(store, &[put("w", "1")]).await;
    let mut changes = store.watch("w", first + 2).await.expect("a watch");
    write(store, &[put("w", "2")]).await;
    let third = write(store, &[put("w", "3")]).await;
    assert_eq!(next(&mut changes).await, Change::Put(entry("w", "3", first, third)));
}

async fn across_a_restart(ground: &dyn Ground) {
    case("the past is there after a restart");
    let store = ground.fresh().await;
    let first = write(&*store, &[put("w", "1")]).await;
    let second = write(&*store, &[delete("w")]).await;
    let store = ground.reopened(store).await;
    let mut changes = store.watch("w", first).await.expect("a watch");
    assert_eq!(next(&mut changes).await, Change::Put(entry("w", "1", first, first)));
    assert_eq!(next(&mut changes).await, Change::Deleted { key: "w".to_owned(), revision: second });
}

async fn no_gap_and_no_duplicate(store: Arc<dyn Store>) {
    case("watches that start while others write see every revision once");
    let start = write(&*store, &[put("w/start", "")]).await;
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0..WRITES {
                write(&*store, &[put(&format!("w/{writer}"), &n.to_string())]).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let end = start + WRITERS * WRITES;
    let mut from = start;
    while from < end {
        let mut changes = store.watch("w/", from).await.expect("a watch");
        // Each next watch starts where this one has got to, so the border of past and present is crossed often.
        for expected in from..=(from + 20).min(end) {
            assert_eq!(next(&mut changes).await.revision(), expected);
        }
        from += 20;
    }
    for writer in writers {
        within("a writer", writer).await.expect("the writer does not panic");
    }
}

async fn too_long_ago(ground: &dyn Ground) {
    case("a watch from a revision that is forgotten fails and says from where it would work");
    let store = ground.fresh().await;
    let first = write(&*store, &[put("w", "1")]).await;
    let deleted = write(&*store, &[delete("w")]).await;
    let oldest = ground.forget(&*store).await;
    assert!(oldest > deleted);
    for asked in [first, deleted, oldest - 1] {
        let answer = store.watch("w", asked).await.map(drop);
        assert_eq!(answer, Err(StoreError::Compacted { asked, oldest }));
    }
    let mut changes = store.watch("w", oldest).await.expect("a watch from the oldest that is kept");
    let made = write(&*store, &[put("w", "2")]).await;
    assert_eq!(next(&mut changes).await, Change::Put(entry("w", "2", made, made)));
}

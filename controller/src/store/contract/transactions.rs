//! Guards, revisions and limits.

use super::super::{KEY_BYTES_MAX, Operation, Reply, Store, StoreError, TRANSACTION_KEYS_MAX, VALUE_BYTES_MAX};
use super::{Ground, case, created, delete, entry, guarded, modified, put, write};

pub(super) async fn all(ground: &dyn Ground) {
    all_or_nothing(&*ground.fresh().await).await;
    a_refusal_reads(&*ground.fresh().await).await;
    revisions(&*ground.fresh().await).await;
    what_changes_nothing_raises_nothing(&*ground.fresh().await).await;
    limits_hold(&*ground.fresh().await).await;
    the_largest_goes_in(&*ground.fresh().await).await;
    one_of_many_wins(&*ground.fresh().await).await;
}

async fn all_or_nothing(store: &dyn Store) {
    case("all guards hold or nothing is written");
    let first = write(store, &[put("a", "1"), put("b", "1")]).await;
    let half = guarded(&[created("a", first), modified("b", first + 1)], &[put("a", "2"), delete("b")], &[]);
    let reply = store.transact(&half).await.expect("an answer");
    assert_eq!(reply, Reply::Refused { revision: first, read: vec![] });
    let range = store.range("").await.expect("a range");
    assert_eq!(range.entries, [entry("a", "1", first, first), entry("b", "1", first, first)]);

    let whole =
        guarded(&[created("a", first), modified("b", first), created("c", 0)], &[put("a", "2"), delete("b")], &[]);
    let reply = store.transact(&whole).await.expect("an answer");
    assert_eq!(reply, Reply::Done { revision: first + 1 });
    let range = store.range("").await.expect("a range");
    assert_eq!(range.entries, [entry("a", "2", first, first + 1)]);
}

async fn a_refusal_reads(store: &dyn Store) {
    case("a refused transaction reads what it was asked to, in the order asked, and only what exists");
    let first = write(store, &[put("a", "1"), put("b", "2")]).await;
    let refused = guarded(&[created("a", 0)], &[put("a", "3")], &["b", "missing", "a"]);
    let reply = store.transact(&refused).await.expect("an answer");
    let read = vec![entry("b", "2", first, first), entry("a", "1", first, first)];
    assert_eq!(reply, Reply::Refused { revision: first, read });
}

async fn revisions(store: &dyn Store) {
    case("one counter, up by one with each write; a key that is made again is made anew");
    let made = write(store, &[put("k", "1")]).await;
    assert_eq!(write(store, &[put("k", "2"), put("other", "x")]).await, made + 1);
    assert_eq!(store.range("k").await.expect("a range").entries, [entry("k", "2", made, made + 1)]);
    assert_eq!(write(store, &[delete("k")]).await, made + 2);
    let gone = guarded(&[created("k", 0), modified("k", 0)], &[put("k", "3")], &[]);
    assert_eq!(store.transact(&gone).await, Ok(Reply::Done { revision: made + 3 }));
    let range = store.range("k").await.expect("a range");
    assert_eq!((range.revision, range.entries), (made + 3, vec![entry("k", "3", made + 3, made + 3)]));
}

async fn what_changes_nothing_raises_nothing(store: &dyn Store) {
    case("a transaction that changes nothing leaves the revision as it was");
    let first = write(store, &[put("a", "1")]).await;
    assert_eq!(write(store, &[delete("missing")]).await, first);
    assert_eq!(write(store, &[]).await, first);
    assert_eq!(write(store, &[put("a", "1")]).await, first + 1, "the same value again is a write");
}

async fn limits_hold(store: &dyn Store) {
    case("what is too much is refused, and nothing is written");
    let before = write(store, &[put("a", "1")]).await;
    let keys: Vec<String> = (0..=TRANSACTION_KEYS_MAX).map(|n| format!("k{n}")).collect();
    let puts: Vec<Operation> = keys.iter().map(|key| put(key, "")).collect();
    let guards: Vec<_> = keys.iter().map(|key| created(key, 0)).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let large = "x".repeat(VALUE_BYTES_MAX);
    let too_much = [
        guarded(&[], &puts, &[]),
        guarded(&guards, &[], &[]),
        guarded(&[], &[], &names),
        guarded(&[], &[put("a", &format!("{large}x"))], &[]),
        guarded(&[], &[put("a", &large), put("b", &large)], &[]),
        guarded(&[], &[put("", "x")], &[]),
        guarded(&[], &[put(&"k".repeat(KEY_BYTES_MAX + 1), "x")], &[]),
        guarded(&[], &[put("a", "x"), put("a", "y")], &[]),
        guarded(&[], &[put("a", "x"), delete("a")], &[]),
        guarded(&[], &[delete("a"), put("a", "x")], &[]),
    ];
    for transaction in too_much {
        let answer = store.transact(&transaction).await;
        assert!(matches!(answer, Err(StoreError::Refused { .. })), "{answer:?}");
    }
    let range = store.range("").await.expect("a range");
    assert_eq!((range.revision, range.entries), (before, vec![entry("a", "1", before, before)]));
}

async fn the_largest_goes_in(store: &dyn Store) {
    case("what is exactly at the limits is taken");
    let keys: Vec<String> = (0..TRANSACTION_KEYS_MAX).map(|n| format!("{n:0>width$}", width = KEY_BYTES_MAX)).collect();
    let guards: Vec<_> = keys.iter().map(|key| created(key, 0)).collect();
    let value = "x".repeat(10_000);
    let puts: Vec<Operation> = keys.iter().map(|key| put(key, &value)).collect();
    let names: Vec<&str> = keys[..8].iter().map(String::as_str).collect();
    let full = guarded(&guards, &puts, &names);
    let Ok(Reply::Done { revision }) = store.transact(&full).await else { panic!("a full transaction was not taken") };
    assert_eq!(write(store, &[put("large", &"x".repeat(VALUE_BYTES_MAX))]).await, revision + 1);
    assert_eq!(write(store, &[delete("same"), delete("same"), put("one", "")]).await, revision + 2);
    let range = store.range("").await.expect("a range of several megabytes");
    assert_eq!(range.entries.len(), TRANSACTION_KEYS_MAX + 2);
}

async fn one_of_many_wins(store: &dyn Store) {
    case("of many transactions with the same guard at the same time, one is done");
    let transactions: Vec<_> =
        (0..16).map(|n| guarded(&[created("prize", 0)], &[put("prize", &n.to_string())], &["prize"])).collect();
    let asked = futures_util::future::join_all(transactions.iter().map(|transaction| store.transact(transaction)));
    let mut done = 0;
    for reply in asked.await {
        match reply.expect("an answer") {
            Reply::Done { .. } => done += 1,
            Reply::Refused { read, .. } => assert_eq!(read.len(), 1, "the others see who won"),
        }
    }
    assert_eq!(done, 1);
}

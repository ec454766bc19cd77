//! Ranges, and what is there after a restart.

use super::super::Store;
use super::{Ground, case, delete, entry, put, write};

pub(super) async fn all(ground: &dyn Ground) {
    prefixes(&*ground.fresh().await).await;
    after_a_restart(ground).await;
}

async fn prefixes(store: &dyn Store) {
    case("a range is the keys with the prefix, sorted, at the present revision");
    let empty = store.range("svc/").await.expect("a range");
    assert_eq!(empty.entries, []);
    let first = write(store, &[put("svc/b", "2"), put("svc/a", "1"), put("svc0", "x"), put("sv", "x")]).await;
    let second = write(store, &[put("svc/ab", "3"), put("svc/\u{e9}", "4")]).await;
    let last = write(store, &[put("unrelated", "x")]).await;
    assert_eq!(empty.revision + 1, first);
    let range = store.range("svc/").await.expect("a range");
    let expected = [
        entry("svc/a", "1", first, first),
        entry("svc/ab", "3", second, second),
        entry("svc/b", "2", first, first),
        entry("svc/\u{e9}", "4", second, second),
    ];
    assert_eq!(range.entries, expected);
    assert_eq!(range.revision, last);
    assert_eq!(store.range("").await.expect("a range").entries.len(), 7);
    assert_eq!(store.range("nothing").await.expect("a range").entries, []);
}

async fn after_a_restart(ground: &dyn Ground) {
    case("after a restart everything is there and the revision goes on");
    let store = ground.fresh().await;
    let first = write(&*store, &[put("a", "1"), put("b", "1")]).await;
    let second = write(&*store, &[put("a", "2"), delete("b")]).await;
    let before = store.range("").await.expect("a range");
    let store = ground.reopened(store).await;
    let after = store.range("").await.expect("a range");
    assert_eq!(after, before);
    assert_eq!(after.entries, [entry("a", "2", first, second)]);
    assert_eq!(write(&*store, &[put("c", "1")]).await, second + 1);
}

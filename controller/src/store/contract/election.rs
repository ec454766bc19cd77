//! One leader at a time, and no write of an old one.

use super::super::{LEADER_KEY, Leadership, Reply, Store};
use super::{Ground, case, created, delete, guarded, put, within, write};
use futures_util::FutureExt;
use futures_util::future::select_all;
use std::sync::Arc;

const CANDIDATES: [&str; 3] = ["one", "two", "three"];

/// Enough that a candidate who does not wait would be elected meanwhile.
const WRITES_MEANWHILE: usize = 20;

pub(super) async fn all(ground: &dyn Ground) {
    the_key(&*ground.fresh().await).await;
    one_at_a_time(&*ground.fresh().await).await;
    several_at_once(&*ground.fresh().await).await;
    a_stale_leader_writes_nothing(&*ground.fresh().await).await;
    removed_by_hand(&*ground.fresh().await).await;
    again_after_a_restart(ground).await;
}

async fn elected(store: &dyn Store, candidate: &str) -> Box<dyn Leadership> {
    within("an election", store.campaign(candidate)).await.expect("an election")
}

async fn the_key(store: &dyn Store) {
    case("the leader key holds the candidate, and its create revision is the epoch");
    let leading = elected(store, "one").await;
    let range = store.range(LEADER_KEY).await.expect("a range");
    assert_eq!(range.entries.len(), 1);
    assert_eq!(range.entries[0].key, LEADER_KEY);
    assert_eq!(range.entries[0].value, b"one");
    assert_eq!(range.entries[0].create_revision, leading.epoch());
    assert_eq!(range.revision, leading.epoch());
    within("resigning", leading.resign()).await.expect("resigning");
    assert_eq!(store.range(LEADER_KEY).await.expect("a range").entries, []);
}

async fn one_at_a_time(store: &dyn Store) {
    case("the second waits until the first resigns; keys that only start alike are nobody's");
    write(store, &[put("leader2", "x")]).await;
    let mut first = elected(store, "one").await;
    let mut second = store.campaign("two");
    let elsewhere = async {
        for n in 0..WRITES_MEANWHILE {
            write(store, &[put("leader2", &n.to_string())]).await;
            write(store, &[delete("leader2")]).await;
        }
    };
    tokio::select! {
        _ = &mut second => panic!("two lead"),
        () = elsewhere => {}
    }
    assert!(first.lost().now_or_never().is_none(), "the first is told that it lost");
    let epoch = first.epoch();
    let (resigned, second) = within("the change of leader", futures_util::future::join(first.resign(), second)).await;
    resigned.expect("resigning");
    let second = second.expect("an election");
    assert!(second.epoch() > epoch);
    let range = store.range(LEADER_KEY).await.expect("a range");
    assert_eq!(range.entries[0].value, b"two");
}

async fn several_at_once(store: &dyn Store) {
    case("of several who stand at the same moment one leads, then the next, each with a higher epoch");
    let mut waiting: Vec<_> = CANDIDATES.iter().map(|candidate| store.campaign(candidate)).collect();
    let mut before = 0;
    while !waiting.is_empty() {
        let (leading, _, mut others) = within("an election", select_all(waiting)).await;
        let leading = leading.expect("an election");
        assert!(leading.epoch() > before);
        before = leading.epoch();
        if !others.is_empty() {
            let meanwhile = async {
                for n in 0..WRITES_MEANWHILE {
                    write(store, &[put("a", &n.to_string())]).await;
                }
            };
            tokio::select! {
                _ = select_all(&mut others) => panic!("two lead"),
                () = meanwhile => {}
            }
        }
        within("resigning", leading.resign()).await.expect("resigning");
        waiting = others;
    }
}

async fn a_stale_leader_writes_nothing(store: &dyn Store) {
    case("with its epoch as guard, an old leader writes nothing");
    let first = elected(store, "one").await;
    let old = first.epoch();
    let by = |epoch, value| guarded(&[created(LEADER_KEY, epoch)], &[put("decision", value)], &["decision"]);
    assert!(matches!(store.transact(&by(old, "one")).await, Ok(Reply::Done { .. })));
    first.resign().await.expect("resigning");
    assert!(matches!(store.transact(&by(old, "stale")).await, Ok(Reply::Refused { .. })), "nobody leads");
    let second = elected(store, "two").await;
    let Ok(Reply::Refused { read, .. }) = store.transact(&by(old, "stale")).await else { panic!("a stale write") };
    assert_eq!(read[0].value, b"one");
    assert!(matches!(store.transact(&by(second.epoch(), "two")).await, Ok(Reply::Done { .. })));
}

async fn removed_by_hand(store: &dyn Store) {
    case("a leader whose key is removed hears of it, and resigning is still fine");
    let mut leading = elected(store, "one").await;
    write(store, &[delete(LEADER_KEY)]).await;
    let why = within("the loss", leading.lost()).await;
    assert!(why.contains("removed"), "{why}");
    assert_eq!(within("the loss, asked again", leading.lost()).await, why);
    within("resigning", leading.resign()).await.expect("resigning");
    elected(store, "two").await;
}

async fn again_after_a_restart(ground: &dyn Ground) {
    case("a controller that died without resigning is elected again, with a higher epoch");
    let store: Arc<dyn Store> = ground.fresh().await;
    let leading = elected(&*store, "one").await;
    let epoch = leading.epoch();
    drop(leading);
    let store = ground.reopened(store).await;
    let again = elected(&*store, "one").await;
    assert!(again.epoch() > epoch);
    let stale = guarded(&[created(LEADER_KEY, epoch)], &[put("a", "stale")], &[]);
    assert!(matches!(store.transact(&stale).await, Ok(Reply::Refused { .. })));
}

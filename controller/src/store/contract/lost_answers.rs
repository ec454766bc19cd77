//! A write that was not answered is unknown. Asking the same again brings out the truth, whatever was lost.

use super::super::faulty::{Faulty, Loss};
use super::super::{Reply, Store, StoreError, write_until_answered};
use super::{Ground, case, created, entry, guarded, modified, put, within, write};

pub(super) async fn all(ground: &dyn Ground) {
    lost_before(ground).await;
    lost_after(ground).await;
    late(ground).await;
    a_refusal_is_an_answer(ground).await;
    full_meanwhile(ground).await;
}

async fn lost_before(ground: &dyn Ground) {
    case("requests that were lost are asked again until one is done");
    let store = Faulty::new(ground.fresh().await);
    let decide = guarded(&[created("outcome", 0)], &[put("outcome", "commit")], &["outcome"]);
    store.lose([Loss::BeforeApplying, Loss::BeforeApplying]);
    let reply = within("an answer", write_until_answered(&store, &decide)).await.expect("an answer");
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    assert_eq!(store.asked(), 3);
}

async fn lost_after(ground: &dyn Ground) {
    case("a write whose answer was lost is found, not written twice");
    let store = Faulty::new(ground.fresh().await);
    let before = write(&store, &[put("x", "")]).await;
    let decide = guarded(&[created("outcome", 0)], &[put("outcome", "commit")], &["outcome"]);
    store.lose([Loss::AfterApplying]);
    let reply = within("an answer", write_until_answered(&store, &decide)).await.expect("an answer");
    let read = vec![entry("outcome", "commit", before + 1, before + 1)];
    assert_eq!(reply, Reply::Refused { revision: before + 1, read }, "the reader recognises its own write");
}

async fn late(ground: &dyn Ground) {
    case("a write that lands late, after another was decided, changes nothing");
    let store = Faulty::new(ground.fresh().await);
    let pending = write(&store, &[put("pending", "T")]).await;
    let commit =
        guarded(&[modified("pending", pending)], &[put("pending", ""), put("outcome", "commit")], &["outcome"]);
    let abort = guarded(&[modified("pending", pending)], &[put("pending", ""), put("outcome", "abort")], &["outcome"]);
    store.lose([Loss::Late]);
    assert!(matches!(store.transact(&commit).await, Err(StoreError::Unknown { .. })));
    assert!(matches!(store.transact(&abort).await, Ok(Reply::Done { .. })));
    let landed = store.land_late().await;
    assert!(matches!(landed.as_slice(), [Ok(Reply::Refused { .. })]), "{landed:?}");
    let reply = within("an answer", write_until_answered(&store, &commit)).await.expect("an answer");
    let Reply::Refused { read, .. } = reply else { panic!("two outcomes") };
    assert_eq!(read[0].value, b"abort");
}

async fn a_refusal_is_an_answer(ground: &dyn Ground) {
    case("what the store refuses is not asked again");
    let store = Faulty::new(ground.fresh().await);
    let wrong = guarded(&[], &[put("", "x")], &[]);
    let answer = within("an answer", write_until_answered(&store, &wrong)).await;
    assert!(matches!(answer, Err(StoreError::Refused { .. })), "{answer:?}");
    assert_eq!(store.asked(), 1);
}

async fn full_meanwhile(ground: &dyn Ground) {
    case("a write whose answer was lost is found though the store is full by now; one that is not there is doubtful");
    let store = Faulty::new(ground.fresh().await);
    let before = write(&store, &[put("x", "")]).await;
    let decide = guarded(&[created("outcome", 0)], &[put("outcome", "commit")], &["outcome"]);
    store.lose([Loss::AfterApplying, Loss::NoRoom]);
    let reply = within("an answer", write_until_answered(&store, &decide)).await.expect("an answer");
    let read = vec![entry("outcome", "commit", before + 1, before + 1)];
    assert_eq!(reply, Reply::Refused { revision: before + 1, read });

    let late = guarded(&[created("late", 0)], &[put("late", "commit")], &["late"]);
    store.lose([Loss::Late, Loss::NoRoom, Loss::BeforeApplying, Loss::NoRoom]);
    let answer = within("an answer", write_until_answered(&store, &late)).await;
    assert!(matches!(answer, Err(StoreError::Doubtful { .. })), "{answer:?}");
    assert!(matches!(store.land_late().await[..], [Ok(Reply::Done { .. })]), "it landed after that");
}

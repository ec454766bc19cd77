//! The file and etcd, asked the same, answer the same: to the revision.

use super::super::super::embedded::Embedded;
use super::super::super::etcd_server::EtcdServer;
use super::super::super::{Change, Field, Guard, Operation, Store, Transaction};
use super::{connect, within};
use futures_util::StreamExt;

const TRANSACTIONS: usize = 600;

/// Few, so that guards often meet a key that was written, deleted or made anew.
const KEYS: [&str; 5] = ["a", "a/b", "b", "c", "c/d"];

#[tokio::test]
async fn the_file_and_etcd_answer_the_same() {
    let server = EtcdServer::start().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let etcd = connect(&server.config()).await;
    let file = Embedded::open(&directory.path().join("store.redb")).await.expect("a new file");
    let mut dice = Dice(1);
    let mut refused = 0;
    for n in 0..TRANSACTIONS {
        let known = file.range("").await.expect("a range");
        let transaction = dice.transaction(&known.entries, n);
        let (by_file, by_etcd) = (file.transact(&transaction).await, etcd.transact(&transaction).await);
        assert_eq!(by_file, by_etcd, "number {n}: {transaction:?}");
        refused += usize::from(matches!(by_file, Ok(super::super::super::Reply::Refused { .. })));
        assert_eq!(file.range("a").await, etcd.range("a").await, "after number {n}: {transaction:?}");
    }
    assert!((TRANSACTIONS / 10..TRANSACTIONS * 9 / 10).contains(&refused), "{refused} refused: the dice are loaded");
    let last = file.range("").await.expect("a range").revision;
    for prefix in ["", "a", "c/"] {
        assert_eq!(all_changes(&file, prefix, last).await, all_changes(&etcd, prefix, last).await);
    }
}

/// Up to a last one made for the purpose.
async fn all_changes(store: &dyn Store, prefix: &str, last: u64) -> Vec<Change> {
    let changes = store.watch(prefix, 0).await.expect("a watch");
    let expected = store.watch("", 0).await.expect("a watch");
    let whole: Vec<Change> = within(
        "the past",
        expected
            .map(|change| change.expect("a change"))
            .take_while(|change| {
                let go_on = change.revision() < last;
                async move { go_on }
            })
            .collect(),
    )
    .await;
    let wanted = whole.iter().filter(|change| key(change).starts_with(prefix)).count();
    let found = changes.take(wanted).map(|change| change.expect("a change")).collect::<Vec<_>>();
    within("the past", found).await
}

fn key(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Deleted { key, .. } => key,
    }
}

/// The same throws on every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn transaction(&mut self, known: &[super::super::super::Entry], n: usize) -> Transaction {
        let guards = (0..self.throw(3)).map(|_| self.guard(known)).collect();
        let operations = (0..self.throw(4)).map(|place| self.operation(n, place)).collect();
        let otherwise = (0..self.throw(3)).map(|_| self.key()).collect();
        Transaction { guards, operations, otherwise }
    }

    fn guard(&mut self, known: &[super::super::super::Entry]) -> Guard {
        let key = self.key();
        let field = if self.throw(2) == 0 { Field::CreateRevision } else { Field::ModRevision };
        let now = known.iter().find(|entry| entry.key == key).map_or(0, |entry| match field {
            Field::CreateRevision => entry.create_revision,
            Field::ModRevision => entry.mod_revision,
        });
        let equals = if self.throw(4) == 0 { self.throw(TRANSACTIONS) as u64 } else { now };
        Guard { key, field, equals }
    }

    fn operation(&mut self, n: usize, place: usize) -> Operation {
        if self.throw(3) == 0 {
            Operation::Delete(self.key())
        } else {
            Operation::Put(self.key(), format!("{n}.{place}").into_bytes())
        }
    }

    fn key(&mut self) -> String {
        KEYS[self.throw(KEYS.len())].to_owned()
    }
}

//! What every store must do, as one suite. Each implementation runs the whole of it on the real thing.

mod transactions;
mod reading;
mod watching;
mod election;
mod lost_answers;

use super::{Change, Entry, Field, Guard, Operation, Reply, Store, StoreError, Transaction};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;

/// Time for anything that must happen. Reached only when it never would.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the suite stands: how to get stores of one implementation.
#[async_trait]
pub trait Ground: Send + Sync {
    /// A store with nothing in it, apart from all others.
    async fn fresh(&self) -> Arc<dyn Store>;
    /// The same store after its process has ended and come back. Everything else that used it is dropped before.
    async fn reopened(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;
    /// Has the store forget all changes up to and including its present revision. Answers with the oldest one
    /// that is kept, which is the next.
    async fn forget(&self, store: &dyn Store) -> u64;
}

/// Runs every case, each on a store of its own. Panics with what was expected.
pub async fn all(ground: &dyn Ground) {
    transactions::all(ground).await;
    reading::all(ground).await;
    watching::all(ground).await;
    election::all(ground).await;
    lost_answers::all(ground).await;
}

fn case(name: &str) {
    // Shown with a failure, so that it is clear which case it was.
    eprintln!("contract: {name}");
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put(key.to_owned(), value.as_bytes().to_vec())
}

fn delete(key: &str) -> Operation {
    Operation::Delete(key.to_owned())
}

fn created(key: &str, equals: u64) -> Guard {
    Guard { key: key.to_owned(), field: Field::CreateRevision, equals }
}

fn modified(key: &str, equals: u64) -> Guard {
    Guard { key: key.to_owned(), field: Field::ModRevision, equals }
}

fn guarded(guards: &[Guard], operations: &[Operation], otherwise: &[&str]) -> Transaction {
    Transaction {
        guards: guards.to_vec(),
        operations: operations.to_vec(),
        otherwise: otherwise.iter().map(|&key| key.to_owned()).collect(),
    }
}

fn entry(key: &str, value: &str, create_revision: u64, mod_revision: u64) -> Entry {
    Entry { key: key.to_owned(), value: value.as_bytes().to_vec(), create_revision, mod_revision }
}

/// Writes without guards and answers with the revision.
async fn write(store: &dyn Store, operations: &[Operation]) -> u64 {
    match store.transact(&guarded(&[], operations, &[])).await {
        Ok(Reply::Done { revision }) => revision,
        other => panic!("a write without guards was answered {other:?}"),
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

async fn next(changes: &mut BoxStream<'static, Result<Change, StoreError>>) -> Change {
    match within("a change", changes.next()).await {
        Some(Ok(change)) => change,
        other => panic!("a change was expected, not {other:?}"),
    }
}

//! A store whose reads may be old, for tests: what etcd before 3.6.9 may do after a pause of its leader. What is
//! written, and what a transaction reads, is always of now.

use super::{Change, Leadership, Range, Reply, Store, StoreError, Transaction};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::sync::{Arc, Mutex, MutexGuard};

/// Passes everything on, but for the reads it was told to answer from before.
pub struct Stale {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    before: Option<Range>,
    left: usize,
    told: usize,
}

impl Stale {
    /// In front of this store, telling the truth so far.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Takes what the store holds now; as many reads as this, from now on, are answered from it.
    pub async fn freeze(&self, reads: usize) {
        let before = self.inner.range("").await.expect("a range");
        *self.state() = State { before: Some(before), left: reads, told: 0 };
    }

    /// How many reads were answered from before.
    pub fn told(&self) -> usize {
        self.state().told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test holds this lock while it panics")
    }

    fn old(&self, prefix: &str) -> Option<Range> {
        let mut state = self.state();
        let Range { revision, entries } = state.before.clone().filter(|_| state.left > 0)?;
        state.left -= 1;
        state.told += 1;
        let entries = entries.into_iter().filter(|entry| entry.key.starts_with(prefix)).collect();
        Some(Range { revision, entries })
    }
}

#[async_trait]
impl Store for Stale {
    async fn transact(&self, transaction: &Transaction) -> Result<Reply, StoreError> {
        self.inner.transact(transaction).await
    }

    async fn transact_beyond(&self, transaction: &Transaction, revision: u64) -> Result<Reply, StoreError> {
        self.inner.transact_beyond(transaction, revision).await
    }

    async fn cluster(&self) -> Result<Option<String>, StoreError> {
        self.inner.cluster().await
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        match self.old(prefix) {
            Some(old) => Ok(old),
            None => self.inner.range(prefix).await,
        }
    }

    async fn watch(
        &self,
        prefix: &str,
        from_revision: u64,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        self.inner.watch(prefix, from_revision).await
    }

    async fn campaign(&self, candidate: &str) -> Result<Box<dyn Leadership>, StoreError> {
        self.inner.campaign(candidate).await
    }
}

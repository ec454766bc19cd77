//! A store that loses answers on demand, for tests: the network's worst, in front of any store.

use super::{Change, Leadership, Operation, Range, Reply, Store, StoreError, Transaction};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// What becomes of a transaction. The caller hears `Unknown` of one that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// None: the next one is meant.
    Passes,
    /// The request is lost: nothing is written.
    BeforeApplying,
    /// The answer is lost: it is written, if its guards hold.
    AfterApplying,
    /// The request is slow: it is written, if its guards then hold, when [`Faulty::land_late`] is called.
    Late,
    /// It is not lost: the store is full, and refuses it if it puts anything.
    NoRoom,
}

/// Passes everything on, but for the transactions it was told to lose.
pub struct Faulty {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    losses: VecDeque<Loss>,
    late: Vec<Transaction>,
    asked: usize,
}

impl Faulty {
    /// In front of this store, losing nothing yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Loses the next transactions, one for each entry, after those it was told to lose before.
    pub fn lose(&self, losses: impl IntoIterator<Item = Loss>) {
        self.state().losses.extend(losses);
    }

    /// Writes the transactions that were late, in order, and says what the store answered to each.
    pub async fn land_late(&self) -> Vec<Result<Reply, StoreError>> {
        let late = std::mem::take(&mut self.state().late);
        let mut answers = Vec::new();
        for transaction in late {
            answers.push(self.inner.transact(&transaction).await);
        }
        answers
    }

    /// How many transactions were asked for, lost ones too.
    pub fn asked(&self) -> usize {
        self.state().asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test holds this lock while it panics")
    }

    fn next_loss(&self) -> Option<Loss> {
        let mut state = self.state();
        state.asked += 1;
        state.losses.pop_front()
    }
}

#[async_trait]
impl Store for Faulty {
    async fn transact(&self, transaction: &Transaction) -> Result<Reply, StoreError> {
        match self.next_loss() {
            None | Some(Loss::Passes) => return self.inner.transact(transaction).await,
            Some(Loss::BeforeApplying) => {}
            Some(Loss::AfterApplying) => drop(self.inner.transact(transaction).await?),
            Some(Loss::Late) => self.state().late.push(transaction.clone()),
            Some(Loss::NoRoom) => {
                let puts = transaction.operations.iter().any(|operation| matches!(operation, Operation::Put(..)));
                let refused = StoreError::Refused { detail: "it is full on purpose".to_owned() };
                return if puts { Err(refused) } else { self.inner.transact(transaction).await };
            }
        }
        Err(StoreError::Unknown { detail: "the answer was lost on purpose".to_owned() })
    }

    async fn transact_beyond(&self, transaction: &Transaction, revision: u64) -> Result<Reply, StoreError> {
        self.inner.transact_beyond(transaction, revision).await
    }

    async fn cluster(&self) -> Result<Option<String>, StoreError> {
        self.inner.cluster().await
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        self.inner.range(prefix).await
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

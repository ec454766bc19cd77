//! A store in memory that can be filled with anything, as no real one can.

use async_trait::async_trait;
use bgctl_controller::store::{
    Change, Entry, Field, Guard, LEADER_KEY, Leadership, Operation, Range, Reply, Store, StoreError, Transaction,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones share what is on it.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    revision: u64,
    entries: BTreeMap<String, Entry>,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays a value down.
    pub fn put(&self, key: &str, value: Vec<u8>) {
        self.lock().put(key, value);
    }

    /// All of it.
    pub fn all(&self) -> Range {
        self.lock().range("")
    }
}

impl Content {
    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.revision += 1;
        self.set(key, value);
    }

    fn set(&mut self, key: &str, value: Vec<u8>) {
        let create_revision = self.entries.get(key).map_or(self.revision, |entry| entry.create_revision);
        let entry = Entry { key: key.to_owned(), value, create_revision, mod_revision: self.revision };
        self.entries.insert(key.to_owned(), entry);
    }

    fn holds(&self, guard: &Guard) -> bool {
        let entry = self.entries.get(&guard.key);
        guard.equals
            == entry.map_or(0, |entry| match guard.field {
                Field::CreateRevision => entry.create_revision,
                Field::ModRevision => entry.mod_revision,
            })
    }

    fn range(&self, prefix: &str) -> Range {
        let found = self.entries.values().filter(|entry| entry.key.starts_with(prefix));
        Range { revision: self.revision, entries: found.cloned().collect() }
    }

    fn transact(&mut self, transaction: &Transaction) -> Reply {
        if !transaction.guards.iter().all(|guard| self.holds(guard)) {
            let read = transaction.otherwise.iter().filter_map(|key| self.entries.get(key).cloned()).collect();
            return Reply::Refused { revision: self.revision, read };
        }
        self.revision += 1;
        for operation in &transaction.operations {
            match operation {
                Operation::Put(key, value) => self.set(key, value.clone()),
                Operation::Delete(key) => drop(self.entries.remove(key)),
            }
        }
        Reply::Done { revision: self.revision }
    }
}

#[async_trait]
impl Store for Shelf {
    async fn transact(&self, transaction: &Transaction) -> Result<Reply, StoreError> {
        Ok(self.lock().transact(transaction))
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        Ok(self.lock().range(prefix))
    }

    /// Nothing here watches but those who wait for a leader to go, and none does.
    async fn watch(
        &self,
        _prefix: &str,
        _from_revision: u64,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        Ok(stream::pending().boxed())
    }

    async fn campaign(&self, candidate: &str) -> Result<Box<dyn Leadership>, StoreError> {
        let mut content = self.lock();
        content.entries.remove(LEADER_KEY);
        content.put(LEADER_KEY, candidate.as_bytes().to_vec());
        Ok(Box::new(Leading { epoch: content.revision }))
    }
}

struct Leading {
    epoch: u64,
}

#[async_trait]
impl Leadership for Leading {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn lost(&mut self) -> String {
        std::future::pending().await
    }

    async fn resign(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

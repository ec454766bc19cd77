//! The store in one file, for those who run one controller. Revisions, guards and watches mean what they
//! mean in etcd. A commit is on the disk before it is answered.

mod opening;
mod file;
mod pages;
mod history;
mod failure;
pub mod backup;
#[cfg(test)]
mod tests;

use super::leadership;
use super::{
    AGAIN_AFTER, Change, Field, Guard, Health, LEADER_KEY, Leadership, Operation, Range, Reply, Store, StoreError,
    Transaction, limits,
};
use async_trait::async_trait;
use file::File;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use history::{Cursor, Kept};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// A handle on the open file; clones share it. The file is free for others when the last handle, stream
/// and leadership is dropped.
#[derive(Debug, Clone)]
pub struct Embedded {
    file: Arc<std::sync::Mutex<File>>,
    /// The revision of the latest write that is on the disk: wakes those who watch.
    revision: watch::Receiver<u64>,
    /// Held by the leader. Other processes are kept out by the lock on the file.
    seat: Arc<Mutex<()>>,
}

impl Embedded {
    /// Opens the file, or makes it, mode 0600, in a directory that exists. Waits up to 2 s for a controller
    /// that is just ending. Fails with `Unusable` when another holds it, or it is damaged or not one of ours.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_keeping(path, Kept::default()).await
    }

    async fn open_keeping(path: &Path, kept: Kept) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let file = blocking(move || File::open(&path, kept)).await?;
        let revision = file.subscribe();
        Ok(Self { file: Arc::new(std::sync::Mutex::new(file)), revision, seat: Arc::default() })
    }

    /// Commits block, so they run beside the runtime, one at a time. Dropping the future does not stop the
    /// work: like a request to a server, it may land unseen. Nor does leaving it alone: whose turn it is waits on a
    /// thread and not in a future, because a stream that nobody asks for its next would keep the file from all others.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut File) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        blocking(move || work(&mut file.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

#[async_trait]
impl Store for Embedded {
    async fn transact(&self, transaction: &Transaction) -> Result<Reply, StoreError> {
        limits::check(transaction)?;
        let transaction = transaction.clone();
        self.run(move |file| file.transact(&transaction)).await
    }

    async fn transact_beyond(&self, transaction: &Transaction, revision: u64) -> Result<Reply, StoreError> {
        limits::check(transaction)?;
        let transaction = transaction.clone();
        self.run(move |file| file.transact_beyond(&transaction, revision)).await
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        let prefix = prefix.to_owned();
        self.run(move |file| file.range(&prefix)).await
    }

    async fn watch(
        &self,
        prefix: &str,
        from_revision: u64,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        let mut watching = Watching {
            store: self.clone(),
            prefix: prefix.to_owned(),
            next: Cursor::at(from_revision),
            ready: VecDeque::new(),
            failed: false,
        };
        // At once, before the oldest that is asked for may be forgotten.
        watching.read().await?;
        Ok(stream::unfold(watching, Watching::step).boxed())
    }

    async fn campaign(&self, candidate: &str) -> Result<Box<dyn Leadership>, StoreError> {
        let seat = Arc::clone(&self.seat).lock_owned().await;
        loop {
            let name = candidate.to_owned();
            match self.run(move |file| file.take_seat(&name)).await {
                Ok(epoch) => return Ok(Box::new(Seated { store: self.clone(), epoch, _seat: seat })),
                Err(StoreError::Unknown { detail }) => {
                    tracing::warn!(%detail, "the store did not confirm the leader; asking again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn health(&self) -> Health {
        let trouble =
            |error: StoreError| Health { kind: "embedded", trouble: Some(error.to_string()), ..Health::default() };
        self.run(|file| Ok(file.health())).await.unwrap_or_else(trouble)
    }
}

/// Leading, as far as the file is concerned. Nothing needs to be renewed.
struct Seated {
    store: Embedded,
    epoch: u64,
    _seat: OwnedMutexGuard<()>,
}

#[async_trait]
impl Leadership for Seated {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn lost(&mut self) -> String {
        leadership::taken(&self.store, self.epoch).await
    }

    async fn resign(self: Box<Self>) -> Result<(), StoreError> {
        let still_ours = Guard { key: LEADER_KEY.to_owned(), field: Field::CreateRevision, equals: self.epoch };
        let leave = Transaction {
            guards: vec![still_ours],
            operations: vec![Operation::Delete(LEADER_KEY.to_owned())],
            otherwise: vec![],
        };
        self.store.transact(&leave).await.map(|_| ())
    }
}

/// A watch: everything comes from the history in the file, and the revision only says when to look again.
/// So there is one source, and neither a gap nor a duplicate between the past and the present.
struct Watching {
    store: Embedded,
    prefix: String,
    next: Cursor,
    ready: VecDeque<Change>,
    failed: bool,
}

impl Watching {
    async fn step(mut self) -> Option<(Result<Change, StoreError>, Self)> {
        if self.failed {
            return None;
        }
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some((Ok(change), self));
            }
            if let Err(error) = self.wait().await {
                self.failed = true;
                return Some((Err(error), self));
            }
        }
    }

    async fn wait(&mut self) -> Result<(), StoreError> {
        let next = self.next.revision;
        // The sender lives in the file, which `store` keeps open.
        let reached = self.store.revision.wait_for(|revision| *revision >= next).await.map(|_| ());
        reached.map_err(|_| StoreError::Unknown { detail: "the file was closed".to_owned() })?;
        self.read().await
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let (prefix, next) = (self.prefix.clone(), self.next);
        let batch = self.store.run(move |file| file.changes(&prefix, next)).await?;
        self.next = batch.next;
        self.ready = batch.changes;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(ended) => Err(StoreError::Unknown { detail: format!("the store's thread ended early: {ended}") }),
    }
}

//! What is written down. A small part of what etcd offers, with etcd's meaning, and a second
//! implementation in one file for those who run one controller. Both pass the suite in `contract`.
//!
//! A write that was not answered is *unknown*, not failed: it may still land. [`write_until_answered`]
//! is the one way to treat it.

pub mod embedded;
pub mod etcd;
mod limits;
mod leadership;
mod health;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
#[cfg(any(test, feature = "testing"))]
pub mod etcd_server;
#[cfg(test)]
pub mod stale;
#[cfg(test)]
mod tests;

pub use health::{Health, Member, Room};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Which store, as the controller's configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum StoreConfig {
    /// A file, for one controller.
    Embedded {
        /// The file; its directory must exist. Left out: `store.redb` in the state directory.
        #[serde(default)]
        path: Option<PathBuf>,
    },
    /// An etcd cluster, for several controllers.
    Etcd(etcd::EtcdConfig),
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::Embedded { path: None }
    }
}

/// The file in the state directory, unless the configuration names another.
const EMBEDDED_FILE: &str = "store.redb";

/// Opens the store. Fails with `Unusable` if the configuration or the file cannot work, and with `Unknown` if
/// no etcd answers.
pub async fn open(config: &StoreConfig, state_dir: &Path) -> Result<Arc<dyn Store>, StoreError> {
    match config {
        StoreConfig::Embedded { path } => Ok(Arc::new(embedded::Embedded::open(&file(path, state_dir)).await?)),
        StoreConfig::Etcd(config) => Ok(Arc::new(etcd::Etcd::connect(config).await?)),
    }
}

/// The file of an embedded store; none for etcd.
pub fn embedded_file(config: &StoreConfig, state_dir: &Path) -> Option<PathBuf> {
    match config {
        StoreConfig::Embedded { path } => Some(file(path, state_dir)),
        StoreConfig::Etcd(_) => None,
    }
}

fn file(path: &Option<PathBuf>, state_dir: &Path) -> PathBuf {
    path.clone().unwrap_or_else(|| state_dir.join(EMBEDDED_FILE))
}

/// Guarded transactions, range reads, watches and an election over keys and values.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Runs the operations if every guard holds; otherwise reads `otherwise`. All at one revision.
    async fn transact(&self, transaction: &Transaction) -> Result<Reply, StoreError>;
    /// Runs the transaction at a revision above this one, and above all that anybody can have heard of this store. A
    /// store that cannot leave revisions out refuses while it has not come so far.
    async fn transact_beyond(&self, transaction: &Transaction, revision: u64) -> Result<Reply, StoreError> {
        // Revisions only rise: what holds now holds for the write.
        let reached = self.range(LEADER_KEY).await?.revision;
        if reached > revision {
            return self.transact(transaction).await;
        }
        Err(StoreError::Refused {
            detail: format!(
                "the store is at revision {reached}, and hosts have heard revision {revision} of it: generations would \
                 come twice. Put the backup back again with `etcdutl snapshot restore FILE --bump-revision 1000000000 \
                 --mark-compacted`; where its tools do not know these flags (etcd 3.4), write to it until it is beyond \
                 {revision}: one `etcdctl put` is one revision"
            ),
        })
    }
    /// Names the cluster the store lives in; none if there is no such thing. A backup that is put back makes another.
    async fn cluster(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }
    /// All keys that start with this, sorted, at one revision. Linearizable.
    async fn range(&self, prefix: &str) -> Result<Range, StoreError>;
    /// Every change of keys that start with this, from the revision on (inclusive), in order.
    /// Fails with `Compacted` when that is too long ago, at once or, for a reader that fell behind, in the
    /// stream, which then ends: read the range again and watch from the revision after it.
    async fn watch(
        &self,
        prefix: &str,
        from_revision: u64,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError>;
    /// Waits until nobody else leads, then leads. The key `leader` holds `candidate` while it does, and
    /// its create revision is the epoch.
    async fn campaign(&self, candidate: &str) -> Result<Box<dyn Leadership>, StoreError>;
    /// How it is, for people. A store that says nothing of itself is well as long as it answers.
    async fn health(&self) -> Health {
        Health { kind: "embedded", ..Health::default() }
    }
}

/// What a leadership is worth just now. Safety never rests on it: that is the epoch's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It was confirmed lately.
    Firm,
    /// It was not, for this reason: others may soon lead, and a leader with manners is silent meanwhile.
    Doubtful(String),
    /// It is gone, for this reason.
    Lost(String),
}

/// Being the leader.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// The create revision of the leader key: compare it in every write.
    fn epoch(&self) -> u64;
    /// Returns when the leadership is lost, and says why.
    async fn lost(&mut self) -> String;
    /// What it is worth, and each change of that. One that need not be renewed is never in doubt.
    fn standing(&self) -> watch::Receiver<Standing> {
        watch::channel(Standing::Firm).1
    }
    /// Gives it up, so that the next one need not wait.
    async fn resign(self: Box<Self>) -> Result<(), StoreError>;
}

/// The key the leader holds.
pub const LEADER_KEY: &str = "leader";

/// Keys in a transaction at most, guards and operations each: etcd's default limit.
pub const TRANSACTION_KEYS_MAX: usize = 128;

/// Bytes in a value at most: etcd refuses requests of more than 1.5 MiB.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes in a key, 1 at least, at most. Ours are a word and an id; etcd adds its prefix of up to 64.
pub const KEY_BYTES_MAX: usize = 512;

/// Bytes in all keys and values of a transaction at most: etcd's 1.5 MiB for a request, less 96 KiB for what its
/// encoding and its prefix add to 384 entries.
pub const TRANSACTION_BYTES_MAX: usize = (1536 - 96) * 1024;

/// All or nothing. No key may be put and written again in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// Must all hold.
    pub guards: Vec<Guard>,
    /// Carried out if they do.
    pub operations: Vec<Operation>,
    /// Keys read if they do not.
    pub otherwise: Vec<String>,
}

/// What must hold of a key. A key that does not exist has both revisions 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: String,
    /// Which of its revisions.
    pub field: Field,
    /// Must equal this.
    pub equals: u64,
}

/// A revision of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// When it was made.
    CreateRevision,
    /// When it was last written.
    ModRevision,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put(String, Vec<u8>),
    /// Removes a key; removing what is not there is fine.
    Delete(String),
}

impl Operation {
    /// The key it writes.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    /// Bytes of the value it brings.
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Put(_, value) => value.len(),
            Self::Delete(_) => 0,
        }
    }
}

/// The store's word on a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// All guards held, everything was written, durably.
    Done {
        /// The revision of this write.
        revision: u64,
    },
    /// A guard did not hold, nothing was written.
    Refused {
        /// The revision `read` is of.
        revision: u64,
        /// Those of `otherwise` that exist.
        read: Vec<Entry>,
    },
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// When it was made; a key that is deleted and put again is made anew.
    pub create_revision: u64,
    /// When it was last written.
    pub mod_revision: u64,
}

/// What a range read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// All of it is of this revision.
    pub revision: u64,
    /// Sorted by key.
    pub entries: Vec<Entry>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key was set.
    Put(Entry),
    /// A key was removed.
    Deleted {
        /// Which.
        key: String,
        /// When.
        revision: u64,
    },
}

impl Change {
    /// When it happened.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(entry) => entry.mod_revision,
            Self::Deleted { revision, .. } => *revision,
        }
    }
}

/// What can go wrong with the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer. A write may or may not have landed, or may land later.
    #[error("the store did not answer: {detail}")]
    Unknown {
        /// The cause.
        detail: String,
    },
    /// The store refused and nothing was written: out of space, too large, malformed.
    #[error("the store refused: {detail}")]
    Refused {
        /// Its words, and what to do.
        detail: String,
    },
    /// The store refuses it now, and a try before was not answered: that one may have landed, or may land later.
    #[error("{detail}\nAn earlier try was not answered, so that it may have been done all the same")]
    Doubtful {
        /// Its words, and what to do.
        detail: String,
    },
    /// The revision asked for is no longer kept.
    #[error("revision {asked} is no longer kept, the oldest is {oldest}")]
    Compacted {
        /// From where.
        asked: u64,
        /// From where it would work.
        oldest: u64,
    },
    /// It cannot be opened as configured: the file is held, damaged or not one of ours, or a setting is wrong.
    #[error("the store cannot be opened: {detail}")]
    Unusable {
        /// What is wrong and what to do.
        detail: String,
    },
}

/// Nobody puts this key.
const NOTHING_KEY: &str = "nothing";

/// Pause before a transaction that was not answered is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Asks the same transaction until the store says yes or no. Guards make repeating it harmless; the
/// caller must make the guards such that a transaction that landed unseen is recognised.
pub async fn write_until_answered(store: &dyn Store, transaction: &Transaction) -> Result<Reply, StoreError> {
    let mut was_unanswered = false;
    loop {
        let answer = match store.transact(transaction).await {
            Err(refused) if was_unanswered => landed_unseen(store, transaction, refused).await,
            answer => answer,
        };
        let Err(StoreError::Unknown { detail }) = answer else { return answer };
        tracing::warn!(%detail, "no answer from the store; asking the same again");
        was_unanswered = true;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// A store that has become full refuses before it looks at the guards, and says nothing of the try before. With
/// nothing to put it looks.
async fn landed_unseen(store: &dyn Store, transaction: &Transaction, refused: StoreError) -> Result<Reply, StoreError> {
    let unknown = |error: &StoreError| matches!(error, StoreError::Unknown { .. });
    if unknown(&refused) {
        return Err(refused);
    }
    // A removal, of what is never there: etcd answers what writes nothing at all without asking its other members.
    let look = Transaction { operations: vec![Operation::Delete(NOTHING_KEY.to_owned())], ..transaction.clone() };
    match store.transact(&look).await {
        Ok(landed @ Reply::Refused { .. }) => Ok(landed),
        Err(error) if unknown(&error) => Err(error),
        Ok(Reply::Done { .. }) | Err(_) => Err(StoreError::Doubtful { detail: refused.to_string() }),
    }
}

//! What every controller knows of the store, whether it leads or not: enough to answer questions, and to say who
//! leads. It is a memory that changes follow, and it says how old it is.
//!
//! Each replica also writes down that it exists, once, under a key of its own: the one thing a controller writes
//! without leading. Nothing is decided by it.

use crate::ledger::{LedgerError, Truth};
use crate::records::{self, ReplicaRecord, keys};
use crate::replica::Replica;
use crate::store::{Change, Field, Guard, LEADER_KEY, Operation, Store, StoreError, Transaction, write_until_answered};
use bgctl_proto::redirect::LeaderAt;
use futures_util::StreamExt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often the store is asked whether it still answers, and for its newest revision: the age that readers are
/// shown is right to this much.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often the store is asked how it is: a disk fills in hours.
const LOOK_AFTER_EVERY: Duration = Duration::from_secs(10);

/// Pause before everything is read anew after the changes broke off.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Changes taken into the memory together: all of one transaction, if they have come.
const CHANGES_AT_ONCE: usize = 512;

/// Replicas that may write down that they exist. Five are plenty; a name that changes with each start must not fill
/// the store.
pub const REPLICAS_MAX: usize = 16;

/// A replica's memory of the store.
pub struct Follower {
    replica: Replica,
    memory: RwLock<Memory>,
    leader: watch::Sender<Option<LeaderAt>>,
    warnings: RwLock<Vec<String>>,
    since: Instant,
}

#[derive(Default)]
struct Memory {
    truth: Truth,
    newest: u64,
    confirmed: Option<Instant>,
}

/// How a replica's memory stands to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The newest revision in the memory.
    pub revision: u64,
    /// The newest revision the store told of.
    pub newest: u64,
    /// Since the store last answered. None: it never did.
    pub age: Option<Duration>,
}

impl Follower {
    /// Knows nothing yet; see [`Follower::follow`].
    pub fn new(replica: Replica) -> Self {
        Self {
            replica,
            memory: RwLock::default(),
            leader: watch::Sender::new(None),
            warnings: RwLock::default(),
            since: Instant::now(),
        }
    }

    /// This replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Who leads, and each change of it.
    pub fn leader(&self) -> watch::Receiver<Option<LeaderAt>> {
        self.leader.subscribe()
    }

    /// Looks at what is known. Short: nothing waits in here.
    pub fn read<T>(&self, look: impl FnOnce(&Truth) -> T) -> T {
        look(&self.memory.read().unwrap_or_else(PoisonError::into_inner).truth)
    }

    /// How old that is.
    pub fn freshness(&self) -> Freshness {
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        let age = memory.confirmed.map(|confirmed| confirmed.elapsed());
        Freshness { revision: memory.truth.revision, newest: memory.newest.max(memory.truth.revision), age }
    }

    /// What was last found wrong with the store, and what to do.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Since it started.
    pub fn up(&self) -> Duration {
        self.since.elapsed()
    }

    /// Asks the store how it is, time and again, and says in the log what is new.
    async fn look_after(&self, store: &dyn Store) {
        loop {
            let found = store.health().await.warnings();
            let before =
                std::mem::replace(&mut *self.warnings.write().unwrap_or_else(PoisonError::into_inner), found.clone());
            for warning in found.iter().filter(|warning| !before.contains(warning)) {
                tracing::warn!("{warning}");
            }
            tokio::time::sleep(LOOK_AFTER_EVERY).await;
        }
    }

    /// Follows the store until `shutdown`, whatever happens to it.
    pub async fn follow(self: Arc<Self>, store: Arc<dyn Store>, shutdown: CancellationToken) {
        let following = async {
            loop {
                if let Err(error) = self.follow_once(&*store).await {
                    tracing::warn!(%error, "the store cannot be followed; what is known of it grows old");
                }
                tokio::time::sleep(READ_AGAIN_AFTER).await;
            }
        };
        tokio::select! {
            () = following => {}
            () = self.look_after(&*store) => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Reads everything, and then every change, until that breaks off.
    async fn follow_once(&self, store: &dyn Store) -> Result<(), LedgerError> {
        let range = store.range("").await?;
        let truth = Truth::read(&range)?;
        self.change(|memory| {
            memory.truth = truth;
            memory.newest = range.revision;
            memory.confirmed = Some(Instant::now());
        });
        self.register(store).await;
        let changes = match store.watch("", range.revision + 1).await {
            Ok(changes) => changes,
            Err(StoreError::Compacted { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut changes = changes.ready_chunks(CHANGES_AT_ONCE);
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                some = changes.next() => match some {
                    Some(some) => self.take(some)?,
                    None => return Ok(()),
                },
                _ = ticks.tick() => {
                    let range = store.range(LEADER_KEY).await?;
                    self.change(|memory| {
                        memory.newest = range.revision;
                        memory.confirmed = Some(Instant::now());
                    });
                }
            }
        }
    }

    fn take(&self, changes: Vec<Result<Change, StoreError>>) -> Result<(), LedgerError> {
        let mut outcome = Ok(());
        self.change(|memory| {
            for change in changes {
                outcome = change.map_err(LedgerError::from).and_then(|change| Ok(memory.truth.follow(&change)?));
                if outcome.is_err() {
                    return;
                }
            }
            memory.confirmed = Some(Instant::now());
        });
        outcome
    }

    fn change(&self, change: impl FnOnce(&mut Memory)) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut memory);
        let leader = memory.truth.leader.as_ref();
        let leader = leader.map(|(replica, epoch)| LeaderAt { epoch: *epoch, address: replica.address.clone() });
        drop(memory);
        self.leader.send_if_modified(|known| {
            let is_news = *known != leader;
            *known = leader;
            is_news
        });
    }

    /// Writes down that this replica exists, if that is news. Others do not need it: failing is worth a word.
    async fn register(&self, store: &dyn Store) {
        let key = keys::replica(&self.replica.name);
        let record =
            ReplicaRecord { address: self.replica.address.clone(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let (known, others) = self.read(|truth| {
            let known = truth.replicas.get(&self.replica.name).cloned();
            (known, truth.replicas.len())
        });
        if known.as_ref().is_some_and(|(known, _)| *known == record) {
            return;
        }
        if known.is_none() && others >= REPLICAS_MAX {
            tracing::warn!(
                name = self.replica.name,
                "{others} controllers are known already, and this one is not written down: `bgctl controllers` lists \
                 them, `bgctl controllers --forget NAME` strikes one out"
            );
            return;
        }
        let transaction = Transaction {
            // Two replicas of one name must not take turns for ever.
            guards: vec![Guard {
                key: key.clone(),
                field: Field::ModRevision,
                equals: known.map_or(0, |(_, revision)| revision),
            }],
            operations: vec![Operation::Put(key, records::write(&record))],
            otherwise: Vec::new(),
        };
        if let Err(error) = write_until_answered(store, &transaction).await {
            tracing::warn!(%error, "this controller is not on the list of controllers");
        }
    }
}

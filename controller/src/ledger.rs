//! Everything that is written goes through here, one transaction at a time, and what is read is a memory
//! of it: always at a revision, never ahead of what the store has confirmed.

mod chronicle;
mod members;
mod decide;
mod open;
mod truth;
#[cfg(test)]
mod tests;

pub use chronicle::{fresh_history, put_back};
pub use members::Life;
pub use open::{OpenError, Opening};
pub use truth::{Pending, Spec, Truth};

use crate::records::{self, AuditRecord, RecordError, SpecRecord, keys};
use crate::store::{
    Field, Guard, LEADER_KEY, Operation, Range, Reply, Store, StoreError, Transaction, write_until_answered,
};
use bgctl_proto::ambient::Ambient;
use cutover::ids::{Epoch, ServiceName};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Audit entries that are kept, of all leaders together: with a few hundred bytes each, well below a store's
/// limits. Export them if they must live longer.
const AUDIT_ENTRIES_KEPT: usize = 2000;

/// Of those too many, removed with each new one: so a surplus shrinks, and transactions stay small.
const AUDIT_ENTRIES_REMOVED_AT_ONCE: usize = 4;

/// Reads in a row that may be older than what is known to be written: a member of the store that is behind catches up
/// within a moment, and one that does not is no store to lead by.
const STALE_READS_MAX: usize = 20;

/// Pause before a leader that must stand for election again looks again whether a full store has room for that.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_secs(1);

/// Pause after a read that is too old.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Why something was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another leader was elected meanwhile.
    #[error("another controller leads now; ask again")]
    Deposed,
}

/// The store, as its leader sees it.
pub struct Ledger {
    store: Arc<dyn Store>,
    ambient: Arc<dyn Ambient>,
    epoch: Epoch,
    truth: RwLock<Truth>,
    /// Held from before a transaction until the memory has it: the revision of the memory must never
    /// cover a write the memory does not have.
    writing: tokio::sync::Mutex<()>,
    audit_number: AtomicU64,
    /// The keys of the entries in the store, oldest first.
    audited: Mutex<VecDeque<String>>,
    /// Cancelled when the store may hold what the memory does not, or may come to.
    doubt: CancellationToken,
    /// The requests that are why: refused when they are repeated, they are still no refusals.
    doubtful: Mutex<BTreeSet<String>>,
}

impl Ledger {
    /// Takes over as the leader of this epoch: writes first, so that everything decided before is seen.
    pub async fn take_over(
        store: Arc<dyn Store>,
        ambient: Arc<dyn Ambient>,
        epoch: Epoch,
    ) -> Result<Self, LedgerError> {
        let marked = Self::mark_at(&*store, epoch).await?;
        let ledger = Self::read_anew(store, ambient, epoch, &marked).await?;
        ledger.begin_reign(&marked).await?;
        Ok(ledger)
    }

    /// Leads on in an epoch that has a past, because a store that is full elects nobody: until there is room.
    /// Hosts have heard what was said before in whatever reign that was, so none begins now.
    pub async fn lead_on(store: Arc<dyn Store>, ambient: Arc<dyn Ambient>, epoch: Epoch) -> Result<Self, LedgerError> {
        let marked = Self::mark_at(&*store, epoch).await?;
        let ledger = Self::read_anew(store, ambient, epoch, &marked).await?;
        ledger.doubt.cancel();
        Ok(ledger)
    }

    async fn read_anew(
        store: Arc<dyn Store>,
        ambient: Arc<dyn Ambient>,
        epoch: Epoch,
        &Marked { has_room, revision }: &Marked,
    ) -> Result<Self, LedgerError> {
        if !has_room {
            tracing::error!("the store takes no more; leading all the same, for aborts");
        }
        let range = read_since(&*store, revision).await?;
        let truth = Truth::read(&range)?;
        let audits = range.entries.iter().filter(|entry| entry.key.starts_with("audit/"));
        let audited = Mutex::new(audits.map(|entry| entry.key.clone()).collect());
        Ok(Self {
            store,
            ambient,
            epoch,
            truth: RwLock::new(truth),
            writing: tokio::sync::Mutex::new(()),
            audit_number: AtomicU64::new(0),
            audited,
            doubt: CancellationToken::new(),
            doubtful: Mutex::default(),
        })
    }

    /// Adds this reign to the history the store tells. Where there is no room for it, what is said meanwhile counts to
    /// the reign before, which the next one ends.
    async fn begin_reign(&self, marked: &Marked) -> Result<(), LedgerError> {
        let before = self.read(|truth| (truth.chronicle_revision > 0).then(|| truth.chronicle.clone()));
        let is_first = before.is_none();
        if !marked.has_room && !is_first {
            tracing::error!("leading without a place in the store's history");
            return Ok(());
        }
        let cluster = self.store.cluster().await?;
        let reign = chronicle::fresh_reign(self.epoch, &*self.ambient);
        let fresh = fresh_history(&*self.ambient);
        let record = chronicle::continued(before, reign, cluster.as_deref(), fresh, self.ambient.unix_millis());
        let operations = vec![Operation::Put(keys::CHRONICLE.to_owned(), records::write(&record))];
        let mark = Guard { key: keys::TAKEOVER.to_owned(), field: Field::ModRevision, equals: marked.revision };
        let revision = match self.done_if(vec![mark], operations).await {
            Err(LedgerError::Store(StoreError::Refused { detail })) if !is_first => {
                tracing::error!(%detail, "the store takes no more; leading without a place in its history");
                return Ok(());
            }
            // A reign that landed later than what hosts hear would make them miss it: without the mark it cannot.
            Err(LedgerError::Store(StoreError::Doubtful { detail })) if !is_first => {
                tracing::error!(%detail, "the store takes no more; leading with what it has of its history");
                let revision = self.done(vec![Operation::Delete(keys::TAKEOVER.to_owned())]).await?;
                return self.refresh(revision).await;
            }
            written => written?,
        };
        self.update(|truth| {
            truth.revision = revision;
            truth.chronicle_revision = revision;
            truth.chronicle = record;
        });
        Ok(())
    }

    /// Writes that this epoch leads, which fails if it does not. False: the store is full. A removal is a write as
    /// well, and a full store takes that.
    pub async fn mark(store: &dyn Store, epoch: Epoch) -> Result<bool, LedgerError> {
        Self::mark_at(store, epoch).await.map(|marked| marked.has_room)
    }

    async fn mark_at(store: &dyn Store, epoch: Epoch) -> Result<Marked, LedgerError> {
        let marking =
            |operation| Transaction { guards: vec![leads(epoch)], operations: vec![operation], otherwise: vec![] };
        let mark = Operation::Put(keys::TAKEOVER.to_owned(), epoch.to_string().into_bytes());
        let (reply, has_room) = match write_until_answered(store, &marking(mark)).await {
            Err(StoreError::Refused { .. } | StoreError::Doubtful { .. }) => {
                let unmark = Operation::Delete(keys::TAKEOVER.to_owned());
                (write_until_answered(store, &marking(unmark)).await?, false)
            }
            answered => (answered?, true),
        };
        match reply {
            Reply::Done { revision } => Ok(Marked { has_room, revision }),
            Reply::Refused { .. } => Err(LedgerError::Deposed),
        }
    }

    /// Of this leader.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The time of day, for people: nothing is decided by it. And chance.
    pub fn ambient(&self) -> &dyn Ambient {
        &*self.ambient
    }

    /// Looks at what is known. Short: nothing waits in here.
    pub fn read<T>(&self, look: impl FnOnce(&Truth) -> T) -> T {
        look(&self.truth.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn update<T>(&self, change: impl FnOnce(&mut Truth) -> T) -> T {
        change(&mut self.truth.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// An entry for the record of changes, and the removal of those that are too old, whichever leader wrote them.
    fn audit(&self, actor: &str, action: String) -> Vec<Operation> {
        let number = self.audit_number.fetch_add(1, Ordering::Relaxed);
        let record = AuditRecord { actor: actor.to_owned(), action, at_unix_millis: self.ambient.unix_millis() };
        let key = keys::audit(self.epoch.0, number);
        let mut kept = self.audited.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(key.clone());
        let surplus = kept.len().saturating_sub(AUDIT_ENTRIES_KEPT).min(AUDIT_ENTRIES_REMOVED_AT_ONCE);
        // A removal whose transaction comes to nothing is made up for by the next leader.
        let old: Vec<_> = kept.drain(..surplus).collect();
        let entry = Operation::Put(key, records::write(&record));
        std::iter::once(entry).chain(old.into_iter().map(Operation::Delete)).collect()
    }

    /// Puts something into the record of changes that happened elsewhere, and is only heard of here.
    pub async fn note(&self, actor: &str, action: String) -> Result<(), LedgerError> {
        let _turn = self.writing.lock().await;
        let operations = self.audit(actor, action);
        let revision = self.done(operations).await?;
        self.update(|truth| truth.revision = revision);
        Ok(())
    }

    /// Records a spec as the service's next revision; answers the revision, and whether it is new.
    pub async fn apply(&self, spec: Spec, file_name: &str, actor: &str) -> Result<(u64, bool), LedgerError> {
        let _turn = self.writing.lock().await;
        let service = spec.service.clone();
        let known = self.read(|truth| truth.specs.get(&service).map(|(known, _)| (known.revision, known.text.clone())));
        if let Some((revision, text)) = &known
            && text == spec.text()
        {
            return Ok((*revision, false));
        }
        let revision = known.map_or(1, |(revision, _)| revision + 1);
        let record = SpecRecord {
            revision,
            text: spec.text().to_owned(),
            file_name: file_name.to_owned(),
            actor: actor.to_owned(),
            at_unix_millis: self.ambient.unix_millis(),
        };
        let mut operations = vec![Operation::Put(keys::spec(&service), records::write(&record))];
        operations.extend(self.audit(actor, format!("apply {service} revision {revision}")));
        let store_revision = self.done(operations).await?;
        self.update(|truth| {
            truth.revision = store_revision;
            truth.specs.insert(service, (record, spec));
        });
        Ok((revision, true))
    }

    /// Strikes a controller out of the list of those that exist.
    pub async fn forget_replica(&self, name: &str, actor: &str) -> Result<(), LedgerError> {
        let _turn = self.writing.lock().await;
        let mut operations = vec![Operation::Delete(keys::replica(name))];
        operations.extend(self.audit(actor, format!("controller {name} forgotten")));
        let revision = self.done(operations).await?;
        self.update(|truth| truth.revision = revision);
        Ok(())
    }

    /// Writes what only a change of leader can refuse; answers the revision.
    async fn done(&self, operations: Vec<Operation>) -> Result<u64, LedgerError> {
        self.done_if(Vec::new(), operations).await
    }

    /// The same, with more that must hold, and does while this leads.
    async fn done_if(&self, mut guards: Vec<Guard>, operations: Vec<Operation>) -> Result<u64, LedgerError> {
        guards.push(leads(self.epoch));
        match self.write(&Transaction { guards, operations, otherwise: Vec::new() }).await? {
            Reply::Done { revision } => Ok(revision),
            Reply::Refused { .. } => Err(self.deposed()),
        }
    }

    async fn write(&self, transaction: &Transaction) -> Result<Reply, StoreError> {
        match write_until_answered(&*self.store, transaction).await {
            Err(doubtful @ StoreError::Doubtful { .. }) => {
                self.doubt.cancel();
                Err(doubtful)
            }
            answer => answer,
        }
    }

    /// The guards of a leader that remembers everything refuse it nothing. If it does lead, it does not.
    fn deposed(&self) -> LedgerError {
        self.doubt.cancel();
        LedgerError::Deposed
    }

    /// Returns when the store may hold what is not known here, or may come to: only a new epoch ends that. Not before
    /// there can be one, as a full store elects nobody.
    pub async fn outlived(&self) {
        self.doubt.cancelled().await;
        loop {
            match Self::mark(&*self.store, self.epoch).await {
                Ok(true) => return,
                // Its loss is told elsewhere.
                Ok(false) | Err(_) => tokio::time::sleep(LOOK_FOR_ROOM_EVERY).await,
            }
        }
    }
}

/// What came of writing that an epoch leads.
struct Marked {
    /// The store takes more than removals.
    has_room: bool,
    /// Everything that was decided before is in the store at this revision.
    revision: u64,
}

/// Everything the store holds, at this revision or a later one. A transaction tells the truth, and a read need not:
/// etcd older than 3.6.9 may answer one from before, after a pause of its leader.
async fn read_since(store: &dyn Store, written: u64) -> Result<Range, StoreError> {
    let mut read = 0;
    for _ in 0..STALE_READS_MAX {
        let range = store.range("").await?;
        if range.revision >= written {
            return Ok(range);
        }
        read = range.revision;
        tracing::warn!(read, written, "the store read something older than what it has written; reading again");
        tokio::time::sleep(READ_AGAIN_AFTER).await;
    }
    let detail =
        format!("its reads are of revision {read}, and it has written revision {written}; is it etcd, upgrade it");
    Err(StoreError::Unknown { detail })
}

/// What every write of a leader is guarded by.
fn leads(epoch: Epoch) -> Guard {
    Guard { key: LEADER_KEY.to_owned(), field: Field::CreateRevision, equals: epoch.0 }
}

/// The names of a deployment's services, checked.
fn service_names<'a>(key: &str, services: impl Iterator<Item = &'a String>) -> Result<Vec<ServiceName>, RecordError> {
    services.map(|service| records::parse(key, service)).collect()
}

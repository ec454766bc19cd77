//! Bugs put in on purpose, from outside of the shipped code: each must be caught, or the checks are worth nothing.

use crate::plan::{Fault, Moment, Plan, Scheduled};
use async_trait::async_trait;
use bgctl_agent::docker::fake::Left;
use bgctl_controller::store::{Change, Leadership, Range, Reply, Store, StoreError, Transaction};
use futures_util::stream::BoxStream;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How long before the truth a lie is told.
pub const LIE: Duration = Duration::from_secs(3);

/// From when on the next such moment is waited for.
const PROVOKED_AT: [Duration; 3] = [Duration::from_secs(12), Duration::from_secs(25), Duration::from_secs(40)];

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// A host votes before its promise is on the disk.
    VoteBeforeSync,
    /// The commit is announced before the store has it.
    CommitBeforeStored,
    /// A host that starts again has forgotten its promises.
    PromiseForgotten,
    /// A host acknowledges a switch that nginx did not follow.
    AcknowledgedUnproven,
    /// Writes are not guarded by who leads.
    NoEpochGuard,
    /// A host does nothing about what its Docker lost track of.
    StraysSpared,
}

impl Sabotage {
    /// Every bug.
    pub const ALL: [Self; 6] = [
        Self::VoteBeforeSync,
        Self::CommitBeforeStored,
        Self::PromiseForgotten,
        Self::AcknowledgedUnproven,
        Self::NoEpochGuard,
        Self::StraysSpared,
    ];
}

impl Sabotage {
    /// Adds what brings the bug out, where chance alone would take many seeds to.
    pub fn provoke(self, plan: &mut Plan) {
        for host in (1..=plan.hosts).map(|number| format!("h{number}")) {
            let (moment, lasts, fault) = match self {
                Self::PromiseForgotten => (Moment::Promised, Duration::from_secs(1), Fault::CrashAgent(host)),
                Self::AcknowledgedUnproven => (Moment::Opened, Duration::from_secs(8), Fault::NginxIgnores(host)),
                Self::StraysSpared => {
                    (Moment::Opened, Duration::from_secs(1), Fault::DockerKilledStarting(host, Left::Waiting))
                }
                Self::VoteBeforeSync | Self::CommitBeforeStored | Self::NoEpochGuard => return,
            };
            let moment = Some((moment, Duration::ZERO));
            plan.faults.extend(PROVOKED_AT.map(|at| Scheduled { at, moment, lasts, fault: fault.clone() }));
        }
        plan.faults.sort_by_key(|scheduled| scheduled.at);
    }
}

/// A journal without what it held of promises, and with checksums that fit.
pub fn without_promises(mut bytes: Vec<u8>) -> Vec<u8> {
    let half_bytes = bytes.len() / 2;
    for half in bytes.chunks_mut(half_bytes.max(1)) {
        if let Some(text) = forgetful(half) {
            half.fill(0);
            half[..text.len()].copy_from_slice(text.as_bytes());
        }
    }
    bytes
}

fn forgetful(half: &[u8]) -> Option<String> {
    let mut lines = half.split(|byte| *byte == b'\n');
    let header = std::str::from_utf8(lines.next()?).ok()?;
    let [magic, format, counter, ..] = header.split(' ').collect::<Vec<_>>()[..] else { return None };
    let mut body: Value = serde_json::from_slice(lines.next()?).ok()?;
    body.get_mut("prepared")?.as_object_mut()?.clear();
    let body = body.to_string();
    let mut hash = Sha256::new();
    hash.update(counter.parse::<u64>().ok()?.to_be_bytes());
    hash.update(&body);
    let sum = hash.finalize().iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    });
    Some(format!("{magic} {format} {counter} {} {sum}\n{body}\n", body.len()))
}

/// A store that does wrong to those who trust it.
pub struct SabotagedStore {
    inner: Arc<dyn Store>,
    sabotage: Sabotage,
}

impl SabotagedStore {
    /// In front of this one.
    pub fn new(inner: Arc<dyn Store>, sabotage: Sabotage) -> Self {
        Self { inner, sabotage }
    }
}

#[async_trait]
impl Store for SabotagedStore {
    async fn transact(&self, transaction: &Transaction) -> Result<Reply, StoreError> {
        let mut transaction = transaction.clone();
        let is_commit = transaction.operations.iter().any(|operation| operation.key().starts_with("svc/"));
        match self.sabotage {
            Sabotage::CommitBeforeStored if is_commit => {
                let revision = self.inner.range("takeover").await?.revision + 1;
                let inner = Arc::clone(&self.inner);
                drop(tokio::spawn(async move {
                    tokio::time::sleep(LIE).await;
                    drop(inner.transact(&transaction).await);
                }));
                return Ok(Reply::Done { revision });
            }
            Sabotage::NoEpochGuard => transaction.guards.retain(|guard| guard.key != "leader"),
            Sabotage::CommitBeforeStored
            | Sabotage::VoteBeforeSync
            | Sabotage::PromiseForgotten
            | Sabotage::AcknowledgedUnproven
            | Sabotage::StraysSpared => {}
        }
        self.inner.transact(&transaction).await
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

//! Who is a host, and in which life. Each change moves the membership on: a commit that counted promises under
//! the one before is refused.

use super::{Ledger, LedgerError};
use crate::records::{self, HostRecord, keys};
use crate::store::Operation;
use cutover::ids::{HostId, Incarnation};
use std::collections::BTreeMap;

/// One life of a host, as it says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Of its state.
    pub incarnation: Incarnation,
    /// Names its machine; empty: unknown.
    pub machine: String,
    /// From its certificate.
    pub labels: BTreeMap<String, String>,
}

impl Life {
    fn record(&self, now_unix_millis: u64) -> HostRecord {
        HostRecord {
            incarnation: self.incarnation.to_string(),
            labels: self.labels.clone(),
            since_unix_millis: now_unix_millis,
            machine: self.machine.clone(),
        }
    }
}

impl Ledger {
    /// Registers a host, or what is news of its labels and its machine.
    pub async fn register(&self, host: &HostId, life: &Life) -> Result<(), LedgerError> {
        let _turn = self.writing.lock().await;
        let known = self.read(|truth| truth.hosts.get(host).cloned());
        let record = life.record(self.ambient.unix_millis());
        let is_known = known.is_some_and(|known| {
            let same = (&known.incarnation, &known.labels) == (&record.incarnation, &record.labels);
            same && (record.machine.is_empty() || known.machine == record.machine)
        });
        if is_known {
            return Ok(());
        }
        let action = format!("host {host} registered as {}", record.incarnation);
        self.write_member(host, record, host.as_str(), action).await
    }

    /// Puts another life in the place of the one that is registered, or of one that was removed; answers that one.
    pub async fn replace_host(&self, host: &HostId, life: &Life, actor: &str) -> Result<String, LedgerError> {
        let _turn = self.writing.lock().await;
        let before = self.read(|truth| truth.hosts.get(host).or(truth.removed.get(host)).cloned());
        let before = before.map(|before| before.incarnation).unwrap_or_default();
        let record = life.record(self.ambient.unix_millis());
        let action = format!("host {host} replaced: {} in the place of {before}", record.incarnation);
        self.write_member(host, record, actor, action).await?;
        Ok(before)
    }

    /// Takes a host out; answers the life that ended, none if there was none.
    pub async fn remove_host(&self, host: &HostId, actor: &str) -> Result<Option<String>, LedgerError> {
        let _turn = self.writing.lock().await;
        let Some(record) = self.read(|truth| truth.hosts.get(host).cloned()) else { return Ok(None) };
        let before = record.incarnation.clone();
        let mut operations = vec![
            Operation::Delete(keys::agent(host)),
            Operation::Put(keys::removed(host), records::write(&record)),
            Operation::Put(keys::MEMBERS.to_owned(), host.to_string().into_bytes()),
        ];
        operations.extend(self.audit(actor, format!("host {host} removed; it was {before}")));
        let revision = self.done(operations).await?;
        self.update(|truth| {
            truth.revision = revision;
            truth.members_revision = revision;
            truth.hosts.remove(host);
            truth.removed.insert(host.clone(), record);
        });
        Ok(Some(before))
    }

    async fn write_member(
        &self,
        host: &HostId,
        record: HostRecord,
        actor: &str,
        action: String,
    ) -> Result<(), LedgerError> {
        let mut operations = vec![
            Operation::Put(keys::agent(host), records::write(&record)),
            Operation::Put(keys::MEMBERS.to_owned(), host.to_string().into_bytes()),
        ];
        if self.read(|truth| truth.removed.contains_key(host)) {
            operations.push(Operation::Delete(keys::removed(host)));
        }
        operations.extend(self.audit(actor, action));
        let revision = self.done(operations).await?;
        self.update(|truth| {
            truth.revision = revision;
            truth.members_revision = revision;
            truth.removed.remove(host);
            truth.hosts.insert(host.clone(), record);
        });
        Ok(())
    }
}

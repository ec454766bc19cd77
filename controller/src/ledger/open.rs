//! The transaction that opens a deployment. Its revision is the deployment's generation.

use super::{Ledger, LedgerError, Pending, leads, service_names};
use crate::records::{self, DeploymentRecord, keys};
use crate::store::{Field, Guard, Operation, Reply, StoreError, Transaction};
use bgctl_proto::crashpoint;
use cutover::ids::{DeploymentId, Generation};
use std::sync::PoisonError;

/// A deployment that is open.
#[derive(Clone)]
pub struct Opening {
    /// As written.
    pub record: DeploymentRecord,
    /// The revision it was written at.
    pub generation: Generation,
}

/// Why a deployment was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This very request was answered before.
    #[error("this request opened deployment {0} already")]
    Repeated(DeploymentId),
    /// One service has one open deployment at most.
    #[error("deployment {deployment} of {service} is open")]
    Busy {
        /// Whose.
        service: String,
        /// Which.
        deployment: String,
    },
    /// Something was committed since this one was planned.
    #[error("{0} was changed by another deployment meanwhile; ask again")]
    Overtaken(String),
    /// It could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Ledger {
    /// Opens a deployment: guarded by the leader, by what was committed when it was planned, by nothing
    /// being open for its services, and by the request being new. `planned_on`: that generation, if any.
    pub async fn open(&self, record: DeploymentRecord, planned_on: Option<Generation>) -> Result<Opening, OpenError> {
        let _turn = self.writing.lock().await;
        let id: DeploymentId = records::parse("deploy", &record.id).map_err(LedgerError::from)?;
        let names = service_names("deploy", record.services.keys()).map_err(LedgerError::from)?;
        self.read(|truth| {
            if let Some(before) = truth.requests.get(&record.request) {
                return Err(OpenError::Repeated(before.clone()));
            }
            for name in &names {
                if let Some(pending) = truth.pending.get(name) {
                    let deployment = pending.deployment.to_string();
                    return Err(OpenError::Busy { service: name.to_string(), deployment });
                }
                let committed = truth.services.get(name).map(|(record, _)| Generation(record.generation));
                if committed != planned_on {
                    return Err(OpenError::Overtaken(name.to_string()));
                }
            }
            Ok(())
        })?;
        let transaction = self.opening(&record, &id, &names);
        crashpoint!("before_intent_written");
        let generation = match self.write_request(&record.request, &transaction).await? {
            Reply::Done { revision } => Generation(revision),
            // All other guards were checked against a memory that has every write of this leader. An
            // answer that was lost is the one other way here: then the deployment is open already.
            Reply::Refused { read, .. } => {
                let mine =
                    |key: &str| read.iter().find(|entry| entry.key == key && entry.value == id.as_str().as_bytes());
                match names.first().and_then(|name| mine(&keys::pending(name))) {
                    Some(entry) => Generation(entry.mod_revision),
                    None => return Err(self.deposed().into()),
                }
            }
        };
        crashpoint!("after_intent_written");
        self.update(|truth| {
            truth.revision = generation.0;
            for name in names {
                truth.pending.insert(name, Pending { deployment: id.clone(), generation });
            }
            truth.requests.insert(record.request.clone(), id.clone());
            truth.deployments.insert(id, record.clone());
        });
        Ok(Opening { record, generation })
    }

    /// An opening that may land yet is not refused to whoever asks for it again.
    async fn write_request(&self, request: &str, transaction: &Transaction) -> Result<Reply, LedgerError> {
        let answer = self.write(transaction).await;
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Err(StoreError::Refused { detail }) if doubtful.contains(request) => {
                Err(StoreError::Doubtful { detail }.into())
            }
            Err(error @ StoreError::Doubtful { .. }) => {
                doubtful.insert(request.to_owned());
                Err(error.into())
            }
            answer => Ok(answer?),
        }
    }

    fn opening(&self, record: &DeploymentRecord, id: &DeploymentId, names: &[cutover::ServiceName]) -> Transaction {
        let request = keys::request(&record.request);
        let committed = |name| self.read(|truth| truth.services.get(name).map_or(0, |(_, revision)| *revision));
        let absent = |key| Guard { key, field: Field::CreateRevision, equals: 0 };
        let mut guards = vec![leads(self.epoch), absent(request.clone())];
        let mut operations = vec![
            Operation::Put(keys::deployment(id), records::write(record)),
            Operation::Put(request, id.as_str().into()),
        ];
        for name in names {
            guards.push(absent(keys::pending(name)));
            guards.push(Guard { key: keys::service(name), field: Field::ModRevision, equals: committed(name) });
            operations.push(Operation::Put(keys::pending(name), id.as_str().into()));
        }
        let versions: Vec<_> =
            record.services.iter().map(|(name, release)| format!("{name} {}", release.version)).collect();
        let without: Vec<_> = record.left_out.iter().map(|(host, why)| format!("{host} ({why})")).collect();
        let without = if without.is_empty() { String::new() } else { format!(", without {}", without.join(", ")) };
        let action = format!("open {id}: {:?} {}{without}", record.kind, versions.join(", "));
        operations.extend(self.audit(&record.actor, action));
        Transaction { guards, operations, otherwise: names.iter().map(keys::pending).collect() }
    }
}

//! The leader's memory of the store.

use crate::records::{
    self, ChronicleRecord, DeploymentRecord, HostRecord, RecordError, ReplicaRecord, ServiceRecord, SpecRecord,
};
use crate::replica::Replica;
use crate::report::Report;
use crate::store::{Change, Entry, Range};
use cutover::ids::{DeploymentId, Generation, HostId, Incarnation, ServiceName};
use cutover::message::Participants;
use std::collections::BTreeMap;

pub use crate::spec::Spec;

/// Everything the store said, at one revision.
#[derive(Default)]
pub struct Truth {
    /// Of the last write that is in here.
    pub revision: u64,
    /// Of the last change of membership.
    pub members_revision: u64,
    /// Who leads, and since which revision. None: nobody, or one whose name cannot be read.
    pub leader: Option<(Replica, u64)>,
    /// Every controller that ever was here, with the revision it was written at.
    pub replicas: BTreeMap<String, (ReplicaRecord, u64)>,
    /// Which history it is.
    pub chronicle: ChronicleRecord,
    /// When that was last written; 0: never.
    pub chronicle_revision: u64,
    /// Every host that ever said hello.
    pub hosts: BTreeMap<HostId, HostRecord>,
    /// Hosts that were removed, in the life they had.
    pub removed: BTreeMap<HostId, HostRecord>,
    /// The newest spec of each service.
    pub specs: BTreeMap<ServiceName, (SpecRecord, Spec)>,
    /// What is committed, with the revision it was written at.
    pub services: BTreeMap<ServiceName, (ServiceRecord, u64)>,
    /// What is open.
    pub pending: BTreeMap<ServiceName, Pending>,
    /// Deployments that are open or in history.
    pub deployments: BTreeMap<DeploymentId, DeploymentRecord>,
    /// The requests they answer.
    pub requests: BTreeMap<String, DeploymentId>,
    /// Reports, oldest first.
    pub history: BTreeMap<ServiceName, BTreeMap<Generation, Report>>,
}

/// The open deployment of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub deployment: DeploymentId,
    /// The revision at which it opened.
    pub generation: Generation,
}

impl Truth {
    /// Reads all of the store. A value that cannot be read stops the leader: to lead without knowing what
    /// is committed would be worse than not to lead. What is taken in here was checked in all its parts: nobody
    /// who works with it later finds that it is no name, or a release that cannot be sent.
    pub fn read(range: &Range) -> Result<Self, RecordError> {
        let mut truth = Self { revision: range.revision, ..Self::default() };
        for entry in &range.entries {
            truth.take(entry)?;
        }
        Ok(truth)
    }

    /// Takes one change into the memory.
    pub fn follow(&mut self, change: &Change) -> Result<(), RecordError> {
        self.revision = self.revision.max(change.revision());
        match change {
            Change::Put(entry) => self.take(entry),
            Change::Deleted { key, .. } => self.forget(key),
        }
    }

    fn take(&mut self, entry: &Entry) -> Result<(), RecordError> {
        let Entry { key, value, mod_revision, create_revision } = entry;
        let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
        match kind {
            "leader" => {
                let replica = String::from_utf8_lossy(value).parse();
                self.leader = replica.ok().map(|replica| (replica, *create_revision));
            }
            "replica" => {
                self.replicas.insert(rest.to_owned(), (records::read(key, value)?, *mod_revision));
            }
            "members" => self.members_revision = *mod_revision,
            "agent" => {
                let record: HostRecord = records::read(key, value)?;
                records::parse::<Incarnation>(key, &record.incarnation)?;
                self.hosts.insert(records::parse(key, rest)?, record);
            }
            "chronicle" => {
                self.chronicle = records::read(key, value)?;
                self.chronicle.read(cutover::Revision(*mod_revision))?;
                self.chronicle_revision = *mod_revision;
            }
            "removed" => drop(self.removed.insert(records::parse(key, rest)?, records::read(key, value)?)),
            "spec" => {
                let record: SpecRecord = records::read(key, value)?;
                let spec =
                    Spec::parse(&record.text, &record.file_name).map_err(|error| RecordError::new(key, error))?;
                records::same(key, rest, spec.service.as_str())?;
                self.specs.insert(records::parse(key, rest)?, (record, spec));
            }
            "svc" => {
                let record: ServiceRecord = records::read(key, value)?;
                record.check(key, rest)?;
                self.services.insert(records::parse(key, rest)?, (record, *mod_revision));
            }
            "pending" => {
                let deployment = records::parse(key, &String::from_utf8_lossy(value))?;
                let pending = Pending { deployment, generation: Generation(*mod_revision) };
                self.pending.insert(records::parse(key, rest)?, pending);
            }
            "deploy" => {
                let record: DeploymentRecord = records::read(key, value)?;
                record.check(key, rest)?;
                self.deployments.insert(records::parse(key, rest)?, record);
            }
            "req" => {
                let deployment = records::parse(key, &String::from_utf8_lossy(value))?;
                self.requests.insert(rest.to_owned(), deployment);
            }
            "history" => {
                let (service, generation) = rest.split_once('/').unwrap_or((rest, ""));
                let generation = Generation(records::parse(key, generation)?);
                let report: Report = records::read(key, value)?;
                records::parse::<DeploymentId>(key, &report.id)?;
                records::same(key, service, &report.service)?;
                self.history.entry(records::parse(key, service)?).or_default().insert(generation, report);
            }
            // Not needed to lead: the takeover mark, outcomes, the audit.
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self, key: &str) -> Result<(), RecordError> {
        let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
        match kind {
            "leader" => self.leader = None,
            "replica" => drop(self.replicas.remove(rest)),
            "chronicle" => (self.chronicle, self.chronicle_revision) = Default::default(),
            "removed" => drop(self.removed.remove(&records::parse::<HostId>(key, rest)?)),
            "agent" => drop(self.hosts.remove(&records::parse::<HostId>(key, rest)?)),
            "spec" => drop(self.specs.remove(&records::parse::<ServiceName>(key, rest)?)),
            "svc" => drop(self.services.remove(&records::parse::<ServiceName>(key, rest)?)),
            "pending" => drop(self.pending.remove(&records::parse::<ServiceName>(key, rest)?)),
            "deploy" => drop(self.deployments.remove(&records::parse::<DeploymentId>(key, rest)?)),
            "req" => drop(self.requests.remove(rest)),
            "history" => {
                let (service, generation) = rest.split_once('/').unwrap_or((rest, ""));
                let generation = Generation(records::parse(key, generation)?);
                if let Some(reports) = self.history.get_mut(&records::parse::<ServiceName>(key, service)?) {
                    reports.remove(&generation);
                }
            }
            // As above; and the membership's mark is never removed.
            _ => {}
        }
        Ok(())
    }

    /// The lives of all hosts.
    pub fn members(&self) -> Result<Participants, RecordError> {
        let each = self.hosts.iter().map(|(host, record)| {
            let incarnation = records::parse(&records::keys::agent(host), &record.incarnation)?;
            Ok((host.clone(), incarnation))
        });
        each.collect()
    }

    /// The report of a deployment that is in history.
    pub fn report(&self, deployment: &str) -> Option<&Report> {
        self.history.values().flat_map(BTreeMap::values).find(|report| report.id == deployment)
    }

    /// The newest report of a service.
    pub fn latest(&self, service: &ServiceName) -> Option<&Report> {
        self.history.get(service)?.values().next_back()
    }
}

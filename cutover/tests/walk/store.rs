//! The store of a walk: the transactions of the design, and the history the invariants need.

use cutover::ids::{DeploymentId, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName};
use cutover::message::{Committed, Outcome, Participants, ServiceState, State};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Store {
    pub revision: u64,
    pub epoch: u64,
    pub members: Participants,
    pub members_revision: u64,
    pub committed: BTreeMap<ServiceName, Committed>,
    /// With its generation.
    pub pending: BTreeMap<ServiceName, (DeploymentId, Generation)>,
    pub deployments: BTreeMap<DeploymentId, (BTreeMap<ServiceName, ReleaseDigest>, Participants)>,
    pub outcomes: BTreeMap<DeploymentId, Outcome>,
    pub history: BTreeMap<(ServiceName, Generation), ReleaseDigest>,
}

impl Store {
    pub fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    pub fn register(&mut self, host: &HostId, incarnation: Incarnation) {
        self.members_revision = self.next();
        self.members.insert(host.clone(), incarnation);
    }

    pub fn is_pending(&self, services: &BTreeMap<ServiceName, ReleaseDigest>, generation: Generation) -> bool {
        services.keys().all(|name| self.pending.get(name).is_some_and(|(_, pending)| *pending == generation))
    }

    pub fn commit(&mut self, deployment: &DeploymentId, generation: Generation) {
        self.next();
        let (services, _) = self.deployments[deployment].clone();
        for (name, release) in services {
            self.pending.remove(&name);
            self.history.insert((name.clone(), generation), release);
            self.committed.insert(name, Committed { generation, release });
        }
        self.outcomes.insert(deployment.clone(), Outcome::Commit);
    }

    pub fn abort(&mut self, deployment: &DeploymentId) {
        self.next();
        let (services, _) = self.deployments[deployment].clone();
        for name in services.keys() {
            self.pending.remove(name);
        }
        self.outcomes.insert(deployment.clone(), Outcome::Abort);
    }

    pub fn state(&self, epoch: Epoch) -> State {
        let names = self.committed.keys().chain(self.pending.keys());
        let services = names.map(|name| {
            let pending = self.pending.get(name).map(|(deployment, _)| deployment.clone());
            (name.clone(), ServiceState { committed: self.committed.get(name).copied(), pending })
        });
        State { epoch, revision: Revision(self.revision), services: services.collect() }
    }
}

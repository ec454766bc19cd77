//! The store: the transactions of the design with their guards, and the history the invariants need.

use crate::names;
use crate::network::{Decision, Write};
use crate::sabotage::Sabotage;
use cutover::ids::{DeploymentId, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName};
use cutover::message::{Committed, Outcome, Participants};
use std::collections::BTreeMap;

/// What stands in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// Of the last write.
    pub revision: Revision,
    /// At which the leader was elected.
    pub epoch: Epoch,
    /// The hosts, in their lives.
    pub members: Participants,
    /// When they last changed.
    pub members_revision: Revision,
    /// The truth.
    pub committed: BTreeMap<ServiceName, Committed>,
    /// What is open, with its generation.
    pub pending: BTreeMap<ServiceName, (DeploymentId, Generation)>,
    /// Everything ever opened.
    pub opened: BTreeMap<DeploymentId, Opening>,
    /// Everything ever decided.
    pub outcomes: BTreeMap<DeploymentId, Outcome>,
    /// Everything ever committed.
    pub history: BTreeMap<(ServiceName, Generation), ReleaseDigest>,
}

/// A deployment as its opening wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The revision of the opening.
    pub generation: Generation,
    /// What it brings.
    pub services: BTreeMap<ServiceName, ReleaseDigest>,
    /// Who takes part.
    pub participants: Participants,
    /// How many of them may stay silent.
    pub may_be_missing: usize,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It went through.
    Done,
    /// It was decided before, or it is not there any more.
    Landed(Outcome),
    /// The membership moved.
    MembersChanged,
    /// Another leads.
    Deposed,
}

impl Store {
    /// A fleet that serves its first releases at generation 1.
    pub fn new(hosts: usize, first: &BTreeMap<ServiceName, ReleaseDigest>) -> Self {
        let generation = Generation(1);
        let committed = first.iter().map(|(name, release)| (name.clone(), Committed { generation, release: *release }));
        let members = (0..hosts).map(|index| (names::host(index).clone(), first_life(index)));
        Self {
            revision: Revision(1),
            epoch: Epoch(0),
            members: members.collect(),
            members_revision: Revision(1),
            committed: committed.collect(),
            pending: BTreeMap::new(),
            opened: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            history: first.iter().map(|(name, release)| ((name.clone(), generation), *release)).collect(),
        }
    }

    fn write(&mut self) -> Revision {
        self.revision.0 += 1;
        self.revision
    }

    /// CAMPAIGN and TAKEOVER. Nothing the leader before asked for goes through between them or after.
    pub fn elect(&mut self) -> Epoch {
        self.epoch = Epoch(self.write().0);
        self.write();
        self.epoch
    }

    fn leads(&self, epoch: Epoch, sabotage: Option<Sabotage>) -> bool {
        self.epoch == epoch || sabotage == Some(Sabotage::NoEpochCompare)
    }

    /// START, if it may. `planned_on`: what the leader had read.
    pub fn open(
        &mut self,
        epoch: Epoch,
        deployment: &DeploymentId,
        opening: Opening,
        planned_on: &BTreeMap<ServiceName, Committed>,
        sabotage: Option<Sabotage>,
    ) -> bool {
        let is_free = |name| !self.pending.contains_key(name) && self.committed.get(name) == planned_on.get(name);
        if !self.leads(epoch, sabotage) || !opening.services.keys().all(is_free) {
            return false;
        }
        let mut generation = Generation(self.write().0);
        if sabotage == Some(Sabotage::ReuseGeneration) {
            let aborted = self.outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Abort);
            let used = aborted.filter_map(|(before, _)| self.opened.get(before)).map(|before| before.generation).max();
            generation = used.unwrap_or(generation);
        }
        for name in opening.services.keys() {
            self.pending.insert(name.clone(), (deployment.clone(), generation));
        }
        self.opened.insert(deployment.clone(), Opening { generation, ..opening });
        true
    }

    /// A host's life, registered by the leader.
    pub fn register(&mut self, epoch: Epoch, host: &HostId, life: Incarnation, sabotage: Option<Sabotage>) -> bool {
        if !self.leads(epoch, sabotage) {
            return false;
        }
        self.members_revision = self.write();
        self.members.insert(host.clone(), life);
        true
    }

    /// Whether COMMIT or ABORT would go through, and if not, why.
    pub fn would_answer(&self, write: &Write, sabotage: Option<Sabotage>) -> Answered {
        let Some(opening) = self.opened.get(&write.deployment) else { return Answered::Landed(Outcome::Abort) };
        let is_pending = opening
            .services
            .keys()
            .all(|name| self.pending.get(name).is_some_and(|(_, generation)| *generation == write.generation));
        let same_members = match &write.decision {
            Decision::Commit { members_revision, .. } => *members_revision == self.members_revision,
            Decision::Abort => true,
        };
        let guards_members = sabotage != Some(Sabotage::CountOldLife);
        if self.leads(write.epoch, sabotage) && is_pending && (same_members || !guards_members) {
            return Answered::Done;
        }
        if let Some(outcome) = self.outcomes.get(&write.deployment) {
            return Answered::Landed(*outcome);
        }
        if !self.leads(write.epoch, sabotage) {
            return Answered::Deposed;
        }
        if is_pending { Answered::MembersChanged } else { Answered::Landed(Outcome::Abort) }
    }

    /// COMMIT or ABORT, after [`Self::would_answer`] said [`Answered::Done`].
    pub fn after(&self, write: &Write) -> Self {
        let mut next = self.clone();
        next.write();
        let Some(opening) = self.opened.get(&write.deployment) else { return next };
        let outcome = match write.decision {
            Decision::Commit { .. } => Outcome::Commit,
            Decision::Abort => Outcome::Abort,
        };
        for (name, release) in &opening.services {
            next.pending.remove(name);
            if outcome == Outcome::Commit {
                let generation = opening.generation;
                next.history.insert((name.clone(), generation), *release);
                next.committed.insert(name.clone(), Committed { generation, release: *release });
            }
        }
        next.outcomes.insert(write.deployment.clone(), outcome);
        next
    }
}

/// Every host's first life; a life after it is a hundred more.
pub fn first_life(index: usize) -> Incarnation {
    Incarnation(index as u128 + 1)
}

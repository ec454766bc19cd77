//! What hosts and controller tell each other. `Prepare` and `Vote` are the only command and answer;
//! everything else is state, which may be lost, repeated and reordered without harm.

use crate::ids::{Colour, DeploymentId, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName};
use std::collections::BTreeMap;

/// A release in its place on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// The deployment's generation that put it there.
    pub generation: Generation,
    /// What stands there.
    pub release: ReleaseDigest,
    /// Where it stands. A host picks the colour that does not take its traffic.
    pub colour: Colour,
}

/// Leader to host: make these releases ready beside what you serve, then vote.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prepare {
    /// The leader that asks.
    pub epoch: Epoch,
    /// The deployment it asks for.
    pub deployment: DeploymentId,
    /// The deployment's generation.
    pub generation: Generation,
    /// The store revision the leader had read when it asked.
    pub revision: Revision,
    /// What to make ready.
    pub services: BTreeMap<ServiceName, ReleaseDigest>,
}

/// Host to leader: the answer to a `Prepare`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vote {
    /// The deployment voted on.
    pub deployment: DeploymentId,
    /// The incarnation whose disk holds the promise.
    pub incarnation: Incarnation,
    /// Yes, or no with the reason.
    pub verdict: Verdict,
}

/// Whether a host is able and bound to switch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is ready and the promise is on disk.
    Yes,
    /// It could not be made ready; the text is for the operator.
    No(String),
}

/// Host to leader: what was promised is gone (its container died and does not come back).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lost {
    /// The deployment it was promised for.
    pub deployment: DeploymentId,
    /// The incarnation that had promised.
    pub incarnation: Incarnation,
    /// For the operator.
    pub reason: String,
}

/// The committed truth of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Committed {
    /// The generation of the deployment that was committed last.
    pub generation: Generation,
    /// What it brought.
    pub release: ReleaseDigest,
}

/// What the store says of one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ServiceState {
    /// What every host of the service must serve; none before the first commit.
    pub committed: Option<Committed>,
    /// The deployment that is open, if one is.
    pub pending: Option<DeploymentId>,
}

/// Leader to host: what the store says of every service of that host, read at one revision.
/// It is both commit and abort.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// The leader that speaks.
    pub epoch: Epoch,
    /// The store revision all of it was read at.
    pub revision: Revision,
    /// The host's services.
    pub services: BTreeMap<ServiceName, ServiceState>,
}

/// Host to leader, on every connection: everything that is applied and promised here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hello {
    /// The host's life.
    pub incarnation: Incarnation,
    /// What takes traffic.
    pub applied: BTreeMap<ServiceName, Slot>,
    /// What was promised and not yet decided, as far as the host knows.
    pub prepared: BTreeMap<DeploymentId, Generation>,
}

/// Host to leader: what takes traffic, said only after nginx was seen serving it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Applied {
    /// The host's life.
    pub incarnation: Incarnation,
    /// What takes traffic, for every service of the host.
    pub services: BTreeMap<ServiceName, Slot>,
}

/// How a deployment ended: fixed by one store transaction, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Every host of the service goes to its release.
    Commit,
    /// Nothing changed.
    Abort,
}

/// The hosts a decision rests on, each with the life in which it promised.
pub type Participants = BTreeMap<HostId, Incarnation>;

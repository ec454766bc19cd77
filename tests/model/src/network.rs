//! The network: every message ever sent. Any of them may arrive at any time, any number of times, or never,
//! which is more than loss, repetition and reordering together. Transactions on their way to the store are
//! messages too: a write whose sender died or was not answered may still land.

use crate::names;
use crate::shared::Shared;
use cutover::ids::{DeploymentId, Epoch, Generation, Revision};
use cutover::message::{Applied, Lost, Participants, Prepare, State, Vote};
use std::fmt;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Packet {
    /// To the hosts whose bits are set.
    Prepare {
        /// One bit a host.
        to: u8,
        /// What they are asked.
        message: Prepare,
    },
    /// To any host.
    State(State),
    /// From a host.
    Vote {
        /// Its index.
        from: usize,
        /// Its word.
        vote: Vote,
    },
    /// From a host.
    Lost {
        /// Its index.
        from: usize,
        /// Its word.
        lost: Lost,
    },
    /// From a host.
    Applied {
        /// Its index.
        from: usize,
        /// Its word.
        applied: Applied,
    },
    /// To the store.
    Write(Write),
}

/// A decision on its way to the store, with what guards it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Write {
    /// The leader that wants it.
    pub epoch: Epoch,
    /// The deployment.
    pub deployment: DeploymentId,
    /// At which it is pending.
    pub generation: Generation,
    /// What it says.
    pub decision: Decision,
}

/// What a write says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Commit, if these are still the members.
    Commit {
        /// The lives it rests on.
        participants: Participants,
        /// The membership they were checked against.
        members_revision: Revision,
    },
    /// Abort.
    Abort,
}

/// Every message ever sent, in one order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Network(Vec<Shared<Packet>>);

impl Network {
    /// All of them.
    pub fn packets(&self) -> &[Shared<Packet>] {
        &self.0
    }

    /// With these too. None: nothing in them is new.
    pub fn with(&self, sent: &[Shared<Packet>]) -> Option<Self> {
        let mut all = None;
        for packet in sent {
            let known = all.as_ref().unwrap_or(&self.0);
            if let Err(place) = known.binary_search(packet)
                && !known.iter().any(|known| known.covers(packet))
            {
                all.get_or_insert_with(|| self.0.clone()).insert(place, packet.clone());
            }
        }
        all.map(Self)
    }
}

impl Packet {
    /// Whether this is the same question, to all of the other's hosts and more.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prepare { to, message }, Self::Prepare { to: less, message: same }) => {
                to & less == *less && message == same
            }
            (
                Self::Prepare { .. }
                | Self::State(_)
                | Self::Vote { .. }
                | Self::Lost { .. }
                | Self::Applied { .. }
                | Self::Write(_),
                _,
            ) => false,
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare { message, .. } => write!(
                f,
                "Prepare {} generation {} (epoch {}, revision {})",
                message.deployment, message.generation, message.epoch, message.revision
            ),
            Self::State(state) => {
                write!(f, "State (epoch {}, revision {}:", state.epoch, state.revision)?;
                for (name, service) in &state.services {
                    let committed = service.committed.map_or(0, |committed| committed.generation.0);
                    write!(f, " {name} at generation {committed}")?;
                    if let Some(pending) = &service.pending {
                        write!(f, " pending {pending}")?;
                    }
                }
                write!(f, ")")
            }
            Self::Vote { from, vote } => {
                write!(f, "{:?} from {} for {}", vote.verdict, names::host(*from), vote.deployment)
            }
            Self::Lost { from, lost } => write!(f, "Lost from {} for {}", names::host(*from), lost.deployment),
            Self::Applied { from, applied } => {
                write!(f, "Applied from {}:", names::host(*from))?;
                applied.services.iter().try_for_each(|(name, slot)| write!(f, " {name} at {}", slot.generation))
            }
            Self::Write(write) => match &write.decision {
                Decision::Commit { .. } => write!(f, "COMMIT {} (epoch {})", write.deployment, write.epoch),
                Decision::Abort => write!(f, "ABORT {} (epoch {})", write.deployment, write.epoch),
            },
        }
    }
}

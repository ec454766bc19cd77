//! What can happen next, in words that make a counterexample readable.

use crate::host::{Mishap, Moment};
use crate::names;
use crate::network::Packet;
use crate::shared::Shared;
use cutover::ids::DeploymentId;
use std::fmt;

/// One step of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A leader opens the next deployment of the plan.
    Opens {
        /// Which controller.
        controller: usize,
        /// The host it leaves out.
        without: Option<usize>,
    },
    /// A controller is elected. The one before does not know.
    IsElected {
        /// Which.
        controller: usize,
    },
    /// A host in a new life says hello.
    Registers {
        /// To whom.
        controller: usize,
        /// Which.
        host: usize,
    },
    /// A message reaches a leader.
    Hears {
        /// Which.
        controller: usize,
        /// What.
        packet: Shared<Packet>,
    },
    /// The time to prepare is over, as a leader sees it.
    DeadlinePasses {
        /// Which leader.
        controller: usize,
        /// For what.
        deployment: DeploymentId,
    },
    /// A host's stream has been down for a while, as a leader sees it.
    Misses {
        /// Which leader.
        controller: usize,
        /// For what.
        deployment: DeploymentId,
        /// Whom.
        host: usize,
    },
    /// The store takes or refuses a decision, and its answer arrives.
    StoreAnswers {
        /// Where.
        controller: usize,
        /// On what.
        deployment: DeploymentId,
    },
    /// A decision lands in the store, and nobody hears of it: the answer is lost, or its sender died.
    WriteLands {
        /// Which.
        packet: Shared<Packet>,
    },
    /// Something happens to a host.
    Happens {
        /// Which.
        host: usize,
        /// What.
        moment: Moment,
        /// And what goes wrong.
        mishap: Mishap,
    },
    /// A host is replaced: another life, an empty disk.
    IsReplaced {
        /// Which.
        host: usize,
    },
}

const CONTROLLERS: [&str; 2] = ["controller A", "controller B"];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opens { controller, without } => {
                write!(f, "{} opens the next deployment", CONTROLLERS[*controller])?;
                without.map_or(Ok(()), |host| write!(f, " without {}", names::host(host)))
            }
            Self::IsElected { controller } => write!(f, "{} is elected", CONTROLLERS[*controller]),
            Self::Registers { controller, host } => {
                write!(f, "{} registers {} in its new life", CONTROLLERS[*controller], names::host(*host))
            }
            Self::Hears { controller, packet } => write!(f, "{} hears {}", CONTROLLERS[*controller], **packet),
            Self::DeadlinePasses { controller, deployment } => {
                write!(f, "{}: the time to prepare {deployment} is over", CONTROLLERS[*controller])
            }
            Self::Misses { controller, deployment, host } => {
                write!(f, "{} misses {} for {deployment}", CONTROLLERS[*controller], names::host(*host))
            }
            Self::StoreAnswers { controller, deployment } => {
                write!(f, "the store answers {} on {deployment}", CONTROLLERS[*controller])
            }
            Self::WriteLands { packet } => write!(f, "{} lands in the store, nobody hears of it", **packet),
            Self::Happens { host, moment, mishap } => {
                write!(f, "{} {moment}", names::host(*host))?;
                match mishap {
                    Mishap::None => Ok(()),
                    Mishap::CrashAfter(acts) => write!(f, ", crashes after {acts} acts and comes back"),
                    Mishap::DiskFull => write!(f, ", and its disk takes no write"),
                }
            }
            Self::IsReplaced { host } => write!(f, "{} is replaced: a new life, an empty disk", names::host(*host)),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hears(packet) => write!(f, "hears {}", **packet),
            Self::MadeReady(work) => write!(f, "has made ready {work:?}"),
            Self::CouldNotMakeReady(work) => write!(f, "could not make ready {work:?}"),
            Self::Switches => write!(f, "switches and probes"),
            Self::CannotSwitch => write!(f, "cannot switch"),
            Self::SwitchesUnseen => write!(f, "switches, and nginx does not answer the probe"),
            Self::TriesAgain => write!(f, "tries again"),
            Self::LosesContainer(service, colour) => write!(f, "loses its container of {service} {colour}"),
            Self::IsMovedByHand(service) => write!(f, "is moved by hand to the {service} from before"),
            Self::IsReleased(service) => write!(f, "is returned to the {service} that is applied"),
            Self::Crashes => write!(f, "crashes and comes back"),
        }
    }
}

//! The host's Docker Engine, as far as a deployment needs it.

mod addresses;
mod labels;
mod tail;
pub mod real;
pub mod fake;
#[cfg(test)]
mod contract;

use crate::berth::Berth;
use crate::release::{Container, ImagePin};
pub use addresses::{Addresses, AddressesError, Subnet, SubnetError};
use async_trait::async_trait;
use cutover::ids::{Colour, Generation, HostId, ReleaseDigest, ServiceName};
use futures_util::stream::BoxStream;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Most lines of a container's output that are ever asked for: what fits a failure report.
pub const LOG_TAIL_LINES_MAX: usize = 200;

/// Longest line of a container's output that is shown, in characters.
pub const LOG_LINE_CHARS_MAX: usize = 500;

/// The outside, as the agent sees it. `real` speaks to Docker, `fake` stands in for it in simulation;
/// both pass the suite in `contract`.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Is it there, and what is it?
    async fn version(&self) -> Result<String, EngineError>;
    /// Do containers run on while it is restarted (`live-restore`)?
    async fn spares_containers(&self) -> Result<bool, EngineError>;
    /// Makes sure that the agent's own bridge network exists with exactly this subnet.
    async fn ensure_network(&self, network: &Network) -> Result<(), EngineError>;
    /// Takes the network away. Removing what is gone is fine; one with running containers is refused.
    async fn remove_network(&self, name: &str) -> Result<(), EngineError>;
    /// What is known on this host of an image, by tag, digest or id. None: it is not here.
    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, EngineError>;
    /// Asks the registry, with the host's own credentials and mirrors, what a tag is now.
    /// Answers `repository@sha256:...`.
    async fn registry_digest(&self, reference: &str) -> Result<String, EngineError>;
    /// Fetches the image if it is not here. `progress` hears one line at a time. Gives up when nothing
    /// moves for 60 s.
    async fn pull(&self, pin: &ImagePin, progress: &(dyn Fn(String) + Send + Sync)) -> Result<(), EngineError>;
    /// Creates a container, stopped. A leftover of ours under the same name with the same labels is
    /// adopted; one of ours with others is removed first; one that is not ours is an error.
    async fn create(&self, request: &CreateRequest<'_>) -> Result<String, EngineError>;
    /// Starts it. Starting twice is fine. One that Docker has lost track of, or something is left of, is refused.
    async fn start(&self, id: &str) -> Result<(), EngineError>;
    /// SIGTERM (or what the image names as its stop signal), then SIGKILL after the grace period, which is
    /// rounded up to whole seconds. Stopping what is stopped or gone is fine.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError>;
    /// Kills and removes it. Removing what is gone is fine.
    async fn remove(&self, id: &str) -> Result<(), EngineError>;
    /// How one container is. None: there is no such container. One without our labels is an error.
    async fn inspect(&self, id: &str) -> Result<Option<ContainerFacts>, EngineError>;
    /// All containers that carry this host's labels, running or not.
    async fn list(&self, host: &HostId) -> Result<Vec<ContainerFacts>, EngineError>;
    /// What it printed last, standard output and error mixed, oldest line first. At most `lines`
    /// lines (and [`LOG_TAIL_LINES_MAX`]) of at most [`LOG_LINE_CHARS_MAX`] characters, control characters
    /// replaced.
    async fn log_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, EngineError>;
    /// Containers whose processes have one of these addresses of the network, whatever Docker says of them: it may
    /// have lost track of one, see [`Occupant`].
    async fn occupants(&self, network: &str, addresses: &[Ipv4Addr]) -> Result<Vec<Occupant>, EngineError>;
    /// Kills what is left of a container, past Docker. It need not be possible to start it again, only to remove it and
    /// to make another.
    async fn evict(&self, id: &str) -> Result<(), EngineError>;
    /// Deaths of this host's containers from now on. Ends when the connection to Docker ends.
    async fn events(&self, host: &HostId) -> Result<BoxStream<'static, EngineEvent>, EngineError>;
}

/// The agent's own bridge network. Containers stand at fixed addresses in it, and nginx reaches them
/// there without a published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `bgctl`, unless several agents share one Docker.
    pub name: String,
    /// Its lowest address belongs to the bridge.
    pub subnet: Subnet,
}

/// What is known of an image that is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// `sha256:...`
    pub id: String,
    /// `repository@sha256:...`, for every repository it was pulled from or pushed to.
    pub repo_digests: Vec<String>,
}

/// Whose and what a container is: kept in its labels, so that it is known again whatever was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The host, because several agents may share one Docker in a local fleet.
    pub host: HostId,
    /// The service.
    pub service: ServiceName,
    /// The container's name in the release.
    pub container: String,
    /// The place.
    pub colour: Colour,
    /// The berth, and with it the address.
    pub berth: Berth,
    /// The generation it was made for.
    pub generation: Generation,
    /// The release it belongs to.
    pub release: ReleaseDigest,
}

impl Labels {
    /// What it was made for; see [`crate::state::Standing::made_for`].
    pub fn made_for(&self) -> (&ServiceName, Berth, ReleaseDigest, Generation) {
        (&self.service, self.berth, self.release, self.generation)
    }
}

/// What to create.
pub struct CreateRequest<'a> {
    /// Also gives the container its name: `bgctl-HOST-SERVICE-CONTAINER-COLOUR-GENERATION`.
    pub labels: Labels,
    /// What runs.
    pub container: &'a Container,
    /// The network it stands in.
    pub network: &'a str,
    /// Its fixed address there.
    pub address: Ipv4Addr,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Docker's id.
    pub id: String,
    /// What it is.
    pub labels: Labels,
    /// `sha256:...` of what it runs.
    pub image_id: String,
    /// Whether the process runs, and how it ended if not.
    pub condition: Condition,
    /// The fixed addresses it has, or gets when it is started. Empty: somebody took it off its network.
    pub addresses: Vec<Ipv4Addr>,
}

impl ContainerFacts {
    /// Whether it is reached there, or will be when it is started.
    pub fn is_at(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }
}

/// A container that has an address. Docker forgets what it was starting when its daemon is killed: it says that it does
/// not run, while it stands behind its address, which the next container gets as well. Packets for the one then reach
/// the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    /// Docker's id, which Docker need not know any more.
    pub id: String,
    /// Where it is reached.
    pub address: Ipv4Addr,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {} at {}", short(&self.id), self.address)
    }
}

/// Of an id as people know it: its first twelve digits. Names stay whole.
fn short(id: &str) -> &str {
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &id[..12] } else { id }
}

/// Whether a container's process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Created, never started.
    Created,
    /// It runs.
    Running,
    /// It ended.
    Exited {
        /// 137 is SIGKILL, often the kernel's out-of-memory killer.
        exit_code: i64,
        /// The kernel killed it for memory.
        out_of_memory: bool,
    },
}

/// What Docker tells unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// A container's process ended.
    Died {
        /// Docker's id.
        id: String,
        /// What it was.
        labels: Labels,
        /// How it ended.
        exit_code: i64,
    },
}

/// What can go wrong with Docker. Each names what was done to what, and the daemon's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers on the socket.
    #[error("Docker does not answer ({detail}); is it running? try `systemctl status docker`")]
    Unreachable {
        /// The cause.
        detail: String,
    },
    /// A call was not answered in time.
    #[error("Docker is unresponsive: {operation} took longer than {limit:?}")]
    Unresponsive {
        /// The call.
        operation: String,
        /// Its limit.
        limit: Duration,
    },
    /// The image is not on the host and cannot be pulled.
    #[error("image {reference} is not on this host and cannot be pulled: {detail}")]
    ImageMissing {
        /// The image.
        reference: String,
        /// Why not.
        detail: String,
    },
    /// The fixed address or name is held by a container that is not ours.
    #[error("{what} is taken: {detail}")]
    Taken {
        /// The address or name.
        what: String,
        /// The daemon's words.
        detail: String,
    },
    /// It runs, and Docker says that it does not.
    #[error("Docker has lost track of {occupant}: it serves on, and goes with the next release")]
    LostTrack {
        /// Which.
        occupant: Occupant,
    },
    /// What runs on this host cannot be seen.
    #[error(
        "the processes of this host cannot be seen ({detail}), so that a container that Docker lost track of would not \
         be found; let the agent see them: `ProtectProc=default` and CAP_KILL in its unit, no `hidepid` for /proc"
    )]
    Blind {
        /// Why not.
        detail: String,
    },
    /// The network exists with another subnet, or the subnet is in use.
    #[error("Docker network {name}: {detail}")]
    Network {
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        detail: String,
    },
    /// Anything else the daemon refused.
    #[error("{operation} failed: {detail}")]
    Refused {
        /// The call.
        operation: String,
        /// The daemon's words.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_shortened() {
        assert_eq!(short(&"0123456789abcdef".repeat(4)), "0123456789ab");
        assert_eq!(short("bgctl-a-b-c-blue-1"), "bgctl-a-b-c-blue-1");
    }
}

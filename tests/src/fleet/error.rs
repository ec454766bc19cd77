//! Why a fleet is not as asked for. Each says what to do where that is known.

use super::plan::{CONTROLLERS_MAX, HOSTS_MAX};
use crate::images::ImageError;
use crate::load::LoadError;
use crate::workspace::WorkspaceError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a fleet is not as asked for.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Too many hosts, or none.
    #[error("a fleet of {asked} hosts: expected 1 to {HOSTS_MAX}")]
    HostCount {
        /// What was asked for.
        asked: usize,
    },
    /// Too many controllers, none, or several on a store for one.
    #[error("{asked} controllers: expected 1, or up to {CONTROLLERS_MAX} on etcd (STORE=etcd)")]
    ControllerCount {
        /// What was asked for.
        asked: usize,
    },
    /// It runs already.
    #[error("a fleet runs already in {dir}: `make fleet-down` takes it down")]
    AlreadyUp {
        /// Its folder.
        dir: PathBuf,
    },
    /// Nothing is there.
    #[error("there is no fleet in {dir}: `make fleet` brings one up")]
    NoFleet {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// Another fleet of the same name is on this machine.
    #[error(
        "Docker network {network} exists: another checkout's fleet? take that down first, or `docker network rm {network}`"
    )]
    NetworkTaken {
        /// Its name.
        network: String,
    },
    /// Somebody listens where a host must.
    #[error("port {port} on 127.0.0.1 is taken: end what listens there (`ss -ltnp 'sport = :{port}'`)")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// None of many ports was free.
    #[error("no free port found on 127.0.0.1")]
    NoPort,
    /// All candidates overlap something.
    #[error("no free subnet found for a Docker network: `docker network ls`, and remove what is not needed")]
    NoSubnet,
    /// A program is missing.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The sample service's images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The sample service does not answer.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Docker refused.
    #[error("cannot {action}; does Docker run? try `make install-packages`")]
    Docker {
        /// What was tried.
        action: &'static str,
        /// Docker's words.
        source: bollard::errors::Error,
    },
    /// A file of the fleet.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The plan cannot be read.
    #[error("{path} is no fleet's plan: {detail}")]
    Plan {
        /// The file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// A program of ours failed.
    #[error("{what} failed: {detail}")]
    Program {
        /// Which one, doing what.
        what: String,
        /// Its words.
        detail: String,
    },
    /// A process that no signal ends.
    #[error("process {pid} ({name}) does not end")]
    Process {
        /// Its id.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// The supervisor cannot be told to end.
    #[error("cannot listen for signals")]
    Signals {
        /// The system's words.
        source: io::Error,
    },
    /// A state that did not come.
    #[error("{what} did not come within {limit:?}")]
    Deadline {
        /// The state.
        what: String,
        /// The wait.
        limit: Duration,
    },
    /// It did not come up, and was taken down again.
    #[error("the fleet did not come up; the ends of its logs:\n{logs}\nthe fleet did not come up")]
    Up {
        /// Why.
        #[source]
        cause: Box<FleetError>,
        /// The ends of its logs.
        logs: String,
    },
}

impl FleetError {
    pub(crate) fn docker(action: &'static str) -> impl FnOnce(bollard::errors::Error) -> Self {
        move |source| Self::Docker { action, source }
    }
}

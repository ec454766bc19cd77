//! Why a fleet of namespaces is not as asked for.

use crate::fleet::FleetError;
use crate::images::ImageError;
use crate::workspace::WorkspaceError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a fleet of namespaces is not as asked for.
#[derive(Debug, thiserror::Error)]
pub enum NetFleetError {
    /// An option outside its range.
    #[error("a fleet of {asked} {what}: expected 1 to {most}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many were asked for.
        asked: usize,
        /// The most there can be.
        most: usize,
    },
    /// No namespaces can be made.
    #[error(
        "this machine lets nobody make namespaces, which hosts of their own need ({detail}); run it as root, in a container with --privileged"
    )]
    Namespaces {
        /// What was said.
        detail: String,
    },
    /// A program is missing.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The sample service's images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What the local fleet's code says.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A file.
    #[error("cannot {action} {path}")]
    File {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {what}")]
    Start {
        /// Which.
        what: String,
        /// The system's words.
        source: io::Error,
    },
    /// A program failed.
    #[error("{what} failed: {detail}")]
    Command {
        /// Which.
        what: String,
        /// Its words.
        detail: String,
    },
    /// A host's Docker.
    #[error("cannot {action} in the Docker of {machine}")]
    Docker {
        /// What was to be done.
        action: &'static str,
        /// Whose Docker.
        machine: String,
        /// Docker's words.
        source: bollard::errors::Error,
    },
    /// It has no power.
    #[error("{machine} is off")]
    Off {
        /// Which.
        machine: String,
    },
    /// What was waited for did not come.
    #[error("{what} did not come within {limit:?}")]
    Deadline {
        /// What.
        what: String,
        /// The wait.
        limit: Duration,
    },
    /// It did not come up.
    #[error("the fleet did not come up: {cause}\n{logs}")]
    Up {
        /// Why.
        cause: Box<NetFleetError>,
        /// The ends of the logs.
        logs: String,
    },
}

impl NetFleetError {
    pub(super) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(super) fn docker(action: &'static str, machine: &str) -> impl FnOnce(bollard::errors::Error) -> Self {
        let machine = machine.to_owned();
        move |source| Self::Docker { action, machine, source }
    }
}

//! The controller's config file, and how files that people write are read: all faults at once, each with its
//! line, column and field, and what was expected. `deploy/config/controller.yaml` shows every key.

mod document;
mod duration;
mod fault;
mod field;
mod read;
#[cfg(feature = "testing")]
mod outline;
#[cfg(test)]
mod tests;

pub use duration::parse_duration;
#[cfg(test)]
pub(crate) use fault::lines;
pub(crate) use fault::quote;
pub use fault::{Fault, Faults};
pub(crate) use field::{Field, Keys, read};
#[cfg(feature = "testing")]
pub use outline::{Outline, outline};

use crate::identity::{AUTHORITY_CERTIFICATE, CONTROLLER_FILES};
use crate::replica::{Replica, is_name};
use crate::store::StoreConfig;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What a controller has to know to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where agents and operators connect to.
    pub listen: SocketAddr,
    /// What this controller is called among several. None: as the machine is.
    pub name: Option<String>,
    /// Where agents and operators reach this controller, `HOST:PORT`. None: see [`Config::replica`].
    pub advertise: Option<String>,
    /// What the controller keeps: an embedded store's file. Absolute.
    pub state_dir: PathBuf,
    /// The folder with the controller's identity. Absolute.
    pub identity: PathBuf,
    /// Where the desired state is written down.
    pub store: StoreConfig,
}

/// A config that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{0}")]
    Malformed(Faults),
}

impl Config {
    /// Reads a config file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a config. `file_name` is what errors call it.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        read(text, file_name, read::config).map_err(ConfigError::Malformed)
    }

    /// Who this is among the controllers, on a machine of this name. Who listens on one address is reached there;
    /// who listens on all of them, under the machine's name.
    pub fn replica(&self, machine: &str) -> Replica {
        let name = self.name.clone().unwrap_or_else(|| {
            let name: String = machine.chars().filter(|c| c.is_ascii_alphanumeric() || "_.-".contains(*c)).collect();
            if is_name(&name) { name } else { "controller".to_owned() }
        });
        let address = self.advertise.clone().unwrap_or_else(|| match self.listen.ip().is_unspecified() {
            true => format!("{name}:{}", self.listen.port()),
            false => self.listen.to_string(),
        });
        Replica { name, address }
    }

    /// CA, certificate and key, as `bgctl_proto::link::Identity::load` takes them.
    pub fn identity_files(&self) -> (PathBuf, PathBuf, PathBuf) {
        let file = |name| self.identity.join(name);
        (file(AUTHORITY_CERTIFICATE), file(CONTROLLER_FILES.0), file(CONTROLLER_FILES.1))
    }
}

impl Default for Config {
    /// What an empty file means.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            name: None,
            advertise: None,
            state_dir: PathBuf::from("/var/lib/bgctl-controller"),
            identity: PathBuf::from("/etc/bgctl-controller"),
            store: StoreConfig::default(),
        }
    }
}

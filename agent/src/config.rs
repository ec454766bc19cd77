//! `agent.yaml`.

use crate::docker::{Network, Subnet};
use crate::nginx;
use bgctl_proto::convert::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Of the hash of the machine's id: enough to tell machines apart, short enough to be read.
const MACHINE_BYTES: usize = 8;

/// Everything an operator can set. Unknown keys are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where a controller may be, `HOST:PORT`; at least one.
    pub controllers: Vec<String>,
    /// The journal, the switch, and the private nginx live here. On a disk that survives a reboot.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// A directory with `ca.crt`, `host.crt` and `host.key`, as `bgctl-controller issue-host` makes it.
    #[serde(default = "default_identity")]
    pub identity: PathBuf,
    /// What names this machine; a file that is empty or missing names none.
    #[serde(default = "default_machine_id")]
    pub machine_id: PathBuf,
    /// Docker.
    #[serde(default)]
    pub docker: DockerConfig,
    /// Where load balancers ask whether this host is ready, `ADDRESS:PORT`; off if it is not there.
    #[serde(default)]
    pub ready: Option<SocketAddr>,
    /// nginx.
    #[serde(default)]
    pub nginx: nginx::NginxConfig,
}

/// The Docker section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerConfig {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The agent's own bridge network.
    pub network: String,
    /// Its addresses; must be free on this host.
    pub subnet: Subnet,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            network: "bgctl".to_owned(),
            // Set aside for benchmarks (RFC 2544), so in no cloud's or company's own network.
            subnet: "198.18.224.0/24".parse().expect("a subnet"),
        }
    }
}

fn default_state_dir() -> PathBuf {
    "/var/lib/bgctl".into()
}

fn default_identity() -> PathBuf {
    "/etc/bgctl/identity".into()
}

fn default_machine_id() -> PathBuf {
    "/etc/machine-id".into()
}

/// Why the config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It does not say what it must; the text names line and column.
    #[error("{path}: {detail}")]
    Invalid {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

impl Config {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let invalid = |detail: String| ConfigError::Invalid { path: path.to_owned(), detail };
        let config: Self = serde_saphyr::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        if config.controllers.is_empty() {
            return Err(invalid("`controllers` is empty: expected at least one HOST:PORT".to_owned()));
        }
        for controller in &config.controllers {
            let port = controller.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) {
                return Err(invalid(format!(
                    "controller {controller:?}: expected HOST:PORT, for example 10.0.0.5:7443"
                )));
            }
        }
        if config.ready.is_some_and(|ready| ready.port() == 0) {
            return Err(invalid("`ready` has port 0: expected ADDRESS:PORT, for example 0.0.0.0:8402".to_owned()));
        }
        Ok(config)
    }

    /// Names this machine without giving its id away: it is meant to be known on the machine only.
    pub fn machine(&self) -> String {
        let id = std::fs::read_to_string(&self.machine_id).unwrap_or_default();
        if id.trim().is_empty() {
            return String::new();
        }
        let hash = Sha256::digest(format!("bgctl machine {}", id.trim()));
        hex(&hash[..MACHINE_BYTES])
    }

    /// The network containers stand in.
    pub fn network(&self) -> Network {
        Network { name: self.docker.network.clone(), subnet: self.docker.subnet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/agent.yaml");
        let config = Config::load(&path).expect("the sample is valid");
        assert_eq!(config.docker.network, "bgctl");
    }

    #[test]
    fn bad_configs_say_where_and_what() {
        let cases = [
            ("controllers: []\n", "at least one HOST:PORT"),
            ("controllers: [somewhere]\n", "expected HOST:PORT"),
            ("controllers: [a:1]\nstat_dir: /x\n", "stat_dir"),
            ("controllers: [a:1]\nready: 8402\n", "ready"),
            ("controllers: [a:1]\nready: 0.0.0.0:0\n", "0.0.0.0:8402"),
            ("controllers: [a:1]\ndocker: {subnet: 10.0.0.1/24}\n", "10.0.0.1/24"),
        ];
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.yaml");
        for (text, expected) in cases {
            std::fs::write(&path, text).expect("writes");
            let error = Config::load(&path).expect_err(text).to_string();
            assert!(error.contains(expected) && error.contains("agent.yaml"), "{text:?} gave {error:?}");
        }
    }
}

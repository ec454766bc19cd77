//! The real Docker, over its socket.
//!
//! Every call has its own limit, because a stopped daemon accepts connections and never answers. The
//! connection to the daemon is made on first use and made anew after it was lost, so that the agent may
//! start before Docker and outlive its restarts.

mod call;
mod images;
mod pull;
mod logins;
mod containers;
mod create;
mod network;
mod occupants;
mod logs;
mod events;

use super::{ContainerFacts, CreateRequest, Engine, EngineError, EngineEvent, ImageFacts, Network, Occupant};
use crate::release::ImagePin;
use async_trait::async_trait;
use bollard::{ClientVersion, Docker};
use cutover::ids::HostId;
use futures_util::stream::BoxStream;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where Docker listens on every Linux distribution.
pub const SOCKET: &str = "/var/run/docker.sock";

/// The newest dialect this program was written against. Docker speaks an older one if it must.
const API_VERSION: ClientVersion = ClientVersion { major_version: 1, minor_version: 53 };

/// The library's own limit on response headers is for all calls alike, and a stop may rightly take an
/// hour. It is put out of the way: each call has its own limit here.
const LIBRARY_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long Docker may take for what.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Looking something up.
    pub look: Duration,
    /// Creating, starting or removing a container, or creating a network.
    pub act: Duration,
    /// Stopping a container, beyond its own grace period.
    pub stop_margin: Duration,
    /// Asking a registry for a digest.
    pub registry: Duration,
    /// How long a pull may stand still.
    pub pull_quiet: Duration,
    /// How often a pull that stood still is begun anew.
    pub pull_retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A look takes 1 to 5 ms; on a host that swaps or scrubs its disk, a second or two.
            look: Duration::from_secs(10),
            // A create or start takes 50 to 500 ms, but waits for the disk and for its turn when a
            // host starts tens of containers after a reboot.
            act: Duration::from_secs(60),
            // Docker kills after the grace period and then waits for the kernel to clear up.
            stop_margin: Duration::from_secs(30),
            // Token server and registry, one round trip each, perhaps through a proxy.
            registry: Duration::from_secs(30),
            // Registries do pause between layers; none that works pauses this long.
            pull_quiet: Duration::from_secs(60),
            // A stalled connection is cured by a new one, or not at all.
            pull_retries: 3,
        }
    }
}

/// The Docker Engine of this host.
pub struct DockerEngine {
    socket: PathBuf,
    login_files: Vec<PathBuf>,
    limits: Limits,
    client: Mutex<Option<Docker>>,
}

impl DockerEngine {
    /// Nothing is asked of Docker yet. `socket` is usually [`SOCKET`]. Registry logins are read from the
    /// host's own Docker config (see [`login_files`]).
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self::with(socket, login_files(), Limits::default())
    }

    /// The same with everything chosen.
    pub fn with(socket: impl Into<PathBuf>, login_files: Vec<PathBuf>, limits: Limits) -> Self {
        Self { socket: socket.into(), login_files, limits, client: Mutex::new(None) }
    }

    /// The client, asked for its dialect when it is new.
    async fn client(&self) -> Result<Docker, EngineError> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = call::within("asking Docker for its version", self.limits.look, async {
            let socket = self.socket.to_string_lossy();
            Docker::connect_with_unix(&socket, LIBRARY_LIMIT.as_secs(), &API_VERSION)?
                .with_request_modifier(logins::make_header_url_safe)
                .negotiate_version()
                .await
        })
        .await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// Passes a result on. After a lost connection the next call begins anew: the daemon that comes back
    /// may be another version.
    fn watched<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if matches!(result, Err(EngineError::Unreachable { .. })) {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }
}

/// For the kernel to say what runs. It takes milliseconds, but a process that hangs may keep what is asked of it.
const PROCESSES_LIMIT: Duration = Duration::from_secs(20);

/// Reads and waits where nothing else waits for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let failed = |detail| EngineError::Refused { operation: "looking at this host's processes".to_owned(), detail };
    match tokio::time::timeout(PROCESSES_LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer of /proc within {PROCESSES_LIMIT:?}"))),
    }
}

/// Where registry logins are looked for, the first file with a fitting entry wins:
/// `$DOCKER_CONFIG/config.json`, `~/.docker/config.json` (as `docker login` writes them), and
/// `/etc/bgctl/docker.json`, in the same format, for agents that run without a home directory. Only
/// `auths` entries with their base64 text are read, at every pull anew; credential helpers are not run.
pub fn login_files() -> Vec<PathBuf> {
    let configured = std::env::var_os("DOCKER_CONFIG").map(|folder| PathBuf::from(folder).join("config.json"));
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker/config.json"));
    configured.into_iter().chain(home).chain([PathBuf::from("/etc/bgctl/docker.json")]).collect()
}

#[async_trait]
impl Engine for DockerEngine {
    async fn version(&self) -> Result<String, EngineError> {
        let client = self.client().await?;
        let answer = call::within("asking Docker for its version", self.limits.look, client.version()).await;
        let version = self.watched(answer.map_err(EngineError::from))?;
        Ok(version.version.unwrap_or_else(|| "unknown".to_owned()))
    }

    async fn spares_containers(&self) -> Result<bool, EngineError> {
        let client = self.client().await?;
        let answer = call::within("asking Docker how it is set", self.limits.look, client.info()).await;
        let info = self.watched(answer.map_err(EngineError::from))?;
        Ok(info.live_restore_enabled.unwrap_or_default())
    }

    async fn ensure_network(&self, network: &Network) -> Result<(), EngineError> {
        let client = self.client().await?;
        self.watched(network::ensure(&client, &self.limits, network).await)
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let client = self.client().await?;
        self.watched(network::remove(&client, &self.limits, name).await)
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, EngineError> {
        let client = self.client().await?;
        self.watched(images::image(&client, &self.limits, reference).await)
    }

    async fn registry_digest(&self, reference: &str) -> Result<String, EngineError> {
        let client = self.client().await?;
        self.watched(images::registry_digest(&client, &self.limits, &self.login_files, reference).await)
    }

    async fn pull(&self, pin: &ImagePin, progress: &(dyn Fn(String) + Send + Sync)) -> Result<(), EngineError> {
        let client = self.client().await?;
        self.watched(pull::pull(&client, &self.limits, &self.login_files, pin, progress).await)
    }

    async fn create(&self, request: &CreateRequest<'_>) -> Result<String, EngineError> {
        let client = self.client().await?;
        self.watched(create::create(&client, &self.limits, request).await)
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let client = self.client().await?;
        self.watched(containers::start(&client, &self.limits, id).await)
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let client = self.client().await?;
        self.watched(containers::stop(&client, &self.limits, id, grace).await)
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let client = self.client().await?;
        self.watched(containers::remove(&client, &self.limits, id).await)
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerFacts>, EngineError> {
        let client = self.client().await?;
        self.watched(containers::inspect(&client, &self.limits, id).await)
    }

    async fn list(&self, host: &HostId) -> Result<Vec<ContainerFacts>, EngineError> {
        let client = self.client().await?;
        self.watched(containers::list(&client, &self.limits, host).await)
    }

    async fn log_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        let client = self.client().await?;
        self.watched(logs::tail(&client, &self.limits, id, lines).await)
    }

    async fn occupants(&self, network: &str, addresses: &[Ipv4Addr]) -> Result<Vec<Occupant>, EngineError> {
        let addresses = addresses.to_vec();
        let found = aside(move || occupants::at(&addresses)).await?;
        if found.is_empty() {
            return Ok(found);
        }
        let client = self.client().await?;
        let Some(bridge) = self.watched(network::bridge(&client, &self.limits, network).await)? else {
            return Ok(Vec::new());
        };
        aside(move || Ok(occupants::behind(&bridge, found))).await
    }

    async fn evict(&self, id: &str) -> Result<(), EngineError> {
        let id = call::checked("a container", id)?.to_owned();
        aside(move || occupants::evict(&id)).await
    }

    async fn events(&self, host: &HostId) -> Result<BoxStream<'static, EngineEvent>, EngineError> {
        let client = self.client().await?;
        self.watched(events::deaths(&client, &self.limits, host).await)
    }
}

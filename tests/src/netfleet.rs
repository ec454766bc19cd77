//! A fleet whose hosts are machines of their own as far as the kernel can pretend: each has its own network, process
//! and mount namespace, an address on a bridge, a disk (a folder), its own Docker, agent and nginx, and can lose its
//! power. Links can be cut. Controllers, etcd members and an image registry are such machines too.
//!
//! ```text
//!   hub (network and process namespace; the bridge 10.213.77.1)
//!    ├─ e1 e2 e3  .11-   etcd
//!    ├─ c1 c2 c3  .21-   bgctl-controller
//!    ├─ reg       .31    docker-registry
//!    └─ h1 …      .41-   dockerd, bgctl-agent, nginx, containers (198.18.224.0/24, the same on each)
//! ```
//!
//! Nothing in it has a link to the machine it runs on. The hub's first process ends when the one that made the fleet
//! ends, however that happens, and with it the kernel ends everything in it. What is then left, a folder among the
//! temporary files and some empty control groups, goes with the value, or is swept by the next fleet.
//!
//! It needs root, and a kernel that lets root make namespaces; without them it says so and fails.

mod hub;
mod machine;
mod init;
mod files;
mod engine;
mod containers;
mod midstart;
mod cut;
mod points;
mod sweep;
mod error;

pub use containers::Contained;
pub use cut::Cut;
pub use error::NetFleetError;
pub use init::run as run_machine;
pub use machine::{Machine, Program, Started};
pub use midstart::{MidStart, Moment};
pub use points::{Order, Points};

use crate::fleet::Ran;
use crate::load::Target;
use crate::workspace::program;
use hub::Hub;
use serde_json::Value;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Most hosts of one fleet: a dockerd with its containerd takes some 120 MB.
pub const HOSTS_MAX: usize = 8;
/// Most controllers, and most etcd members.
pub const CONTROLLERS_MAX: usize = 5;
/// The network of a fleet. It is nobody's but the fleet's: the namespaces have no way out.
const NETWORK: [u8; 3] = [10, 213, 77];
const ETCD_FIRST: u8 = 11;
const CONTROLLER_FIRST: u8 = 21;
const REGISTRY: u8 = 31;
const HOST_FIRST: u8 = 41;
/// Where controllers listen, on their own address.
const CONTROLLER_PORT: u16 = 7443;
/// Where the registry listens.
const REGISTRY_PORT: u16 = 5000;
/// For `bgctl`: longer than any deployment of the sample service may take.
const BGCTL_LIMIT: Duration = Duration::from_secs(180);
/// For all hosts to be linked: each starts a Docker, a network and an nginx first.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// How often a waiting caller looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often the controllers are asked: each time a process is started for it.
const ASK_EVERY: Duration = Duration::from_millis(150);

/// What fleet to bring up.
#[derive(Debug, Clone)]
pub struct NetFleetOptions {
    /// 1 to [`HOSTS_MAX`].
    pub hosts: usize,
    /// 1 to [`CONTROLLERS_MAX`], and as many etcd members.
    pub controllers: usize,
    /// A registry, from which the sample service's images are pulled. Without it they are loaded into each Docker.
    pub registry: bool,
    /// Docker keeps containers running while it is away.
    pub live_restore: bool,
    /// The sample service's spec.
    pub spec: String,
    /// Deploy this version of it. None: do not.
    pub version: Option<String>,
}

impl Default for NetFleetOptions {
    fn default() -> Self {
        Self {
            hosts: 1,
            controllers: 1,
            registry: false,
            live_restore: true,
            spec: include_str!("../fixtures/web.yaml").to_owned(),
            version: Some("v1".to_owned()),
        }
    }
}

/// A fleet that runs. It goes with the value, or with this process.
#[derive(Debug)]
pub struct NetFleet {
    options: NetFleetOptions,
    id: String,
    dir: PathBuf,
    etcd: Vec<Machine>,
    controllers: Vec<Machine>,
    registry: Option<Machine>,
    hosts: Vec<Machine>,
    hub: Hub,
    /// Held for as long as the folder must not be swept.
    _in_use: File,
}

impl NetFleet {
    /// Brings a fleet up; when this returns, all hosts are linked and have the sample service's images.
    ///
    /// # Errors
    /// What is missing or does not work here, with the ends of the logs.
    pub async fn up(options: NetFleetOptions) -> Result<Self, NetFleetError> {
        files::check(&options)?;
        sweep::sweep_abandoned();
        let (id, dir, in_use) = sweep::new_folder()?;
        let hub = Hub::up(&dir, address(1)).await?;
        let machine = |name: String, last: u8| Machine::new(&id, &dir, &name, address(last));
        let each = |prefix: &str, first: u8, count: usize| -> Vec<Machine> {
            (0..count as u8).map(|index| machine(format!("{prefix}{}", index + 1), first + index)).collect()
        };
        let mut fleet = Self {
            etcd: each("e", ETCD_FIRST, options.controllers),
            controllers: each("c", CONTROLLER_FIRST, options.controllers),
            registry: options.registry.then(|| machine("reg".to_owned(), REGISTRY)),
            hosts: each("h", HOST_FIRST, options.hosts),
            options,
            id,
            dir,
            hub,
            _in_use: in_use,
        };
        match fleet.start().await {
            Ok(()) => Ok(fleet),
            Err(cause) => Err(NetFleetError::Up { cause: Box::new(cause), logs: fleet.log_ends() }),
        }
    }

    async fn start(&mut self) -> Result<(), NetFleetError> {
        files::write_all(self).await?;
        let hub = &self.hub;
        let all = self.etcd.iter_mut().chain(&mut self.controllers).chain(&mut self.registry).chain(&mut self.hosts);
        // One after the other: each is a few processes, and they all start their programs by themselves.
        for machine in all {
            machine.power_on(hub).await?;
        }
        engine::provide_images(self).await?;
        self.wait_connected(CONNECT_LIMIT).await?;
        let spec = self.spec_file();
        self.bgctl(&["apply", "-f", &spec.to_string_lossy()]).await?.success()?;
        if let Some(version) = self.options.version.clone() {
            self.bgctl(&["deploy", "web", "--version", &version]).await?.success()?;
        }
        Ok(())
    }

    /// Its hosts; `h1` is at index 0.
    pub fn hosts(&self) -> &[Machine] {
        &self.hosts
    }

    /// Its controllers.
    pub fn controllers(&self) -> &[Machine] {
        &self.controllers
    }

    /// Its etcd members.
    pub fn etcd(&self) -> &[Machine] {
        &self.etcd
    }

    /// Its registry, if it has one.
    pub fn registry(&self) -> Option<&Machine> {
        self.registry.as_ref()
    }

    /// Every machine.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.etcd.iter().chain(&self.controllers).chain(&self.registry).chain(&self.hosts)
    }

    /// Its folder. A machine's disk is `machines/NAME`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A client for a host's Docker. It does not outlive a reboot of the host.
    ///
    /// # Errors
    /// When the host is off.
    pub fn docker(&self, host: usize) -> Result<bollard::Docker, NetFleetError> {
        engine::client(&self.hosts[host])
    }

    /// The sample image's name without its tag, as the spec has it.
    pub fn repository(&self) -> String {
        engine::repository(self)
    }

    /// Takes a version's image from a host, so that the next deployment has to fetch it. Finding none is fine.
    ///
    /// # Errors
    /// Docker's words, also if a container still uses it.
    pub async fn forget_image(&self, host: usize, version: &str) -> Result<(), NetFleetError> {
        engine::forget_image(self, host, version).await
    }

    /// Every host as a target for load, to be sent on [`NetFleet::runtime`].
    pub fn targets(&self) -> Vec<Target> {
        let target = |host: &Machine| Target {
            name: host.name().to_owned(),
            ..Target::new(SocketAddr::from((host.address(), 80)))
        };
        self.hosts.iter().map(target).collect()
    }

    /// A runtime whose threads are in the hub's network: what is spawned here reaches every machine.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.hub.runtime()
    }

    /// Loses a host's power and gives it back: all its processes and mounts are gone, its disk is not. Returns when
    /// it has booted; its Docker and its agent are then starting.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn reboot(&mut self, host: usize) -> Result<(), NetFleetError> {
        self.hosts[host].power_off().await?;
        self.hosts[host].power_on(&self.hub).await
    }

    /// A host without power.
    ///
    /// # Errors
    /// When something of it stays.
    pub async fn power_off(&mut self, host: usize) -> Result<(), NetFleetError> {
        self.hosts[host].power_off().await
    }

    /// The reverse.
    ///
    /// # Errors
    /// When it does not boot.
    pub async fn power_on(&mut self, host: usize) -> Result<(), NetFleetError> {
        self.hosts[host].power_on(&self.hub).await
    }

    /// `bgctl` with the operator's settings, in the hub. It dies with the handle.
    ///
    /// # Errors
    /// When it was not built.
    pub fn bgctl_command(&self, arguments: &[&str]) -> Result<Command, NetFleetError> {
        let mut command = self.hub.command(program("bgctl")?);
        command.env("BGCTL_CONTROLLERS", self.controller_addresses().join(","));
        command.env("BGCTL_IDENTITY", self.dir.join("identity/operators/fleet"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Runs `bgctl` to its end, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started; [`NetFleetError::Deadline`] after 180 s.
    pub async fn bgctl(&self, arguments: &[&str]) -> Result<Ran, NetFleetError> {
        let start = Instant::now();
        let what = format!("bgctl {}", arguments.join(" "));
        let mut command = self.bgctl_command(arguments)?;
        let output = tokio::time::timeout(BGCTL_LIMIT, command.output()).await;
        let output =
            output.map_err(|_| NetFleetError::Deadline { what: format!("the end of {what}"), limit: BGCTL_LIMIT })?;
        let output = output.map_err(|source| NetFleetError::Start { what, source })?;
        Ok(Ran {
            arguments: arguments.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: start.elapsed(),
        })
    }

    /// Waits until `bgctl` answers `arguments` with a document that is as wanted.
    ///
    /// # Errors
    /// [`NetFleetError::Deadline`], with the last answer.
    pub async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        arguments: &[&str],
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, NetFleetError> {
        let deadline = Instant::now() + limit;
        loop {
            let ran = self.bgctl(arguments).await?;
            if let Some(answer) = ran.json().filter(|_| ran.code == Some(0))
                && wanted(&answer)
            {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                return Err(NetFleetError::Deadline { what: format!("{what} (bgctl said: {})", ran.short()), limit });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Waits until the leader says that every host is linked.
    ///
    /// # Errors
    /// [`NetFleetError::Deadline`].
    pub async fn wait_connected(&self, limit: Duration) -> Result<(), NetFleetError> {
        let all = self.hosts.len();
        let connected = |answer: &Value| {
            let hosts = answer.get("hosts").unwrap_or(answer).as_array().cloned().unwrap_or_default();
            hosts.iter().filter(|host| host["connected"] == true).count() >= all
        };
        self.wait_for("all hosts connected", limit, &["hosts", "--json"], connected).await.map(|_| ())
    }

    /// The last lines of every log, for an error's reader.
    pub fn log_ends(&self) -> String {
        self.machines().map(Machine::log_ends).collect::<Vec<_>>().join("\n")
    }

    fn controller_addresses(&self) -> Vec<String> {
        self.controllers.iter().map(|machine| format!("{}:{CONTROLLER_PORT}", machine.address())).collect()
    }

    fn spec_file(&self) -> PathBuf {
        self.dir.join("web.yaml")
    }
}

impl Drop for NetFleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_ends());
        }
        self.hub.down();
        sweep::remove(&self.id, &self.dir);
    }
}

fn address(last: u8) -> Ipv4Addr {
    let [first, second, third] = NETWORK;
    Ipv4Addr::new(first, second, third, last)
}

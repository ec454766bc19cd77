//! The world of one run: who is in it, and what each is made of.

use crate::check::Checks;
use crate::clock::{Clock, SimAmbient};
use crate::coverage::rows_of_command;
use crate::disk::SimDisk;
use crate::engine::SimEngine;
use crate::etcd::FakeEtcd;
use crate::net::{CONTROLLER_PORT, ETCD, ETCD_PORT, SimDial, SimListener, etcd_channel};
use crate::people::{Command, Person};
use crate::plan::Plan;
use crate::proxy::SimProxy;
use crate::sabotage::{Sabotage, SabotagedStore};
use crate::timeline::Timeline;
use async_trait::async_trait;
use bgctl_agent::docker::Network;
use bgctl_agent::docker::fake::{Behaviour, Death, FakeEngine};
use bgctl_agent::executor::drain::Traffic;
use bgctl_controller::identity;
use bgctl_controller::replica::Replica;
use bgctl_controller::store::Store;
use bgctl_controller::store::etcd::{Etcd, EtcdConfig};
use bgctl_proto::link::Identity;
use cutover::ids::HostId;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustls::{ClientConfig, ServerConfig};
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

/// What people who run controllers type into their service manager: a program that ends is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// The largest number of agents, for which there are certificates.
pub const HOSTS_MAX: usize = 5;

/// All controllers.
pub const CONTROLLERS: [&str; 3] = ["c1", "c2", "c3"];

/// All operators.
pub const PEOPLE: [&str; 2] = ["ann", "bob"];

/// The versions there are of every service, and what their containers do.
pub fn versions() -> Vec<(&'static str, Behaviour)> {
    let healthy = |millis| Behaviour { healthy_after: Some(Duration::from_millis(millis)), ..Behaviour::default() };
    let dying = |seconds| Some(Death { after: Duration::from_secs(seconds), exit_code: 1, out_of_memory: false });
    vec![
        ("v1", healthy(200)),
        ("v2", healthy(300)),
        ("v3", healthy(500)),
        ("slow", healthy(7_000)),
        ("stubborn", Behaviour { ignores_stop: true, ..healthy(400) }),
        ("sick", Behaviour::default()),
        ("dies", Behaviour { dies: dying(2), ..healthy(10_000) }),
        ("dies-late", Behaviour { dies: dying(13), ..healthy(300) }),
    ]
}

/// How long a service's old colour stays warm, and its requests have.
pub const KEEP_STANDBY: Duration = Duration::from_secs(25);
/// See [`KEEP_STANDBY`].
pub const DRAIN: Duration = Duration::from_secs(2);
/// How long a deployment may prepare.
pub const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);

/// A service's spec. One of them does not insist on all of its hosts.
pub fn spec(service: &str) -> String {
    let missing_hosts = if service == "api" { "missing_hosts: 1\n" } else { "" };
    format!(
        "{missing_hosts}service: {service}\nhosts: {{role: web}}\ncontainers:\n  app:\n    image: \"demo/{service}:${{VERSION}}\"\n    \
         port: 8080\n    healthcheck: {{http: /health, start_period: 10s}}\nroutes:\n  - {{listen: 80, server_name: \
         {service}.test}}\ndrain: {}s\nkeep_standby: {}s\nprepare_timeout: {}s\nwatch: 5s\n",
        DRAIN.as_secs(),
        KEEP_STANDBY.as_secs(),
        PREPARE_TIMEOUT.as_secs(),
    )
}

/// Everybody's certificates: made once for a process.
pub struct Certificates {
    controller: Arc<ServerConfig>,
    hosts: Vec<Arc<ClientConfig>>,
    people: Vec<Arc<ClientConfig>>,
}

/// Where a sweep keeps the certificates for all of its runs.
pub const CERTIFICATES: &str = "BGCTL_SIM_CERTIFICATES";

/// Makes everybody's certificates in a folder.
pub fn make_certificates(folder: &Path) -> anyhow::Result<()> {
    let dir = folder.join("ca");
    identity::init(&dir, "root")?;
    let labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
    for number in 1..=HOSTS_MAX {
        identity::issue_host(&dir, &format!("h{number}").parse()?, &labels, &folder.join(format!("h{number}")))?;
    }
    for name in PEOPLE {
        identity::issue_operator(&dir, name, &folder.join(name))?;
    }
    Ok(())
}

impl Certificates {
    /// Those the environment names, or new ones.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os(CERTIFICATES) {
            return Self::load(Path::new(&folder));
        }
        let folder = tempfile::tempdir()?;
        make_certificates(folder.path())?;
        Self::load(folder.path())
    }

    fn load(folder: &Path) -> anyhow::Result<Self> {
        let load = |folder: &Path, name: &str| {
            let file = |file: &str| folder.join(file);
            Identity::load(&file("ca.crt"), &file(&format!("{name}.crt")), &file(&format!("{name}.key")))
        };
        let controller = load(&folder.join("ca"), "controller")?.server_config()?;
        let hosts = (1..=HOSTS_MAX).map(|number| load(&folder.join(format!("h{number}")), "host")?.client_config());
        let people = PEOPLE.iter().map(|name| load(&folder.join(name), "operator")?.client_config());
        Ok(Self { controller, hosts: hosts.collect::<Result<_, _>>()?, people: people.collect::<Result<_, _>>()? })
    }
}

/// Nobody has a request under way: it is gone at once.
struct NoTraffic;

#[async_trait]
impl Traffic for NoTraffic {
    async fn drained(&self, _: &[SocketAddrV4], _: Duration) {}
}

/// One host's insides.
#[derive(Clone)]
pub struct Host {
    /// Its name.
    pub name: HostId,
    /// Its Docker.
    pub engine: SimEngine,
    /// Its nginx.
    pub proxy: SimProxy,
    /// Its disk.
    pub disk: SimDisk,
    /// Its clock.
    pub ambient: SimAmbient,
}

/// The world.
pub struct Fleet {
    /// Time.
    pub clock: Clock,
    /// What happened.
    pub timeline: Timeline,
    /// What must hold.
    pub checks: Checks,
    /// The store's cluster.
    pub etcd: FakeEtcd,
    /// By name.
    pub hosts: BTreeMap<String, Host>,
    /// The controllers' clocks, by name.
    pub controllers: BTreeMap<String, SimAmbient>,
    /// Rows of the matrix that people's commands hit.
    pub rows_of_commands: Arc<Mutex<Vec<u8>>>,
}

/// What a world is made from.
pub struct Making<'a> {
    /// The seed of everything in it.
    pub seed: u64,
    /// What the seed drew.
    pub plan: &'a Plan,
    /// Everybody's certificates.
    pub certificates: &'a Certificates,
    /// A bug, put in on purpose.
    pub sabotage: Option<Sabotage>,
    /// Where everything is noted.
    pub timeline: &'a Timeline,
    /// Time.
    pub clock: &'a Clock,
}

impl Fleet {
    /// A world in which everybody has started.
    pub fn new(sim: &mut Sim<'_>, making: &Making<'_>) -> Self {
        let Making { seed, plan, certificates, sabotage, timeline, clock } = *making;
        let checks = Checks::new(timeline.clone());
        let etcd = FakeEtcd::new(SmallRng::seed_from_u64(seed ^ 0xe7cd));
        let witness = checks.clone();
        etcd.state().set_witness(Arc::new(move |applied| witness.applied(applied)));
        let mut fleet = Self {
            clock: clock.clone(),
            timeline: timeline.clone(),
            checks,
            etcd,
            hosts: BTreeMap::new(),
            controllers: BTreeMap::new(),
            rows_of_commands: Arc::default(),
        };
        let (checks, rows) = (fleet.checks.clone(), Arc::clone(&fleet.rows_of_commands));
        let heard: Arc<dyn Fn(&Command) + Send + Sync> = Arc::new(move |command| {
            let touched = rows_of_command(command, &checks.seen());
            rows.lock().unwrap_or_else(PoisonError::into_inner).extend(touched);
        });
        let served = fleet.etcd.clone();
        sim.host(ETCD, move || serve_etcd(served.clone()));
        for (number, name) in CONTROLLERS.into_iter().enumerate() {
            let ambient = SimAmbient::new(clock.clone(), seed ^ (0xc0 + number as u64) << 32);
            fleet.controllers.insert(name.to_owned(), ambient.clone());
            let tls = Arc::clone(&certificates.controller);
            sim.host(name, move || run_controller(name, Arc::clone(&tls), ambient.clone(), sabotage));
        }
        for number in 1..=plan.hosts {
            fleet.add_host(sim, number, making);
        }
        for ((name, tls), commands) in PEOPLE.into_iter().zip(&certificates.people).zip(plan.commands.clone()) {
            let person = Person {
                name: name.to_owned(),
                tls: Arc::clone(tls),
                controllers: CONTROLLERS.map(str::to_owned).to_vec(),
                ambient: SimAmbient::new(
                    clock.clone(),
                    seed ^ 0x9e09 ^ (name.len() as u64 + u64::from(name.as_bytes()[0])) << 24,
                ),
                timeline: timeline.clone(),
                keeps_door: name == PEOPLE[0],
                spec: Arc::new(spec),
                heard: Arc::clone(&heard),
            };
            sim.host(name, move || {
                let (person, commands) = (person.clone(), commands.clone());
                async move {
                    person.work(commands).await;
                    Ok(())
                }
            });
        }
        fleet
    }

    fn add_host(&mut self, sim: &mut Sim<'_>, number: usize, making: &Making<'_>) {
        let Making { seed, plan, certificates, sabotage, .. } = *making;
        let name = format!("h{number}");
        let id: HostId = name.parse().expect("a host's name");
        let ambient = SimAmbient::new(self.clock.clone(), seed ^ (0xa0 + number as u64) << 40);
        let (clock, checks, host) = (self.clock.clone(), self.checks.clone(), id.clone());
        let fake = FakeEngine::with_clock(move || clock.now());
        publish(&fake, &plan.services);
        let disk = SimDisk::new(ambient.clone(), Arc::new(move |bytes| checks.synced(&host, bytes)));
        let proxy = SimProxy::default();
        match sabotage {
            Some(Sabotage::VoteBeforeSync) => disk.trouble(|trouble| trouble.lies = true),
            Some(Sabotage::PromiseForgotten) => disk.trouble(|trouble| trouble.forgets_promises = true),
            Some(Sabotage::AcknowledgedUnproven) => proxy.believe(),
            Some(Sabotage::CommitBeforeStored | Sabotage::NoEpochGuard | Sabotage::StraysSpared) | None => {}
        }
        let spares_strays = sabotage == Some(Sabotage::StraysSpared);
        self.checks.seen().proxies.insert(id.clone(), proxy.clone());
        self.checks.seen().engines.insert(id.clone(), fake.clone());
        let engine = SimEngine::new(id.clone(), fake, self.checks.clone(), spares_strays);
        let host = Host { name: id, engine, proxy, disk, ambient };
        self.hosts.insert(name.clone(), host.clone());
        let tls = Arc::clone(&certificates.hosts[number - 1]);
        sim.host(name, move || run_agent(host.clone(), Arc::clone(&tls)));
    }
}

/// Every version of every service, in a host's registry. The same on all hosts, because it is done in the same order.
pub fn publish(engine: &FakeEngine, services: &[String]) {
    for service in services {
        for (version, behaviour) in versions() {
            engine.publish(&format!("demo/{service}:{version}"), behaviour);
        }
    }
}

async fn serve_etcd(etcd: FakeEtcd) -> turmoil::Result {
    let listener = SimListener::bind(ETCD_PORT).await?;
    let incoming = futures_util::stream::unfold(listener, |listener| async {
        let accepted = listener.accept_plain().await;
        Some((accepted, listener))
    });
    etcd.router().serve_with_incoming(incoming).await?;
    Ok(())
}

async fn run_controller(
    name: &'static str,
    tls: Arc<ServerConfig>,
    ambient: SimAmbient,
    sabotage: Option<Sabotage>,
) -> turmoil::Result {
    loop {
        let config = EtcdConfig::new(vec!["http://etcd:2379".to_owned()]);
        let store =
            match Etcd::over(etcd_client::Channel::Tonic(etcd_channel()), &config, Arc::new(ambient.clone())).await {
                Ok(store) => Arc::new(store) as Arc<dyn Store>,
                Err(error) => {
                    tracing::warn!(target: "bgctl_sim", %error, "the controller does not start");
                    tokio::time::sleep(RESTART_AFTER).await;
                    continue;
                }
            };
        let store = match sabotage {
            Some(sabotage) => Arc::new(SabotagedStore::new(store, sabotage)) as Arc<dyn Store>,
            None => store,
        };
        let world = bgctl_controller::World {
            store,
            tls: Arc::clone(&tls),
            replica: Replica { name: name.to_owned(), address: format!("{name}:{CONTROLLER_PORT}") },
            ambient: Arc::new(ambient.clone()),
        };
        let listener = SimListener::bind(CONTROLLER_PORT).await?;
        let ended = bgctl_controller::serve(listener, world, CancellationToken::new()).await;
        tracing::error!(target: "bgctl_sim", ?ended, "the controller ended by itself");
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

async fn run_agent(host: Host, tls: Arc<ClientConfig>) -> turmoil::Result {
    loop {
        let settings = bgctl_agent::Settings {
            host: host.name.clone(),
            controllers: CONTROLLERS.map(|name| format!("{name}:{CONTROLLER_PORT}")).to_vec(),
            journal: "/var/lib/bgctl/journal".into(),
            network: Network { name: "bgctl".to_owned(), subnet: "198.18.224.0/24".parse()? },
            machine: host.name.to_string(),
            socket: None,
            boot: "the-only-one".to_owned(),
        };
        let world = bgctl_agent::World {
            engine: Arc::new(host.engine.clone()),
            proxy: Arc::new(host.proxy.clone()),
            prober: Arc::new(host.engine.clone()),
            disk: Arc::new(host.disk.clone()),
            traffic: Arc::new(NoTraffic),
            ambient: Arc::new(host.ambient.clone()),
            dial: Arc::new(SimDial),
            tls: Arc::clone(&tls),
        };
        let ended = bgctl_agent::run(settings, world, || {}, CancellationToken::new()).await;
        tracing::error!(target: "bgctl_sim", ?ended, "the agent ended by itself");
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

//! A fleet on one machine: a controller, an agent with its own private nginx and Docker network per host, and
//! an etcd when asked for. All of it listens on loopback, and all its files are in one folder.
//!
//! A supervisor process stands in for systemd. It belongs to the [`Fleet`] that started it and takes everything
//! down when that is dropped or its process dies, unless the fleet is told to stay.

mod free;
mod plan;
pub(crate) mod etcd;
mod relay;
mod files;
mod supervisor;
mod bgctl;
mod control;
mod failover;
mod sweep;
mod error;

pub use bgctl::Ran;
pub use error::FleetError;
pub use etcd::Member;
pub use failover::{FAILOVER_BAR, Failover};
pub use plan::{CONTROLLERS_MAX, HOSTS_MAX, Host, Plan, Program, Replica, Store};
pub use relay::{Course, Wire};
pub use supervisor::{RESTART_DELAY, Run, START_LIMIT_BURST, START_LIMIT_INTERVAL, SUPERVISOR, supervise};

use crate::exit::chain;
use crate::images;
use crate::load::{Load, LoadOptions, Method, Target};
use crate::workspace;
use bollard::Docker;
use relay::Relay;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For all hosts to connect: an agent starts its nginx and makes its network first.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// For a supervisor to take its fleet down.
const DOWN_LIMIT: Duration = Duration::from_secs(90);
/// How often a waiting caller looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often the fleet is asked whether its hosts are there: each time a process is started for it.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A program that dies more often while the fleet is waited for will not live.
const DEATHS_MAX: usize = 8;
/// The last lines of each log that an error shows.
const LOG_LINES: usize = 15;

/// What fleet to bring up.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// 1 to [`HOSTS_MAX`].
    pub hosts: usize,
    /// 1, or with etcd, which then has three members, up to [`CONTROLLERS_MAX`].
    pub controllers: usize,
    /// Where the controllers keep their state.
    pub store: Store,
    /// What every member of etcd is started with besides.
    pub etcd_arguments: Vec<String>,
    /// Lead everything to controllers and to etcd through wires that [`Fleet::set_cut`] cuts: for a fleet that goes with
    /// this process.
    pub wires: bool,
    /// Give the controllers and agents clocks that [`Fleet::set_clock`] sets.
    pub clocks: bool,
    /// Its folder. None: a new one among the system's temporary files, and host names that nobody else uses.
    pub dir: Option<PathBuf>,
    /// Host i listens on this port plus i. None: on any free port.
    pub base_port: Option<u16>,
    /// Apply the sample service's spec and deploy this version of it. None: neither.
    pub version: Option<String>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            hosts: 3,
            controllers: 1,
            store: Store::Embedded,
            etcd_arguments: Vec::new(),
            wires: false,
            clocks: false,
            dir: None,
            base_port: None,
            version: Some("v1".to_owned()),
        }
    }
}

/// A fleet that runs.
#[derive(Debug)]
pub struct Fleet {
    plan: Plan,
    relays: Vec<Relay>,
    /// None: the fleet stays when this value goes.
    supervisor: Option<Child>,
}

impl Fleet {
    /// Brings a fleet up; when this returns, all hosts are connected and serve the sample service. It goes
    /// down with the value, or with this process.
    ///
    /// # Errors
    /// What is missing or taken; [`FleetError::Up`] with the ends of the logs when it was started in vain.
    pub async fn up(options: FleetOptions) -> Result<Self, FleetError> {
        let docker = Docker::connect_with_unix_defaults().map_err(FleetError::docker("connect to Docker"))?;
        docker.ping().await.map_err(FleetError::docker("talk to Docker"))?;
        workspace::system_program("nginx", "nginx")?;
        let images_in_use = images::ensure(&docker).await?;
        // Until its networks and ports are really taken, another fleet could find them free.
        let only_one = lock_up().await?;
        let plan = draw_up(&docker, &options).await?;
        let mut fleet = Self { plan, relays: Vec::new(), supervisor: None };
        let outcome = fleet.start(options.version.as_deref()).await;
        drop((only_one, images_in_use));
        match outcome {
            Ok(()) => Ok(fleet),
            Err(cause) => {
                let logs = fleet.log_ends();
                // Said after the cause, which matters more.
                if let Err(error) = fleet.down().await {
                    eprintln!("fleet: {}", chain(&error));
                }
                Err(FleetError::Up { cause: Box::new(cause), logs })
            }
        }
    }

    /// Lets the fleet run on after this process.
    ///
    /// # Errors
    /// When the supervisor cannot be told.
    pub async fn stay(mut self) -> Result<Plan, FleetError> {
        let Some(mut owned) = self.supervisor.take() else { return Ok(self.plan.clone()) };
        let stay = supervisor::stay_file(&self.plan.dir);
        fs::write(&stay, "").map_err(|source| FleetError::File { action: "write", path: stay, source })?;
        drop(owned.stdin.take());
        Ok(self.plan.clone())
    }

    /// Takes it down and waits until nothing of it is left.
    ///
    /// # Errors
    /// What is left.
    pub async fn down(mut self) -> Result<(), FleetError> {
        let plan = self.plan.clone();
        let supervisor = self.supervisor.take();
        let ended = tokio::task::spawn_blocking(move || supervisor.map(end_supervisor));
        if !ended.await.ok().flatten().unwrap_or(true) {
            eprintln!("fleet: the supervisor failed; removing what it left");
        }
        take_down(&plan).await
    }

    /// Takes down the fleet in `dir` that another process brought up, whatever is left of it. False: there is none.
    ///
    /// # Errors
    /// What is left.
    pub async fn down_in(dir: &Path) -> Result<bool, FleetError> {
        let Some(plan) = Plan::load(dir)? else { return Ok(false) };
        if let Some(supervisor) = Run::load(dir, SUPERVISOR).and_then(|run| run.process) {
            supervisor.signal(Signal::TERM);
            if !supervisor.wait_end(DOWN_LIMIT).await {
                supervisor.signal(Signal::KILL);
            }
        }
        take_down(&plan).await?;
        Ok(true)
    }

    /// What it is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its hosts; host 1 is at index 0.
    pub fn hosts(&self) -> &[Host] {
        &self.plan.hosts
    }

    /// Every host as a target for load.
    pub fn targets(&self) -> Vec<Target> {
        let target = |host: &Host| Target { name: host.name.clone(), ..Target::new(host.address()) };
        self.plan.hosts.iter().map(target).collect()
    }

    /// Waits until the controller says that every host is connected.
    ///
    /// # Errors
    /// [`FleetError::Deadline`], with what the controller said last; [`FleetError::Program`] when a program keeps
    /// dying meanwhile.
    pub async fn wait_connected(&self, limit: Duration) -> Result<(), FleetError> {
        let deadline = Instant::now() + limit;
        let before: Vec<_> = self.plan.programs.iter().map(|program| self.starts(&program.name)).collect();
        loop {
            let ran = self.bgctl(&["hosts", "--json"]).await?;
            if ran.code == Some(0) && connected(&ran) >= self.plan.hosts.len() {
                return Ok(());
            }
            if let Some((program, last_end)) = self.dying(&before) {
                let detail = format!("it died {DEATHS_MAX} times; {last_end}");
                return Err(FleetError::Program { what: program, detail });
            }
            if Instant::now() >= deadline {
                let what = format!("all hosts connected (bgctl hosts: {})", ran.short());
                return Err(FleetError::Deadline { what, limit });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The last lines of every log, for an error's reader.
    pub fn log_ends(&self) -> String {
        log_ends(&self.plan)
    }

    async fn start(&mut self, version: Option<&str>) -> Result<(), FleetError> {
        for course in &self.plan.wires {
            self.relays.push(Relay::start(*course).await?);
        }
        files::write_all(&self.plan).await?;
        self.supervisor = Some(start_supervisor(&self.plan)?);
        self.wait_connected(CONNECT_LIMIT).await?;
        let Some(version) = version else { return Ok(()) };
        let spec = self.plan.spec();
        self.bgctl(&["apply", "-f", &spec.to_string_lossy()]).await?.success()?;
        self.bgctl(&["deploy", "web", "--version", version]).await?.success()?;
        let once = LoadOptions { connections: 1, method: Method::Get, ..LoadOptions::default() };
        let load = Load::start(self.targets(), once)?;
        let answers = |report: &crate::load::LoadReport| {
            report.targets.iter().all(|target| target.versions.last().is_some_and(|change| change.to == version))
        };
        load.wait_until("the sample service on every host", Duration::from_secs(10), answers).await?;
        load.stop().await;
        Ok(())
    }

    fn starts(&self, program: &str) -> usize {
        Run::load(&self.plan.dir, program).map_or(0, |run| run.starts)
    }

    /// A program that was started too often since `before`, and how it ended last.
    fn dying(&self, before: &[usize]) -> Option<(String, String)> {
        let mut programs = self.plan.programs.iter().zip(before);
        let (program, _) = programs.find(|(program, before)| self.starts(&program.name) > *before + DEATHS_MAX)?;
        let run = Run::load(&self.plan.dir, &program.name)?;
        Some((program.name.clone(), run.last_end.unwrap_or_default()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let Some(supervisor) = self.supervisor.take() else { return };
        if std::thread::panicking() {
            eprintln!("{}", self.log_ends());
        }
        if !end_supervisor(supervisor) {
            eprintln!("fleet: the supervisor of {} failed; see its log there", self.plan.dir.display());
        }
    }
}

/// The last lines of every log of a fleet.
pub fn log_ends(plan: &Plan) -> String {
    let names = plan.programs.iter().map(|program| program.name.as_str()).chain([SUPERVISOR]);
    let one = |name: &str| {
        let text = fs::read(plan.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("--- {name}\n{}", end.join("\n"))
    };
    names.map(one).collect::<Vec<_>>().join("\n")
}

async fn draw_up(docker: &Docker, options: &FleetOptions) -> Result<Plan, FleetError> {
    let (id, prefix, dir) = match &options.dir {
        Some(dir) => {
            let dir = std::path::absolute(dir).map_err(|source| FleetError::File {
                action: "find",
                path: dir.clone(),
                source,
            })?;
            clear_remains(&dir).await?;
            ("fleet".to_owned(), String::new(), dir)
        }
        None => {
            // Short, because sockets in it have paths of at most 107 bytes.
            let id = format!("t{:05x}", rand::random::<u32>() >> 12);
            let dir = std::env::temp_dir().join(format!("bgctl-{id}"));
            (id.clone(), format!("{id}-"), dir)
        }
    };
    let plan = Plan::draw_up(&id, &prefix, &dir, options).await?;
    let networks = docker.list_networks(None).await.map_err(FleetError::docker("list Docker's networks"))?;
    let names: Vec<_> = networks.into_iter().filter_map(|network| network.name).collect();
    match plan.hosts.iter().find(|host| names.contains(&host.network)) {
        Some(host) => Err(FleetError::NetworkTaken { network: host.network.clone() }),
        None => Ok(plan),
    }
}

/// A fleet that runs is not touched; what one left that died, with the machine for instance, is removed.
async fn clear_remains(dir: &Path) -> Result<(), FleetError> {
    let Some(plan) = Plan::load(dir)? else { return sweep::remove_dir(dir) };
    if Run::load(dir, SUPERVISOR).and_then(|run| run.process).is_some_and(|process| process.is_alive()) {
        return Err(FleetError::AlreadyUp { dir: dir.to_owned() });
    }
    take_down(&plan).await
}

async fn take_down(plan: &Plan) -> Result<(), FleetError> {
    if plan.dir.exists() {
        sweep::sweep(plan).await?;
    }
    sweep::remove_dir(&plan.dir)
}

fn start_supervisor(plan: &Plan) -> Result<Child, FleetError> {
    let path = plan.log(SUPERVISOR);
    let log = File::create(&path).and_then(|log| Ok((log.try_clone()?, log)));
    let (stdout, stderr) = log.map_err(|source| FleetError::File { action: "write", path, source })?;
    let program = workspace::program("fleet")?;
    let mut command = Command::new(&program);
    command.env(bgctl_proto::crashpoint::FOLDER, plan.crash_points());
    command.arg("supervise").arg("--dir").arg(&plan.dir).stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
    command
        .spawn()
        .map_err(|error| FleetError::Program { what: program.display().to_string(), detail: error.to_string() })
}

/// Its input ends, and so does it. False: it failed, or takes too long.
fn end_supervisor(mut supervisor: Child) -> bool {
    drop(supervisor.stdin.take());
    let deadline = Instant::now() + DOWN_LIMIT;
    while Instant::now() < deadline {
        match supervisor.try_wait() {
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Ok(Some(status)) => return status.success(),
            Err(_) => return false,
        }
    }
    supervisor.kill().and_then(|()| supervisor.wait()).is_ok_and(|status| status.success())
}

fn connected(ran: &Ran) -> usize {
    let Some(answer) = ran.json() else { return 0 };
    let hosts = answer.get("hosts").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
    hosts.iter().filter(|host| host["connected"] == true).count()
}

/// Fleets come up one after the other.
async fn lock_up() -> Result<File, FleetError> {
    let path = workspace::locks().join("fleet-up.lock");
    let locked = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            fs::create_dir_all(workspace::locks())?;
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            io::Result::Ok(file)
        }
    });
    let locked = locked.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    locked.map_err(|source| FleetError::File { action: "lock", path, source })
}

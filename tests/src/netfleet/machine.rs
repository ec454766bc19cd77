//! One machine: namespaces of its own, an address, a disk, and programs that are kept running as systemd would.

use super::NetFleetError;
use super::hub::{self, Hub};
use super::init::{self, Plan};
use super::points::Points;
use crate::process::Process;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For the end of a machine whose first process was killed: the kernel has some dozens to end.
const OFF_LIMIT: Duration = Duration::from_secs(30);
/// The last lines of each log that an error shows.
const LOG_LINES: usize = 12;
/// What the first process of a machine is called: the program it is a verb of.
const FIRST: &str = "fleet";

/// A program of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name on the machine.
    pub name: String,
    /// What to run.
    pub path: PathBuf,
    /// With which arguments.
    pub arguments: Vec<String>,
    /// It is not started before this path is there, as with `After=` of a unit.
    pub after: Option<PathBuf>,
}

/// How a program is, as the machine's first process wrote it down last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its process id within the machine. None: it does not run.
    pub pid: Option<i32>,
    /// How often it was started since the machine was switched on.
    pub starts: usize,
    /// How it ended last.
    pub last_end: Option<String>,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: Ipv4Addr,
    dir: PathBuf,
    control_group: String,
    points: Points,
    programs: Vec<Program>,
    power: Option<Power>,
}

/// How often a machine is started before it is given up.
const BOOTS_MAX: u32 = 3;

#[derive(Debug)]
struct Power {
    nsenter: Child,
    first: Process,
}

impl Machine {
    pub(super) fn new(fleet: &str, fleet_dir: &Path, name: &str, address: Ipv4Addr) -> Self {
        let dir = fleet_dir.join("machines").join(name);
        Self {
            name: name.to_owned(),
            address,
            points: Points::new(dir.join("points")),
            control_group: format!("{fleet}-{name}"),
            dir,
            programs: Vec::new(),
            power: None,
        }
    }

    /// What it is called: `h1`, `c2`, `e3`, `reg`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the bridge.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its disk: everything it keeps over a loss of power, and its logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The crash points of its programs.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// What its containers' control groups are below.
    pub(super) fn control_group(&self) -> &str {
        &self.control_group
    }

    pub(super) fn set_programs(&mut self, programs: Vec<Program>) {
        self.programs = programs;
    }

    /// Where a file of the running machine is for this process: its /run is not ours.
    ///
    /// # Errors
    /// When it is off.
    pub fn path(&self, within: &str) -> Result<PathBuf, NetFleetError> {
        Ok(PathBuf::from(format!("/proc/{}/root{within}", self.first()?.pid)))
    }

    /// A command that runs in all its namespaces.
    ///
    /// # Errors
    /// When it is off.
    pub fn command(&self, program: &str) -> Result<Command, NetFleetError> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first()?.pid.to_string(), "--net", "--mount", "--pid", "--"]).arg(program);
        Ok(command)
    }

    /// Its processes of this name, containers' left out: `dockerd`, `nginx`, `bgctl-agent`, `containerd-shim` …
    /// At most 15 bytes of a name count.
    pub fn processes(&self, name: &str) -> Vec<Process> {
        let Ok(first) = self.first() else { return Vec::new() };
        let own = namespace(first.pid);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let all = pids.filter_map(Process::of);
        let wanted: String = name.chars().take(15).collect();
        all.filter(|process| process.name() == wanted && namespace(process.pid) == own && process.is_alive()).collect()
    }

    /// What a program's machine last wrote about it. None: it never started.
    pub fn started(&self, program: &str) -> Option<Started> {
        serde_json::from_slice(&fs::read(init::started_file(&self.dir, program)).ok()?).ok()
    }

    /// The present process of one of its programs. None: it does not run.
    pub fn process(&self, program: &str) -> Option<Process> {
        let pid = self.started(program)?.pid?;
        let path = &self.programs.iter().find(|known| known.name == program)?.path;
        let name = path.file_name()?.to_str()?;
        self.processes(name).into_iter().find(|process| pid_within(process.pid) == Some(pid))
    }

    /// Kills a program as kill -9 does; it is started again. The process it was.
    ///
    /// # Errors
    /// [`NetFleetError::Deadline`]: it was not running, and did not within `limit`.
    pub async fn kill(&self, program: &str, limit: Duration) -> Result<Process, NetFleetError> {
        let what = format!("{program} on {}, to be killed,", self.name);
        let process = wait_for(&what, limit, || self.process(program)).await?;
        process.signal(Signal::KILL);
        Ok(process)
    }

    /// Waits until a program runs as another process than `before`.
    ///
    /// # Errors
    /// [`NetFleetError::Deadline`].
    pub async fn wait_restarted(
        &self,
        program: &str,
        before: Process,
        limit: Duration,
    ) -> Result<Process, NetFleetError> {
        let what = format!("the restart of {program} on {}", self.name);
        wait_for(&what, limit, || self.process(program).filter(|process| *process != before)).await
    }

    /// Keeps a program from being started, from its next end on.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn hold(&self, program: &str) -> Result<(), NetFleetError> {
        let path = init::hold_file(&self.dir, program);
        fs::write(&path, "").map_err(NetFleetError::file("write", &path))
    }

    /// The reverse.
    pub fn release(&self, program: &str) {
        // Not held: nothing to do.
        drop(fs::remove_file(init::hold_file(&self.dir, program)));
    }

    /// The log of one of its programs, over all its lives.
    pub fn log(&self, program: &str) -> PathBuf {
        init::log_file(&self.dir, program)
    }

    /// The last lines of its logs.
    pub fn log_ends(&self) -> String {
        let names = self.programs.iter().map(|program| program.name.as_str()).chain(["init"]);
        let one = |name: &str| {
            let text = fs::read(self.log(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            format!("--- {} {name}\n{}", self.name, lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))
        };
        names.map(one).collect::<Vec<_>>().join("\n")
    }

    /// Boots it. Returns when it is on the network; its programs are then being started.
    pub(super) async fn power_on(&mut self, hub: &Hub) -> Result<(), NetFleetError> {
        if self.power.is_some() {
            return Ok(());
        }
        Plan { address: self.address, points: self.points.dir().to_owned(), programs: self.programs.clone() }
            .save(&self.dir)?;
        let mut boots_left = BOOTS_MAX;
        loop {
            let power = self.boot(hub).await?;
            let plugged = hub.plug_in(&self.name, power.first);
            self.power = Some(power);
            boots_left -= 1;
            match plugged {
                // Seen once in some thousands of boots: the kernel did not know the process that was just there.
                Err(error) if boots_left > 0 => {
                    eprintln!("netfleet: {} is booted again: {error}", self.name);
                    self.power_off().await?;
                }
                plugged => return plugged,
            }
        }
    }

    async fn boot(&self, hub: &Hub) -> Result<Power, NetFleetError> {
        let log = self.log("init");
        let output =
            File::options().create(true).append(true).open(&log).map_err(NetFleetError::file("write", &log))?;
        let stdout = output.try_clone().map_err(NetFleetError::file("write", &log))?;
        let mut command = Command::new("nsenter");
        command.arg(hub.processes()).arg("--").arg("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        command.arg(crate::workspace::program(FIRST)?).arg("machine").arg("--dir").arg(&self.dir);
        command.stdin(Stdio::null()).stdout(stdout).stderr(output);
        let nsenter = command.spawn().map_err(|source| NetFleetError::Start { what: "nsenter".to_owned(), source })?;
        let (first, nsenter) = hub::first_process(nsenter, FIRST, &log).await?;
        Ok(Power { nsenter, first })
    }

    /// Takes its power: the kernel ends all its processes at once, containers and all.
    pub(super) async fn power_off(&mut self) -> Result<(), NetFleetError> {
        let Some(mut power) = self.power.take() else { return Ok(()) };
        power.first.signal(Signal::KILL);
        let what = format!("the end of all processes of {}", self.name);
        let over = || matches!(power.nsenter.try_wait(), Ok(Some(_)) | Err(_)).then_some(());
        wait_for(&what, OFF_LIMIT, over).await
    }

    fn first(&self) -> Result<Process, NetFleetError> {
        let off = || NetFleetError::Off { machine: self.name.clone() };
        self.power.as_ref().map(|power| power.first).ok_or_else(off)
    }
}

async fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T, NetFleetError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(NetFleetError::Deadline { what: what.to_owned(), limit });
        }
        tokio::time::sleep(super::LOOK_EVERY).await;
    }
}

/// Which process namespace a process is in. None: it has ended.
fn namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// What a process is called in its own namespace.
fn pid_within(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

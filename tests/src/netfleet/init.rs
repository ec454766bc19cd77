//! The first process of a machine. It gives the machine its address and an empty /run, keeps its programs running, and
//! takes in the processes whose parents are gone. It runs in one thread and waits for nobody: whatever ends is told
//! by the kernel, and what is its own is started again.

use super::NetFleetError;
use super::hub::run as run_command;
use super::machine::{Program, Started};
use bgctl_proto::crashpoint;
use rustix::process::{WaitOptions, WaitStatus, wait};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between an end and the next start, as a unit with RestartSec=150ms.
const RESTART_DELAY: Duration = Duration::from_millis(150);
/// How often it looks whether something ended or may be started.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// For the machine to be put on the network.
const NETWORK_LIMIT: Duration = Duration::from_secs(20);

/// What a machine is to be: written before it is switched on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) address: Ipv4Addr,
    pub(super) points: PathBuf,
    pub(super) programs: Vec<Program>,
}

impl Plan {
    pub(super) fn save(&self, dir: &Path) -> Result<(), NetFleetError> {
        for folder in [dir.join("run"), dir.join("logs"), self.points.clone()] {
            fs::create_dir_all(&folder).map_err(NetFleetError::file("make", &folder))?;
        }
        // What a life before wrote down is no longer so.
        for program in &self.programs {
            drop(fs::remove_file(started_file(dir, &program.name)));
        }
        let path = dir.join("machine.json");
        fs::write(&path, serde_json::json!(self).to_string()).map_err(NetFleetError::file("write", &path))
    }

    fn load(dir: &Path) -> Result<Self, NetFleetError> {
        let path = dir.join("machine.json");
        let text = fs::read(&path).map_err(NetFleetError::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| NetFleetError::Command {
            what: format!("reading {}", path.display()),
            detail: error.to_string(),
        })
    }
}

/// While this file is there, the program is not started.
pub(super) fn hold_file(dir: &Path, program: &str) -> PathBuf {
    dir.join("run").join(format!("{program}.hold"))
}

pub(super) fn started_file(dir: &Path, program: &str) -> PathBuf {
    dir.join("run").join(format!("{program}.json"))
}

pub(super) fn log_file(dir: &Path, program: &str) -> PathBuf {
    dir.join("logs").join(format!("{program}.log"))
}

struct Running {
    program: Program,
    started: Started,
    not_before: Instant,
}

/// Is a machine's first process until it is killed.
///
/// # Errors
/// What cannot be set up.
pub fn run(dir: &Path) -> Result<(), NetFleetError> {
    let plan = Plan::load(dir)?;
    let command = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        run_command(command, &format!("{program} {}", arguments.join(" ")))
    };
    command("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
    command("ip", &["link", "set", "lo", "up"])?;
    let deadline = Instant::now() + NETWORK_LIMIT;
    while !fs::read_to_string("/proc/self/net/dev").unwrap_or_default().contains("eth0:") {
        if Instant::now() >= deadline {
            return Err(NetFleetError::Deadline { what: "eth0".to_owned(), limit: NETWORK_LIMIT });
        }
        sleep(LOOK_EVERY);
    }
    command("ip", &["addr", "add", &format!("{}/24", plan.address), "dev", "eth0"])?;
    command("ip", &["link", "set", "eth0", "up"])?;
    let new = |program: Program| Running {
        program,
        started: Started { pid: None, starts: 0, last_end: None },
        not_before: Instant::now(),
    };
    let mut all: Vec<_> = plan.programs.into_iter().map(new).collect();
    loop {
        take_in(dir, &mut all);
        for running in &mut all {
            start_if_due(dir, &plan.points, running);
        }
        sleep(LOOK_EVERY);
    }
}

/// Everybody's end, also of those that are nobody's.
fn take_in(dir: &Path, all: &mut [Running]) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let own = |running: &&mut Running| running.started.pid == Some(pid.as_raw_nonzero().get());
        let Some(running) = all.iter_mut().find(own) else { continue };
        running.started.pid = None;
        running.started.last_end = Some(words(status));
        running.not_before = Instant::now() + RESTART_DELAY;
        save(dir, running);
    }
}

fn start_if_due(dir: &Path, points: &Path, running: &mut Running) {
    let program = &running.program;
    let is_due = running.started.pid.is_none()
        && Instant::now() >= running.not_before
        && program.after.as_ref().is_none_or(|path| path.exists())
        && !hold_file(dir, &program.name).exists();
    if !is_due {
        return;
    }
    running.started.starts += 1;
    match start(dir, points, program) {
        Ok(pid) => running.started.pid = Some(pid),
        Err(error) => {
            running.started.last_end = Some(error.to_string());
            running.not_before = Instant::now() + RESTART_DELAY;
        }
    }
    save(dir, running);
}

fn start(dir: &Path, points: &Path, program: &Program) -> std::io::Result<i32> {
    let log = File::options().create(true).append(true).open(log_file(dir, &program.name))?;
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).current_dir(dir).env(crashpoint::FOLDER, points);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Waited for with everybody else.
    Ok(command.spawn()?.id() as i32)
}

/// Replaced as a whole: readers see the old one or the new one.
fn save(dir: &Path, running: &Running) {
    let path = started_file(dir, &running.program.name);
    let new = path.with_extension("new");
    let text = serde_json::json!(running.started).to_string();
    if let Err(error) = fs::write(&new, text).and_then(|()| fs::rename(&new, &path)) {
        eprintln!("init: cannot write {}: {error}", path.display());
    }
}

fn words(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no end".to_owned(),
    }
}

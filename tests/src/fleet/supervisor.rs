//! Stands in for systemd: keeps the fleet's programs running, and tears the fleet down when asked to or
//! when its owner is gone.

use super::plan::{Plan, Program};
use super::{FleetError, sweep};
use crate::exit::chain;
use crate::images;
use crate::process::Process;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Between an end and the next start: as a unit with RestartSec=150ms.
pub const RESTART_DELAY: Duration = Duration::from_millis(150);
/// More starts than this within [`START_LIMIT_INTERVAL`], and a program is given up. Looser than systemd's
/// five, because tests kill programs over and over.
pub const START_LIMIT_BURST: usize = 30;
/// See [`START_LIMIT_BURST`].
pub const START_LIMIT_INTERVAL: Duration = Duration::from_secs(10);
/// How long a program may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How often a program that is held back is looked at.
const HELD_LOOK_EVERY: Duration = Duration::from_millis(20);
/// The supervisor's own name among the programs.
pub const SUPERVISOR: &str = "supervisor";

/// How one program is, as others read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its present or last process. None: it never started.
    pub process: Option<Process>,
    /// How often it was started.
    pub starts: usize,
    /// How it ended last.
    pub last_end: Option<String>,
    /// It will not be started again.
    pub given_up: bool,
}

impl Run {
    /// What the supervisor last wrote about a program. None: nothing.
    pub fn load(dir: &Path, program: &str) -> Option<Self> {
        serde_json::from_slice(&fs::read(run_file(dir, program)).ok()?).ok()
    }

    /// Replaced as a whole: readers see the old one or the new one.
    fn save(&self, dir: &Path, program: &str) -> Result<(), FleetError> {
        let path = run_file(dir, program);
        let new = path.with_extension("new");
        let text = serde_json::json!(self).to_string();
        fs::write(&new, text).map_err(|source| FleetError::File { action: "write", path: new.clone(), source })?;
        fs::rename(&new, &path).map_err(|source| FleetError::File { action: "replace", path, source })
    }
}

/// While this file is there, the program is not started.
pub fn hold_file(dir: &Path, program: &str) -> PathBuf {
    dir.join("run").join(format!("{program}.hold"))
}

/// While this file is there, the fleet does not need an owner.
pub fn stay_file(dir: &Path) -> PathBuf {
    dir.join("run/stay")
}

/// Keeps the fleet in `dir` running until SIGTERM or SIGINT, or until stdin, a pipe, ends: that it does when the
/// owner ends, however that happens; [`stay_file`] says that it does not matter. Then removes all that the fleet
/// made, its folder at last.
///
/// # Errors
/// What could not be read, watched or removed.
pub async fn supervise(dir: &Path) -> Result<(), FleetError> {
    // A signal to the owner's group, such as Ctrl-C, is the owner's to deal with. Fails if it leads a group, when
    // typed into a shell: then that shell's Ctrl-C is meant.
    let _ = rustix::process::setsid();
    let plan = Plan::load(dir)?.ok_or_else(|| FleetError::NoFleet { dir: dir.to_owned() })?;
    let images_in_use = images::hold()?;
    let own = Run { process: Process::own(), starts: 1, last_end: None, given_up: false };
    own.save(dir, SUPERVISOR)?;
    let stop = CancellationToken::new();
    let mut programs = JoinSet::new();
    for program in plan.programs.clone() {
        programs.spawn(keep_running(plan.clone(), program, stop.clone()));
    }
    asked_to_end(dir).await?;
    eprintln!("supervisor: taking the fleet down");
    stop.cancel();
    while let Some(ended) = programs.join_next().await {
        if let Ok(Err(error)) = ended {
            eprintln!("supervisor: {}", chain(&error));
        }
    }
    sweep::sweep(&plan).await?;
    drop(images_in_use);
    sweep::remove_dir(dir)
}

async fn asked_to_end(dir: &Path) -> Result<(), FleetError> {
    let listen = |kind| signal(kind).map_err(|source| FleetError::Signals { source });
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd);
    let mut stdin = stdin.map_err(|source| FleetError::Signals { source })?;
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let owner_gone = async {
        // The owner writes nothing: the only news is its end.
        while stdin.read(&mut [0; 1]).await.is_ok_and(|count| count > 0) {}
        if stay_file(dir).exists() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = owner_gone => {}
    }
    Ok(())
}

async fn keep_running(plan: Plan, program: Program, stop: CancellationToken) -> Result<(), FleetError> {
    let mut run = Run { process: None, starts: 0, last_end: None, given_up: false };
    let mut recent = VecDeque::with_capacity(START_LIMIT_BURST + 1);
    while !stop.is_cancelled() {
        if hold_file(&plan.dir, &program.name).exists() {
            pause(HELD_LOOK_EVERY, &stop).await;
            continue;
        }
        recent.push_back(Instant::now());
        recent.retain(|start: &Instant| start.elapsed() < START_LIMIT_INTERVAL);
        if recent.len() > START_LIMIT_BURST {
            run.given_up = true;
            run.save(&plan.dir, &program.name)?;
            eprintln!("supervisor: {} started too often and is given up", program.name);
            return Ok(());
        }
        run.starts += 1;
        match start(&plan, &program) {
            Ok(mut child) => {
                run.process = child.id().and_then(|pid| Process::of(pid as i32));
                run.save(&plan.dir, &program.name)?;
                run.last_end = Some(until_end(&mut child, run.process, &stop).await);
            }
            Err(error) => run.last_end = Some(chain(&error)),
        }
        run.save(&plan.dir, &program.name)?;
        if !stop.is_cancelled() {
            eprintln!("supervisor: {} ended: {}", program.name, run.last_end.as_deref().unwrap_or_default());
            pause(RESTART_DELAY, &stop).await;
        }
    }
    Ok(())
}

/// Waits until it ends, or ends it. How it ended, in words.
async fn until_end(child: &mut Child, process: Option<Process>, stop: &CancellationToken) -> String {
    tokio::select! {
        () = stop.cancelled() => {}
        ended = child.wait() => return ended.map_or_else(|error| error.to_string(), |status| status.to_string()),
    }
    if let Some(process) = process {
        process.signal(rustix::process::Signal::TERM);
        process.signal(rustix::process::Signal::CONT);
    }
    match tokio::time::timeout(STOP_GRACE, child.wait()).await {
        Ok(ended) => ended.map_or_else(|error| error.to_string(), |status| status.to_string()),
        Err(_) => match child.kill().await {
            Ok(()) => format!("killed: it did not end within {STOP_GRACE:?} of SIGTERM"),
            Err(error) => error.to_string(),
        },
    }
}

fn start(plan: &Plan, program: &Program) -> Result<Child, FleetError> {
    let path = plan.log(&program.name);
    let open = File::options().create(true).append(true).open(&path);
    let log = open.and_then(|log| Ok((log.try_clone()?, log)));
    let (stdout, stderr) = log.map_err(|source| FleetError::File { action: "write", path, source })?;
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(&plan.dir);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).kill_on_drop(true);
    command
        .spawn()
        .map_err(|error| FleetError::Program { what: program.path.display().to_string(), detail: error.to_string() })
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

fn run_file(dir: &Path, program: &str) -> PathBuf {
    dir.join("run").join(format!("{program}.json"))
}

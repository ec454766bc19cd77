//! What tests do to a fleet's programs.

use super::files;
use super::supervisor::hold_file;
use super::{Fleet, FleetError, LOOK_EVERY, Run, Wire};
use crate::process::Process;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// For a program that was killed or is about to be: it starts within a fraction of this.
const KILL_LIMIT: Duration = Duration::from_secs(10);

impl Fleet {
    /// A program's present process. None: it does not run.
    pub fn process(&self, program: &str) -> Option<Process> {
        Run::load(&self.plan.dir, program)?.process.filter(Process::is_alive)
    }

    /// Kills a program as kill -9 does; it is started again after [`RESTART_DELAY`]. The process it was.
    ///
    /// # Errors
    /// [`FleetError::Deadline`]: it was not running, and did not within 10 s.
    pub async fn kill(&self, program: &str) -> Result<Process, FleetError> {
        let what = || format!("{program} running, to be killed,");
        let process = wait_for(what, KILL_LIMIT, || self.process(program)).await?;
        process.signal(Signal::KILL);
        Ok(process)
    }

    /// Kills the controller as kill -9 does.
    ///
    /// # Errors
    /// As [`Fleet::kill`].
    pub async fn kill_controller(&self) -> Result<Process, FleetError> {
        self.kill("controller").await
    }

    /// Kills the agent of host number `number`, from 1 on, as kill -9 does.
    ///
    /// # Errors
    /// As [`Fleet::kill`].
    pub async fn kill_agent(&self, number: usize) -> Result<Process, FleetError> {
        self.kill(&self.plan.hosts[number - 1].agent()).await
    }

    /// Waits until a program runs as another process than `before`.
    ///
    /// # Errors
    /// [`FleetError::Deadline`].
    pub async fn wait_restarted(&self, program: &str, before: Process, limit: Duration) -> Result<Process, FleetError> {
        let other = || self.process(program).filter(|process| *process != before);
        wait_for(|| format!("the restart of {program}"), limit, other).await
    }

    /// Kills a program and keeps it down until [`Fleet::release`].
    ///
    /// # Errors
    /// As [`Fleet::kill`], or when the file that says so cannot be written.
    pub async fn hold(&self, program: &str) -> Result<(), FleetError> {
        let path = hold_file(&self.plan.dir, program);
        fs::write(&path, "").map_err(|source| FleetError::File { action: "write", path, source })?;
        let killed = self.kill(program).await?;
        let ended = || (!killed.is_alive()).then_some(());
        wait_for(|| format!("the end of {program}"), KILL_LIMIT, ended).await
    }

    /// From now on nothing comes through these wires, and nobody is told; or it does again.
    ///
    /// # Panics
    /// When the fleet was not brought up with wires.
    pub fn set_cut(&self, wires: impl Fn(Wire) -> bool, is_cut: bool) {
        assert!(!self.relays.is_empty(), "this fleet has no wires");
        for relay in self.relays.iter().filter(|relay| wires(relay.wire)) {
            relay.set_cut(is_cut);
        }
    }

    /// Sets the clock of a controller or an agent so many hours off, of a fleet with clocks. It may take a second.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn set_clock(&self, program: &str, hours: i32) -> Result<(), FleetError> {
        let path = self.plan.clock(program);
        let fault = |path: &Path, source| FleetError::File { action: "write", path: path.to_owned(), source };
        let new = path.with_extension("new");
        fs::write(&new, format!("{hours:+}h\n")).map_err(|source| fault(&new, source))?;
        fs::rename(&new, &path).map_err(|source| fault(&path, source))
    }

    /// Arms a crash point: the next program of the fleet that comes to it obeys `order`, `stop` or `abort`.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn arm(&self, point: &str, order: &str) -> Result<(), FleetError> {
        drop(fs::remove_file(self.crash_point(point, "reached")));
        let path = self.crash_point(point, "armed");
        fs::write(&path, order).map_err(|source| FleetError::File { action: "write", path, source })
    }

    /// Waits until a program has come to an armed crash point.
    ///
    /// # Errors
    /// [`FleetError::Deadline`].
    pub async fn wait_reached(&self, point: &str, limit: Duration) -> Result<(), FleetError> {
        let reached = self.crash_point(point, "reached");
        wait_for(|| format!("a program at {point}"), limit, || reached.exists().then_some(())).await
    }

    fn crash_point(&self, point: &str, state: &str) -> std::path::PathBuf {
        self.plan.crash_points().join(format!("{point}.{state}"))
    }

    /// Gives host number `number`, from 1 on, a certificate with this label. Its agent reads it when it starts.
    ///
    /// # Errors
    /// When it cannot be issued.
    pub async fn relabel(&self, number: usize, label: &str) -> Result<(), FleetError> {
        files::issue(&self.plan, &self.plan.hosts[number - 1], label).await
    }

    /// Lets a program start again.
    ///
    /// # Errors
    /// When the file that holds it cannot be removed.
    pub fn release(&self, program: &str) -> Result<(), FleetError> {
        let path = hold_file(&self.plan.dir, program);
        fs::remove_file(&path).map_err(|source| FleetError::File { action: "remove", path, source })
    }
}

async fn wait_for<T>(
    what: impl Fn() -> String,
    limit: Duration,
    look: impl Fn() -> Option<T>,
) -> Result<T, FleetError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(FleetError::Deadline { what: what(), limit });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

//! A dockerd that is killed in the middle of starting a container. Between the end of `runc create` and Docker having
//! written down that the container runs there is a tenth of a second at most. If dockerd dies in it, the next one says
//! that the container was never started, and its process goes on, at its address.

use super::containers::{Contained, contained};
use super::{Machine, NetFleetError, engine};
use crate::images::has_status;
use crate::process::Process;
use rustix::process::Signal;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How often the kernel is asked: the shorter of the two moments is some five times as long.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// For what was made to become the program: a tenth of a second, on a machine with nothing else to do.
const BECOME_LIMIT: Duration = Duration::from_secs(10);
/// What a process is called until it is the container's program.
const BEFORE_THE_PROGRAM: &str = "runc";
/// Whose child it is from the end of `runc create` on, which was its parent.
const KEEPER: &str = "containerd-shim";

/// How far the start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The container's process has just been made and has no network yet: it ends for want of it, and what is left in
    /// containerd keeps the container from being started for good.
    Begun,
    /// The container's process is there, has its network, and waits for the word to become the program: whoever calls
    /// at its address is refused.
    Made,
    /// It is the program, and answers at its address. Docker may be told of it a second or two later, by who keeps the
    /// process and tells again what was not heard.
    Running,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MidStart {
    /// The container that was being started.
    pub container: String,
    /// The next dockerd said that it does not run, and its process lived, or at least who keeps it.
    pub is_lost: bool,
}

impl Machine {
    /// Kills dockerd at this moment of the first start of a container from this call on. The moment may be missed by some
    /// milliseconds: who wants Docker to have lost track looks at the answer, and tries again. The answer comes as soon
    /// as the next dockerd answers.
    ///
    /// # Errors
    /// [`NetFleetError::Deadline`]: dockerd does not run, nothing was started within `limit`, or no dockerd came back.
    pub fn kill_dockerd_mid_start(
        &self,
        moment: Moment,
        limit: Duration,
    ) -> Result<impl Future<Output = Result<MidStart, NetFleetError>> + use<'_>, NetFleetError> {
        let late = move |what: &str| NetFleetError::Deadline { what: format!("{what} on {}", self.name()), limit };
        let dockerd = self.process("dockerd").ok_or_else(|| late("a dockerd"))?;
        let (group, known) = (self.control_group().to_owned(), self.contained());
        // In a thread of its own: a tired runtime would come too late.
        let struck = tokio::task::spawn_blocking(move || strike(dockerd, moment, &group, &known, limit));
        Ok(async move {
            let Ok(Some(struck)) = struck.await else { return Err(late("the start of a container")) };
            self.wait_restarted("dockerd", dockerd, limit).await?;
            let deadline = Instant::now() + limit;
            loop {
                // Before Docker is asked: afterwards somebody may have ended it because of the same answer.
                let lives = match moment {
                    Moment::Begun => self.has_keeper(&struck.container),
                    Moment::Made | Moment::Running => struck.process.is_alive(),
                };
                if let Some(runs) = self.is_said_to_run(&struck.container).await {
                    return Ok(MidStart { container: struck.container, is_lost: lives && !runs });
                }
                if Instant::now() >= deadline {
                    return Err(late("an answer of the next dockerd"));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
    }

    fn has_keeper(&self, container: &str) -> bool {
        self.processes(KEEPER).iter().any(|keeper| {
            let words = fs::read(format!("/proc/{}/cmdline", keeper.pid)).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|word| word == container.as_bytes())
        })
    }

    /// None: Docker does not answer.
    async fn is_said_to_run(&self, container: &str) -> Option<bool> {
        match engine::client(self).ok()?.inspect_container(container, None).await {
            Ok(facts) => Some(facts.state.and_then(|state| state.running) == Some(true)),
            Err(error) if has_status(&error, 404) => Some(false),
            Err(_) => None,
        }
    }
}

/// None: nothing was started within `limit`, or dockerd had ended by itself.
fn strike(dockerd: Process, moment: Moment, group: &str, known: &[Contained], limit: Duration) -> Option<Contained> {
    let deadline = Instant::now() + limit;
    let is_new = |one: &Contained| !known.contains(one);
    let is_made = |one: &Contained| one.process.parent().is_some_and(|parent| parent.name().starts_with(KEEPER));
    // It ends with its machine too, when nobody waits for this any more.
    while dockerd.is_alive() && Instant::now() < deadline {
        let has_come = |one: &Contained| match moment {
            Moment::Begun => true,
            Moment::Made => is_made(one),
            Moment::Running => is_made(one) && becomes_the_program(one.process),
        };
        if let Some(found) = contained(group).into_iter().filter(is_new).find(has_come) {
            return dockerd.signal(Signal::KILL).then_some(found);
        }
        thread::sleep(LOOK_EVERY);
    }
    None
}

/// Returns when it has. False: it has ended.
fn becomes_the_program(process: Process) -> bool {
    let deadline = Instant::now() + BECOME_LIMIT;
    while process.is_alive() && Instant::now() < deadline {
        if !process.name().starts_with(BEFORE_THE_PROGRAM) {
            return true;
        }
        thread::sleep(LOOK_EVERY);
    }
    false
}

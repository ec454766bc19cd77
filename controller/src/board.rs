//! The deployments that run now: where their news go, and what is told of them.

use crate::report::{HostReport, Phase, Report};
use bgctl_proto::session as wire;
use cutover::ids::{DeploymentId, HostId, Incarnation, ServiceName};
use cutover::message::{Slot, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Everything that can wake a deployment. `host` is who says it, by its certificate; `at` is when it arrived.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the message's own, documented in session.proto")]
pub enum Notice {
    /// A host's stream is up.
    Connected { host: HostId, incarnation: Incarnation },
    /// A host's stream is down.
    Disconnected { host: HostId },
    /// A host voted.
    Vote { host: HostId, incarnation: Incarnation, verdict: Verdict, log_tail: Vec<String>, at: Instant },
    /// A host lost what it had promised.
    Lost { host: HostId, incarnation: Incarnation, reason: String },
    /// What a host serves.
    Applied { host: HostId, slots: BTreeMap<ServiceName, Slot>, times: Option<wire::SwitchTimes>, at: Instant },
    /// How far a host is.
    Progress { host: HostId, progress: wire::Progress },
    /// How a host is.
    Health { host: HostId, health: wire::Health },
    /// Someone wants it ended.
    Abort { actor: String },
    /// Another deployment of the service was committed: this one has nothing left to watch.
    Overtaken { by: String, is_rollback: bool },
}

/// The running deployments.
#[derive(Default)]
pub struct Board {
    running: Mutex<BTreeMap<DeploymentId, Running>>,
}

#[derive(Clone)]
struct Running {
    notices: mpsc::UnboundedSender<Notice>,
    story: Arc<Story>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeploymentId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A deployment begins to run.
    pub fn add(&self, id: DeploymentId, story: Arc<Story>) -> mpsc::UnboundedReceiver<Notice> {
        let (notices, receiver) = mpsc::unbounded_channel();
        self.lock().insert(id, Running { notices, story });
        receiver
    }

    /// It has ended.
    pub fn remove(&self, id: &DeploymentId) {
        self.lock().remove(id);
    }

    /// To one.
    pub fn tell(&self, id: &DeploymentId, notice: Notice) {
        if let Some(running) = self.lock().get(id) {
            drop(running.notices.send(notice));
        }
    }

    /// To all.
    pub fn tell_all(&self, notice: &Notice) {
        for running in self.lock().values() {
            drop(running.notices.send(notice.clone()));
        }
    }

    /// To all of a service but one.
    pub fn tell_others(&self, service: &str, id: &str, notice: &Notice) {
        for (other, running) in &*self.lock() {
            if other.as_str() != id && running.story.report().service == service {
                drop(running.notices.send(notice.clone()));
            }
        }
    }

    /// What is told of one.
    pub fn story(&self, id: &DeploymentId) -> Option<Arc<Story>> {
        self.lock().get(id).map(|running| Arc::clone(&running.story))
    }
}

/// What is told of one deployment while it runs. Readers see the newest of it, not every step.
pub struct Story {
    arrived: Instant,
    report: Mutex<Known>,
    beat: watch::Sender<Beat>,
}

struct Known {
    report: Report,
    /// When each host's part last changed, in beats.
    changed: BTreeMap<String, u64>,
}

/// Raised with every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// One more each time.
    pub number: u64,
    /// The deployment's phase: a change of it is told at once.
    pub phase: Phase,
}

impl Story {
    /// A story that begins, of a request that arrived then.
    pub fn new(report: Report, arrived: Instant) -> Self {
        let beat = watch::Sender::new(Beat { number: 1, phase: report.phase });
        let changed = report.hosts.keys().map(|host| (host.clone(), 1)).collect();
        Self { arrived, report: Mutex::new(Known { report, changed }), beat }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it stands.
    pub fn report(&self) -> Report {
        self.lock().report.clone()
    }

    /// To be woken by changes.
    pub fn follow(&self) -> watch::Receiver<Beat> {
        self.beat.subscribe()
    }

    /// Changes the deployment's part.
    pub fn change(&self, change: impl FnOnce(&mut Report)) {
        let mut told = self.lock();
        change(&mut told.report);
        let phase = told.report.phase;
        drop(told);
        self.beat.send_modify(|beat| *beat = Beat { number: beat.number + 1, phase });
    }

    /// Changes one host's part.
    pub fn change_host(&self, host: &HostId, change: impl FnOnce(&mut HostReport)) {
        let mut told = self.lock();
        let next = self.beat.borrow().number + 1;
        let Known { report, changed } = &mut *told;
        let Some(part) = report.hosts.get_mut(host.as_str()) else { return };
        change(part);
        changed.insert(host.to_string(), next);
        drop(told);
        self.beat.send_modify(|beat| beat.number += 1);
    }

    /// The report, with the time it has taken so far, and which hosts changed after that beat.
    pub fn since(&self, beat: u64) -> Told {
        let known = self.lock();
        let number = self.beat.borrow().number;
        let mut report = known.report.clone();
        if report.elapsed_micros == 0 {
            report.elapsed_micros = u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX);
        }
        let changed = known.changed.iter().filter(|(_, changed)| **changed > beat);
        Told { report, changed: changed.map(|(host, _)| host.clone()).collect(), number }
    }
}

/// What is told at one time.
pub struct Told {
    /// All of it.
    pub report: Report,
    /// The hosts that changed since it was told last.
    pub changed: BTreeSet<String>,
    /// The beat it stands at.
    pub number: u64,
}

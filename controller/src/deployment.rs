//! One deployment, from open to over. [`Run::to_the_end`] is all of it; each line is a stage.

mod aftermath;
mod drive;
mod measure;

use crate::board::{Notice, Story};
use crate::leader::Leader;
use crate::ledger::Opening;
use crate::records::{DeploymentRecord, Kind};
use crate::report::{HostReport, Phase, Report};
use cutover::Coordinator;
use cutover::coordinator::Opened;
use cutover::ids::{DeploymentId, HostId, Revision, ServiceName};
use cutover::message::Outcome;
use measure::Measured;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long the person who waits is kept waiting for hosts that do not follow a commit. They follow when
/// they are back, whether someone waits or not.
const APPLY_WITHIN: Duration = Duration::from_secs(30);

/// Everything one running deployment holds.
pub struct Run {
    leader: Arc<Leader>,
    opening: Opening,
    id: DeploymentId,
    service: ServiceName,
    story: Arc<Story>,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// When the request arrived at this leader.
    arrived: Instant,
    asked: BTreeMap<HostId, Instant>,
    /// Hosts whose links are down, and when that counts.
    gone: BTreeMap<HostId, tokio::time::Instant>,
    measured: Measured,
    /// A host that was not well before the watch began.
    troubled: Option<String>,
}

/// A leader that is deposed, or stops, leaves its deployments as they are: the next one goes on.
struct Left;

impl Run {
    /// A deployment that is open or committed in the ledger.
    pub fn new(
        leader: Arc<Leader>,
        opening: Opening,
        story: Arc<Story>,
        notices: mpsc::UnboundedReceiver<Notice>,
        arrived: Instant,
    ) -> Self {
        let id = opening.record.id.parse().expect("it was checked when it was opened");
        let service = opening.record.services.keys().next().and_then(|name| name.parse().ok());
        let service = service.expect("it was checked when it was opened");
        let (asked, gone, measured) = (BTreeMap::new(), BTreeMap::new(), Measured::default());
        Self { leader, opening, id, service, story, notices, arrived, asked, gone, measured, troubled: None }
    }

    /// Prepares, decides, tells, waits, watches, settles.
    pub async fn to_the_end(mut self, is_committed: bool) {
        let stopped = self.leader.stopped.clone();
        let outcome = tokio::select! {
            outcome = self.stages(is_committed) => outcome,
            () = stopped.cancelled() => Err(Left),
        };
        if let Err(Left) = outcome {
            tracing::info!(deployment = %self.id, "left to the next leader");
        }
        self.leader.board.remove(&self.id);
    }

    async fn stages(&mut self, is_committed: bool) -> Result<(), Left> {
        let mut coordinator = self.coordinator(is_committed)?;
        if !is_committed {
            let outcome = self.decide(&mut coordinator).await?;
            if outcome == Outcome::Abort {
                return self.end_aborted().await;
            }
        }
        self.see_applied(&mut coordinator).await;
        self.keep_report(Phase::Watching).await?;
        let over = self.watch().await;
        self.end_committed(over).await
    }

    fn coordinator(&self, is_committed: bool) -> Result<Coordinator, Left> {
        let unreadable = |error: crate::records::RecordError| {
            tracing::error!(deployment = %self.id, %error, "cannot be driven");
            Left
        };
        let mut participants = self.opening.record.participants().map_err(unreadable)?;
        if is_committed {
            // Whom the decision does not rest on is not waited for.
            let report = self.story.report();
            participants.retain(|host, _| report.left_out().all(|left_out| left_out != host.as_str()));
        }
        let opened = Opened {
            epoch: self.leader.ledger.epoch(),
            deployment: self.id.clone(),
            generation: self.opening.generation,
            revision: Revision(self.leader.ledger.read(|truth| truth.revision)),
            services: self.opening.record.digests().map_err(unreadable)?,
            participants,
            may_be_missing: self.opening.record.may_be_missing,
        };
        Ok(if is_committed { Coordinator::committed(opened) } else { Coordinator::new(opened) })
    }

    fn is_rollback(&self) -> bool {
        self.opening.record.kind == Kind::Rollback
    }

    fn elapsed_micros(&self) -> u64 {
        micros(self.arrived.elapsed())
    }
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn hosts(record: &DeploymentRecord) -> BTreeMap<String, HostReport> {
    let participants = record.participants.keys().map(|host| (host.clone(), HostReport::default()));
    let left_out = record.left_out.iter().map(|(host, why)| {
        let detail = format!("{why} when it opened; follows by itself");
        (host.clone(), HostReport { left_out: true, detail, ..HostReport::default() })
    });
    participants.chain(left_out).collect()
}

/// The report of a deployment that has just been opened.
pub fn report(opening: &Opening) -> Report {
    let record = &opening.record;
    let service = record.services.keys().next().cloned().unwrap_or_default();
    Report {
        id: record.id.clone(),
        generation: opening.generation.0,
        kind: record.kind,
        version: record.services.get(&service).map(|release| release.version.clone()).unwrap_or_default(),
        from_version: record.from.get(&service).cloned().unwrap_or_default(),
        service,
        phase: Phase::Preparing,
        reason: String::new(),
        actor: record.actor.clone(),
        started_unix_millis: record.opened_unix_millis,
        elapsed_micros: 0,
        rolled_back_by: String::new(),
        summary: None,
        hosts: hosts(record),
    }
}

//! Deploy, roll back, abort.

use super::error::{ledger_status, open_status};
use super::muster::Muster;
use super::restored::refuse_in_doubt;
use crate::board::{Notice, Story};
use crate::leader::Leader;
use crate::ledger::{LedgerError, OpenError};
use crate::planner::Roll;
use crate::records::{DeploymentRecord, Kind, ReleaseRecord};
use crate::report::Report;
use crate::spec::{self, Spec, Version};
use bgctl_proto::convert::hex;
use cutover::ids::{DeploymentId, Generation, ServiceName};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// The actor of what the controller does by itself when a deployment is not well in its watch.
pub const WATCH: &str = "watch";

/// What a request led to.
pub enum Started {
    /// It runs; the flag says that it ran before this request.
    Running(Arc<Story>, bool),
    /// It is over already.
    Over(Box<Report>),
}

/// What a deploy asks for.
pub struct Deploy {
    /// Whose.
    pub service: ServiceName,
    /// To which.
    pub version: Version,
    /// Even if it is active.
    pub is_forced: bool,
    /// Hosts to be left out, whatever the spec says.
    pub excluded: BTreeSet<String>,
    /// Who.
    pub actor: String,
    /// Makes a repeated request one.
    pub request: String,
    /// When it arrived.
    pub arrived: Instant,
}

/// Starts a deployment, or attaches to the one that does the same already.
pub async fn start_deploy(leader: &Arc<Leader>, deploy: Deploy) -> Result<Started, Status> {
    let Deploy { service, version, is_forced, excluded, actor, request, arrived } = deploy;
    if let Some(started) = repeated(leader, &request)? {
        return Ok(started);
    }
    let (spec_revision, spec) = spec_of(leader, &service)?;
    refuse_in_doubt(leader)?;
    if let Some(started) = attach(leader, &service, &version)? {
        return Ok(started);
    }
    let mut muster = Muster::of_spec(leader, &service, &spec, excluded).await?;
    let pins = muster.resolve(&spec.image_references(&version)).await?;
    // Again: its hosts may have come since, and said what they have heard.
    refuse_in_doubt(leader)?;
    let roll = muster.roll;
    let release = spec.release(&version, &pins).map_err(|error| Status::internal(error.to_string()))?;
    let record = ReleaseRecord {
        version: version.to_string(),
        digest: spec::digest(&release).to_string(),
        encoded: hex(&release.encode_to_vec()),
        spec_revision,
        hosts: spec.hosts.clone(),
        watch_millis: millis(spec.watch),
        prepare_timeout_millis: millis(spec.prepare_timeout),
    };
    // Its own report, not the newest: that may be of an attempt which came to nothing.
    let (planned_on, active) = leader.ledger.read(|truth| {
        let Some((active, _)) = truth.services.get(&service) else { return (None, None) };
        let is_active = active.release.digest == record.digest;
        let report = is_active.then(|| truth.report(&active.deployment).cloned()).flatten();
        (Some(Generation(active.generation)), report)
    });
    match active {
        Some(report) if !is_forced && report.version == record.version => {
            let id = report.id.parse().map_err(|error| Status::internal(format!("{error}")))?;
            Ok(leader.board.story(&id).map_or(Started::Over(Box::new(report)), |story| Started::Running(story, true)))
        }
        Some(_) | None => {
            let plan = Plan { release: record, kind: Kind::Deploy, roll, planned_on };
            match open(leader, &service, plan, actor, request.clone(), arrived).await {
                Ok(story) => Ok(Started::Running(story, false)),
                // Somebody was faster while the hosts were asked: perhaps with the same.
                Err(error @ (OpenError::Busy { .. } | OpenError::Repeated(_))) => {
                    let same = repeated(leader, &request)?.or(attach(leader, &service, &version)?);
                    same.ok_or_else(|| open_status(error))
                }
                Err(error) => Err(open_status(error)),
            }
        }
    }
}

/// Starts the way back. Ends what is open first, unless that is the way back already: whoever asks
/// for the same at the same time gets the same. `from`: only if this is what is committed.
pub async fn start_rollback(
    leader: &Arc<Leader>,
    service: &ServiceName,
    actor: &str,
    request: Option<String>,
    from: Option<Generation>,
    excluded: BTreeSet<String>,
    arrived: Instant,
) -> Result<Started, Status> {
    if let Some(started) = open_rollback(leader, service) {
        return Ok(started);
    }
    refuse_in_doubt(leader)?;
    let pending = leader.ledger.read(|truth| truth.pending.get(service).cloned());
    if let Some(pending) = pending {
        let report = end_open(leader, &pending.deployment, actor).await?;
        tracing::info!(deployment = %report.id, phase = ?report.phase, "ended for a rollback");
    }
    let (planned_on, target) = leader.ledger.read(|truth| {
        let (record, _) = truth.services.get(service).ok_or_else(|| never_deployed(service))?;
        let planned_on = Generation(record.generation);
        if from.is_some_and(|from| from != planned_on) {
            return Err(open_status(OpenError::Overtaken(service.to_string())));
        }
        let target = record.previous.first().cloned().ok_or_else(|| {
            Status::failed_precondition(format!(
                "there is no release before {} of {service} to go back to; `bgctl deploy {service} --version …` takes it to any version",
                record.release.version
            ))
        })?;
        Ok((planned_on, target))
    })?;
    let roll = Muster::of_release(leader, service, &target, excluded).await?.roll;
    refuse_in_doubt(leader)?;
    let request = request.unwrap_or_else(|| format!("{:032x}", leader.ledger.ambient().random()));
    let plan = Plan { release: target, kind: Kind::Rollback, roll, planned_on: Some(planned_on) };
    match open(leader, service, plan, actor.to_owned(), request, arrived).await {
        Ok(story) => Ok(Started::Running(story, false)),
        Err(error @ OpenError::Busy { .. }) => open_rollback(leader, service).ok_or_else(|| open_status(error)),
        Err(error) => Err(open_status(error)),
    }
}

/// The way back that is open, or that the controller has just taken by itself: an operator who saw the same
/// trouble wants that step back, not another one.
fn open_rollback(leader: &Leader, service: &ServiceName) -> Option<Started> {
    let (pending, committed) = leader.ledger.read(|truth| {
        let pending = truth.pending.get(service).map(|pending| pending.deployment.clone());
        let committed = truth.services.get(service).and_then(|(record, _)| record.deployment.parse().ok());
        (pending, committed)
    });
    let is_open = pending.is_some();
    let story = leader.board.story(&pending.or(committed)?)?;
    let report = story.report();
    let is_way_back = report.kind == Kind::Rollback && (is_open || report.actor == WATCH);
    is_way_back.then(|| Started::Running(story, true))
}

/// Ends an open deployment and answers how it really ended.
pub async fn end_open(leader: &Arc<Leader>, id: &DeploymentId, actor: &str) -> Result<Report, Status> {
    let Some(story) = leader.board.story(id) else {
        return leader
            .ledger
            .read(|truth| truth.report(id.as_str()).cloned())
            .ok_or_else(|| Status::not_found(format!("there is no deployment {id}")));
    };
    leader.board.tell(id, Notice::Abort { actor: actor.to_owned() });
    let mut beats = story.follow();
    let decided = beats.wait_for(|beat| match beat.phase {
        crate::report::Phase::Preparing | crate::report::Phase::Deciding => false,
        crate::report::Phase::Switching
        | crate::report::Phase::Watching
        | crate::report::Phase::Settled
        | crate::report::Phase::Aborted
        | crate::report::Phase::RolledBack => true,
    });
    // A leader that stops leaves the deployment undecided: its story says nothing more.
    let is_decided = tokio::select! {
        decided = decided => decided.is_ok(),
        () = leader.stopped.cancelled() => false,
    };
    if !is_decided {
        return Err(Status::unavailable("the controller stopped meanwhile; ask again"));
    }
    Ok(story.report())
}

fn repeated(leader: &Leader, request: &str) -> Result<Option<Started>, Status> {
    let before = leader.ledger.read(|truth| truth.requests.get(request).cloned());
    before.map(|id| find(leader, &id)).transpose()
}

/// A deployment that runs, or is in history.
pub fn find(leader: &Leader, id: &DeploymentId) -> Result<Started, Status> {
    if let Some(story) = leader.board.story(id) {
        return Ok(Started::Running(story, true));
    }
    let report = leader.ledger.read(|truth| truth.report(id.as_str()).cloned());
    report.map(|report| Started::Over(Box::new(report))).ok_or_else(|| {
        Status::not_found(format!("there is no deployment {id}; `bgctl history SERVICE` lists those that are kept"))
    })
}

fn attach(leader: &Leader, service: &ServiceName, version: &Version) -> Result<Option<Started>, Status> {
    let pending = leader.ledger.read(|truth| truth.pending.get(service).cloned());
    let Some(pending) = pending else { return Ok(None) };
    let Some(story) = leader.board.story(&pending.deployment) else { return Ok(None) };
    let report = story.report();
    if report.kind == Kind::Deploy && report.version == version.as_str() {
        return Ok(Some(Started::Running(story, true)));
    }
    Err(open_status(OpenError::Busy { service: service.to_string(), deployment: pending.deployment.to_string() }))
}

fn spec_of(leader: &Leader, service: &ServiceName) -> Result<(u64, Spec), Status> {
    leader.ledger.read(|truth| {
        let known = truth.specs.get(service).map(|(record, spec)| (record.revision, spec.clone()));
        known.ok_or_else(|| {
            let names: Vec<_> = truth.specs.keys().map(ServiceName::as_str).collect();
            let known =
                if names.is_empty() { "there is none yet".to_owned() } else { format!("known: {}", names.join(", ")) };
            Status::not_found(format!(
                "there is no service {service} ({known}); `bgctl apply -f {service}.yaml` makes it"
            ))
        })
    })
}

fn never_deployed(service: &ServiceName) -> Status {
    Status::not_found(format!("nothing was ever deployed as {service}; `bgctl status` lists what is"))
}

/// What a deployment is to do.
struct Plan {
    release: ReleaseRecord,
    kind: Kind,
    roll: Roll,
    /// What was committed when it was made.
    planned_on: Option<Generation>,
}

async fn open(
    leader: &Arc<Leader>,
    service: &ServiceName,
    plan: Plan,
    actor: String,
    request: String,
    arrived: Instant,
) -> Result<Arc<Story>, OpenError> {
    let Plan { release, kind, roll, planned_on } = plan;
    let Roll { participants: hosts, left_out, may_be_missing } = roll;
    let members = leader.ledger.read(|truth| truth.members()).map_err(LedgerError::from)?;
    let participants = hosts.iter().filter_map(|host| Some((host.to_string(), members.get(host)?.to_string())));
    let from =
        leader.ledger.read(|truth| truth.services.get(service).map(|(record, _)| record.release.version.clone()));
    let id = format!("{service:.40}-{:08x}", leader.ledger.ambient().random() >> 96);
    let record = DeploymentRecord {
        id,
        kind,
        services: BTreeMap::from([(service.to_string(), release)]),
        from: from.map(|version| (service.to_string(), version)).into_iter().collect(),
        participants: participants.collect(),
        may_be_missing,
        left_out: left_out.into_iter().map(|(host, why)| (host.to_string(), why.to_string())).collect(),
        actor,
        request,
        opened_unix_millis: leader.ledger.ambient().unix_millis(),
    };
    let leader = Arc::clone(leader);
    to_its_end(async move {
        let opening = leader.ledger.open(record, planned_on).await?;
        tracing::info!(deployment = %opening.record.id, generation = %opening.generation, "opened");
        Ok(leader.run_since(opening, None, arrived))
    })
    .await
}

/// A request is dropped where it stands when its client hangs up. What the store was asked must be remembered
/// all the same: a leader that does not know of its own write is refused by every guard from then on.
pub(super) async fn to_its_end<T: Send + 'static>(write: impl Future<Output = T> + Send + 'static) -> T {
    tokio::spawn(write).await.expect("it does not panic, and nobody aborts it")
}

/// Strikes a controller out of the list.
pub async fn forget_controller(leader: &Arc<Leader>, name: String, actor: String) -> Result<(), Status> {
    let leader = Arc::clone(leader);
    let forgotten = to_its_end(async move { leader.ledger.forget_replica(&name, &actor).await });
    forgotten.await.map_err(ledger_status)
}

/// Records a spec.
pub async fn apply(
    leader: &Arc<Leader>,
    text: &str,
    file_name: &str,
    actor: &str,
) -> Result<(Spec, u64, bool), Status> {
    let spec = Spec::parse(text, file_name).map_err(super::error::spec_status)?;
    let (leader, new, file_name, actor) = (Arc::clone(leader), spec.clone(), file_name.to_owned(), actor.to_owned());
    let applied = to_its_end(async move { leader.ledger.apply(new, &file_name, &actor).await });
    let (revision, is_new) = applied.await.map_err(ledger_status)?;
    Ok((spec, revision, is_new))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

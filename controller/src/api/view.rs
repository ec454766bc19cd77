//! From what the leader knows to what operators are shown.

use crate::fleet::HostView;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::ledger::{Opening, Pending, Truth};
use crate::records::{HostRecord, Kind, ServiceRecord};
use crate::report::{HostPhase, Phase, Report};
use crate::seat::Seat;
use crate::store::Health;
use bgctl_proto::operator as wire;
use bgctl_proto::session::{Held, SlotCondition, SlotHealth};
use cutover::ids::{HostId, ServiceName};
use cutover::message::Slot;
use std::collections::BTreeMap;
use tonic::Status;

/// The deployment's part of a report.
pub fn deployment(report: &Report) -> wire::Deployment {
    let kind = match report.kind {
        Kind::Deploy => wire::DeploymentKind::Deploy,
        Kind::Rollback => wire::DeploymentKind::Rollback,
    };
    let phase = match report.phase {
        Phase::Preparing => wire::DeploymentPhase::Preparing,
        Phase::Deciding => wire::DeploymentPhase::Deciding,
        Phase::Switching => wire::DeploymentPhase::Switching,
        Phase::Watching => wire::DeploymentPhase::Watching,
        Phase::Settled => wire::DeploymentPhase::Settled,
        Phase::Aborted => wire::DeploymentPhase::Aborted,
        Phase::RolledBack => wire::DeploymentPhase::RolledBack,
    };
    let summary = report.summary.map(|summary| wire::Summary {
        skew_micros: summary.skew_micros,
        skew_error_micros: summary.skew_error_micros,
        prepared_micros: summary.prepared_micros,
        decided_micros: summary.decided_micros,
        applied_micros: summary.applied_micros,
        requests_lost: None,
    });
    wire::Deployment {
        id: report.id.clone(),
        generation: report.generation,
        service: report.service.clone(),
        kind: kind.into(),
        version: report.version.clone(),
        from_version: report.from_version.clone(),
        phase: phase.into(),
        reason: report.reason.clone(),
        actor: report.actor.clone(),
        started_unix_millis: report.started_unix_millis,
        elapsed_micros: report.elapsed_micros,
        summary,
        rolled_back_by: report.rolled_back_by.clone(),
        host_count: u32::try_from(report.hosts.len()).unwrap_or(u32::MAX),
        left_out: report.left_out().cloned().collect(),
    }
}

/// The hosts' part.
pub fn hosts(report: &Report) -> Vec<wire::HostProgress> {
    let each = report.hosts.iter().map(|(host, part)| {
        let phase = match part.phase {
            HostPhase::Away => wire::HostPhase::Away,
            HostPhase::Asked => wire::HostPhase::Asked,
            HostPhase::Pulling => wire::HostPhase::Pulling,
            HostPhase::Starting => wire::HostPhase::Starting,
            HostPhase::Probing => wire::HostPhase::Probing,
            HostPhase::Ready => wire::HostPhase::Ready,
            HostPhase::Failed => wire::HostPhase::Failed,
            HostPhase::Switched => wire::HostPhase::Switched,
        };
        wire::HostProgress {
            host: host.clone(),
            phase: phase.into(),
            detail: part.detail.clone(),
            log_tail: part.log_tail.clone(),
            colour: part.colour.clone(),
            pulled_micros: part.pulled_micros,
            started_micros: part.started_micros,
            healthy_micros: part.healthy_micros,
            voted_micros: part.voted_micros,
            switched_micros: part.switched_micros,
            rename_micros: part.rename_micros,
            proof_micros: part.proof_micros,
            left_out: part.left_out,
        }
    });
    each.collect()
}

/// History, newest first.
pub fn history(truth: &Truth, service: &ServiceName, limit: usize) -> Vec<wire::DeploymentReport> {
    let reports = truth.history.get(service).into_iter().flat_map(BTreeMap::values).rev().take(limit);
    reports
        .map(|report| wire::DeploymentReport { deployment: Some(deployment(report)), hosts: hosts(report) })
        .collect()
}

/// One service as it stands.
pub fn service(truth: &Truth, leader: Option<&Leader>, name: &ServiceName) -> Result<wire::ServiceStatus, Status> {
    let spec_revision = truth.specs.get(name).map_or(0, |(record, _)| record.revision);
    let record = truth.services.get(name).map(|(record, _)| record);
    let hosts = selected(truth, name, record);
    let latest = truth.latest(name);
    if spec_revision == 0 && record.is_none() {
        return Err(Status::not_found(format!("there is no service {name}; `bgctl status` lists all")));
    }
    let pending = truth.pending.get(name).and_then(|pending| open_deployment(truth, leader, pending));
    let releases = truth.deployments.values().filter_map(|record| record.services.get(name.as_str()));
    let versions: BTreeMap<String, String> =
        releases.map(|release| (release.digest.clone(), release.version.clone())).collect();
    let back = record.and_then(|record| record.previous.first().cloned());
    let status = |host: &HostId| match leader {
        Some(leader) => host_status(leader, host, name, record, &versions),
        None => untold(host),
    };
    let dropped = leader.map(|leader| dropped(truth, leader, name, &hosts)).unwrap_or_default();
    let hosts: Vec<_> = hosts.iter().map(status).collect();
    let is_behind = |host: &wire::HostServiceStatus| {
        let left_out = latest.iter().any(|report| report.left_out().any(|left_out| *left_out == host.host));
        let is_known = host.generation != 0 || left_out;
        record.is_some_and(|record| is_known && host.generation != record.generation)
    };
    let mixed = hosts.iter().any(is_behind) || !dropped.is_empty();
    let is_warm = |host: &wire::HostServiceStatus| {
        back.as_ref().is_some_and(|back| back.version == host.standby_version) && host.standby_condition == "healthy"
    };
    Ok(wire::ServiceStatus {
        service: name.to_string(),
        spec_revision,
        version: record.map(|record| record.release.version.clone()).unwrap_or_default(),
        generation: record.map_or(0, |record| record.generation),
        release: record.map(|record| record.release.digest.clone()).unwrap_or_default(),
        rollback_ready: !hosts.is_empty() && hosts.iter().all(is_warm),
        rollback_version: back.map(|back| back.version).unwrap_or_default(),
        pending,
        latest: latest.map(deployment),
        hosts: hosts.into_iter().chain(dropped.iter().map(|host| dropped_status(status(host), name))).collect(),
        mixed,
    })
}

/// Hosts that serve it and are not meant to: their labels, or those of the spec, were changed. Traffic may still be
/// routed there, so they serve on; what to do with them is a person's decision.
fn dropped(truth: &Truth, leader: &Leader, name: &ServiceName, selected: &[HostId]) -> Vec<HostId> {
    let others = truth.hosts.keys().filter(|host| !selected.contains(host));
    let serves = |host: &&HostId| leader.fleet.view(host).is_some_and(|view| view.status.applied.contains_key(name));
    others.filter(serves).cloned().collect()
}

fn dropped_status(status: wire::HostServiceStatus, name: &ServiceName) -> wire::HostServiceStatus {
    let advice = format!(
        "{name} no longer selects this host, which serves {} on: send no traffic there, then end it (`systemctl disable --now bgctl-agent`, `bgctl-agent remove`), or give it the labels back and deploy",
        status.version
    );
    let trouble = [advice, status.trouble].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    wire::HostServiceStatus { dropped: true, current: false, trouble, ..status }
}

/// The leader knows how far an open deployment is; the store only that it is open.
fn open_deployment(truth: &Truth, leader: Option<&Leader>, pending: &Pending) -> Option<wire::Deployment> {
    match leader {
        Some(leader) => leader.board.story(&pending.deployment).map(|story| deployment(&story.report())),
        None => {
            let record = truth.deployments.get(&pending.deployment)?.clone();
            let opening = Opening { record, generation: pending.generation };
            Some(deployment(&crate::deployment::report(&opening)))
        }
    }
}

/// What a follower knows of a host: its name. Only the leader hears how hosts are.
fn untold(host: &HostId) -> wire::HostServiceStatus {
    wire::HostServiceStatus {
        host: host.to_string(),
        condition: "unknown".to_owned(),
        trouble: "only the leader hears of it".to_owned(),
        ..Default::default()
    }
}

/// Whose word it is, when it is not the leader's.
pub fn follower(follower: &Follower) -> wire::FollowerView {
    let age = follower.freshness().age.unwrap_or_default();
    wire::FollowerView {
        replica: follower.replica().name.clone(),
        age_millis: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        leader: follower
            .read(|truth| truth.leader.as_ref().map(|(leader, _)| leader.address.clone()))
            .unwrap_or_default(),
    }
}

/// A controller, by its own word.
pub fn controller(seat: &Seat) -> wire::Controller {
    let (follower, leading) = (seat.follower(), seat.now());
    let fresh = follower.freshness();
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let known = follower.read(|truth| truth.leader.clone());
    let known = known.map(|(replica, epoch)| (epoch, replica.address)).unwrap_or_default();
    wire::Controller {
        name: follower.replica().name.clone(),
        address: follower.replica().address.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leads: leading.is_some(),
        epoch: leading.as_ref().map_or(known.0, |leader| leader.ledger.epoch().0),
        leader: if leading.is_some() { follower.replica().address.clone() } else { known.1 },
        since_millis: millis(leading.map_or(follower.up(), |leader| leader.since.elapsed())),
        revision: fresh.revision,
        newest_revision: fresh.newest,
        store_age_millis: fresh.age.map(millis),
    }
}

/// Every controller that wrote down that it is there.
pub fn controllers(truth: &Truth) -> Vec<wire::KnownController> {
    let each = truth.replicas.iter().map(|(name, (record, _))| wire::KnownController {
        name: name.clone(),
        address: record.address.clone(),
        version: record.version.clone(),
    });
    each.collect()
}

/// How the store is.
pub fn store(health: &Health) -> wire::Store {
    let members = health.members.iter().map(|member| wire::StoreMember {
        name: member.name.clone(),
        address: member.address.clone(),
        version: member.version.clone(),
        size_bytes: member.size_bytes,
        in_use_bytes: member.in_use_bytes,
        leads: member.leads,
        trouble: member.trouble.clone().unwrap_or_default(),
    });
    wire::Store {
        kind: health.kind.to_owned(),
        members: members.collect(),
        size_bytes: health.size_bytes(),
        quota_bytes: health.quota_bytes,
        alarms: health.alarms.clone(),
        revision: health.revision,
        warnings: health.warnings(),
    }
}

fn selected(truth: &Truth, name: &ServiceName, record: Option<&ServiceRecord>) -> Vec<HostId> {
    let wanted = record.map(|record| record.release.hosts.clone());
    let wanted = wanted.or_else(|| truth.specs.get(name).map(|(_, spec)| spec.hosts.clone())).unwrap_or_default();
    let carries = |host: &HostRecord| wanted.iter().all(|(key, value)| host.labels.get(key) == Some(value));
    truth.hosts.iter().filter(|(_, host)| carries(host)).map(|(host, _)| host.clone()).collect()
}

fn host_status(
    leader: &Leader,
    host: &HostId,
    name: &ServiceName,
    record: Option<&ServiceRecord>,
    versions: &BTreeMap<String, String>,
) -> wire::HostServiceStatus {
    let Some(view) = leader.fleet.view(host) else {
        return wire::HostServiceStatus {
            host: host.to_string(),
            condition: "unknown".to_owned(),
            trouble: "not seen since this controller leads".to_owned(),
            ..Default::default()
        };
    };
    let held = view.status.health.held.iter().find(|held| held.service == name.as_str());
    let held_slot = held.and_then(|held| Slot::try_from(held.slot.as_ref()?).ok());
    let slot = held_slot.as_ref().or(view.status.applied.get(name));
    let health = |active: bool| {
        view.status.health.slots.iter().find(|slot| slot.service == name.as_str() && slot.active == active)
    };
    let version = |digest: String| versions.get(&digest).cloned().unwrap_or_else(|| digest.chars().take(12).collect());
    let standby = health(false);
    let standby_digest = standby.and_then(|slot| bgctl_proto::convert::digest("release", &slot.release).ok());
    wire::HostServiceStatus {
        host: host.to_string(),
        connected: view.connected,
        version: match held {
            Some(held) => held.version.clone(),
            None => slot.map(|slot| version(slot.release.to_string())).unwrap_or_default(),
        },
        generation: slot.map_or(0, |slot| slot.generation.0),
        colour: slot.map(|slot| slot.colour.to_string()).unwrap_or_default(),
        condition: if view.connected {
            health(true).map_or("unknown", condition).to_owned()
        } else {
            "unknown".to_owned()
        },
        standby_version: standby_digest.map(|digest| version(digest.to_string())).unwrap_or_default(),
        standby_condition: standby.map_or("", condition).to_owned(),
        current: view.connected
            && record.is_none_or(|record| slot.is_some_and(|slot| slot.generation.0 == record.generation)),
        trouble: with_ahead(trouble(&view, health(true)), slot.map_or(0, |slot| slot.generation.0), record),
        dropped: false,
        by_hand: held.map(by_hand),
        // Before the first commit nobody expects it.
        not_ready: record.and(view.status.health.not_ready.get(name.as_str())).cloned().unwrap_or_default(),
    }
}

fn by_hand(held: &Held) -> wire::ByHand {
    let colour = held.slot.as_ref().and_then(|slot| Slot::try_from(slot).ok()).map(|slot| slot.colour);
    wire::ByHand {
        service: held.service.clone(),
        colour: colour.map(|colour| colour.to_string()).unwrap_or_default(),
        version: held.version.clone(),
        at_unix_millis: held.at_unix_millis,
        uid: held.uid,
    }
}

fn condition(slot: &SlotHealth) -> &'static str {
    match slot.condition() {
        SlotCondition::Healthy => "healthy",
        SlotCondition::Unhealthy => "unhealthy",
        SlotCondition::Starting => "starting",
        SlotCondition::Dead => "dead",
        SlotCondition::Unspecified => "unknown",
    }
}

fn trouble(view: &HostView, active: Option<&SlotHealth>) -> String {
    if !view.connected {
        return format!("away for {:.0} s", view.since.as_secs_f64());
    }
    let detail = active.map(|slot| slot.detail.clone()).filter(|detail| !detail.is_empty());
    detail.into_iter().chain(view.troubles()).collect::<Vec<_>>().join("; ")
}

/// A host that serves what the store does not know: it was put back from an older copy.
fn with_ahead(trouble: String, serves: u64, record: Option<&ServiceRecord>) -> String {
    let known = record.map_or(0, |record| record.generation);
    if serves <= known {
        return trouble;
    }
    let ahead = format!(
        "ahead of the store: it serves generation {serves}, the store knows {known}; the next deployment brings it along"
    );
    if trouble.is_empty() { ahead } else { format!("{ahead}; {trouble}") }
}

/// All hosts.
pub fn fleet(truth: &Truth, leader: Option<&Leader>) -> Vec<wire::Host> {
    let mut knocks = leader.map(|leader| leader.doors.knocks()).unwrap_or_default();
    let members = truth.hosts.iter().map(|(host, record)| {
        let view = leader.and_then(|leader| leader.fleet.view(host));
        let names =
            truth.services.iter().filter(|(name, (record, _))| selected(truth, name, Some(record)).contains(host));
        let services = names.map(|(name, _)| name.to_string()).collect();
        let [agent_version, docker_version, nginx_version] =
            view.as_ref().map(|view| view.status.versions.clone()).unwrap_or_default();
        wire::Host {
            host: host.to_string(),
            labels: record.labels.clone().into_iter().collect(),
            connected: view.as_ref().is_some_and(|view| view.connected),
            since_millis: view.as_ref().map_or(0, |view| u64::try_from(view.since.as_millis()).unwrap_or(u64::MAX)),
            incarnation: record.incarnation.clone(),
            agent_version,
            docker_version,
            nginx_version,
            services,
            troubles: view.as_ref().map(HostView::troubles).unwrap_or_default(),
            warnings: view.as_ref().map(|view| view.status.health.warnings.clone()).unwrap_or_default(),
            waiting: knocks.remove(host).map(|knock| knock.told(host)).unwrap_or_default(),
            stranger: false,
            by_hand: view.iter().flat_map(|view| &view.status.health.held).map(by_hand).collect(),
        }
    });
    let mut all: Vec<_> = members.collect();
    all.extend(knocks.into_iter().map(|(host, knock)| wire::Host {
        labels: knock.calling.life.labels.clone().into_iter().collect(),
        incarnation: knock.calling.life.incarnation.to_string(),
        waiting: knock.told(&host),
        host: host.to_string(),
        stranger: true,
        ..wire::Host::default()
    }));
    all.sort_by(|one, other| one.host.cmp(&other.host));
    all
}

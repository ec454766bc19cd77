//! Deployments to tell of: web, from 2.3.0 to 2.3.1, on three hosts.

use bgctl_proto::operator::{
    Deployment, DeploymentEvent, DeploymentKind, DeploymentPhase, HostPhase, HostProgress, Summary,
};

pub const DEPLOY: [&str; 4] = ["deploy", "web", "--version", "2.3.1"];

pub fn deployment(phase: DeploymentPhase, elapsed_micros: u64) -> Deployment {
    Deployment {
        id: "web-42".into(),
        generation: 42,
        service: "web".into(),
        kind: DeploymentKind::Deploy.into(),
        version: "2.3.1".into(),
        from_version: "2.3.0".into(),
        phase: phase.into(),
        actor: "alice".into(),
        started_unix_millis: 1_763_632_564_000,
        elapsed_micros,
        host_count: 3,
        ..Deployment::default()
    }
}

pub fn summary() -> Summary {
    Summary {
        skew_micros: 3_100,
        skew_error_micros: 800,
        prepared_micros: 2_310_000,
        decided_micros: 2_311_200,
        applied_micros: 2_320_000,
        requests_lost: None,
    }
}

pub fn event(deployment: Deployment, hosts: Vec<HostProgress>) -> DeploymentEvent {
    DeploymentEvent { deployment: Some(deployment), hosts, last: false, attached: false }
}

pub fn last(event: DeploymentEvent) -> DeploymentEvent {
    DeploymentEvent { last: true, ..event }
}

/// A host at a phase, with the times of all phases before.
pub fn host(name: &str, phase: HostPhase) -> HostProgress {
    let reached = |from: HostPhase, micros: u64| if phase as i32 >= from as i32 { micros } else { 0 };
    HostProgress {
        host: name.into(),
        phase: phase.into(),
        colour: "green".into(),
        pulled_micros: reached(HostPhase::Starting, 1_200_000),
        started_micros: reached(HostPhase::Probing, 1_310_000),
        healthy_micros: reached(HostPhase::Ready, 2_020_000),
        voted_micros: reached(HostPhase::Ready, 2_031_000),
        switched_micros: reached(HostPhase::Switched, 2_312_000),
        rename_micros: reached(HostPhase::Switched, 90),
        proof_micros: reached(HostPhase::Switched, 410),
        ..HostProgress::default()
    }
}

pub fn all(phase: HostPhase) -> Vec<HostProgress> {
    ["web-1", "web-2", "web-3"].map(|name| host(name, phase)).into()
}

/// Asked, and the first host pulls.
pub fn opening() -> DeploymentEvent {
    event(deployment(DeploymentPhase::Preparing, 1_500), all(HostPhase::Asked))
}

pub fn pulling() -> DeploymentEvent {
    event(deployment(DeploymentPhase::Preparing, 4_000), vec![host("web-1", HostPhase::Pulling)])
}

pub fn ready() -> DeploymentEvent {
    event(deployment(DeploymentPhase::Preparing, 2_040_000), all(HostPhase::Ready))
}

/// Every host serves it.
pub fn switched() -> DeploymentEvent {
    let deployment = Deployment { summary: Some(summary()), ..deployment(DeploymentPhase::Watching, 2_320_000) };
    event(deployment, all(HostPhase::Switched))
}

/// Two of three: the last was away when it opened.
pub fn switched_without_one() -> DeploymentEvent {
    let switched = switched();
    let deployment = switched.deployment.map(|deployment| Deployment { left_out: vec!["web-3".into()], ..deployment });
    let mut hosts = all(HostPhase::Switched);
    let detail = "away when it opened; follows by itself".into();
    hosts[2] = HostProgress { left_out: true, detail, ..host("web-3", HostPhase::Away) };
    DeploymentEvent { deployment, hosts, ..switched }
}

pub fn settled() -> DeploymentEvent {
    let deployment = Deployment { summary: Some(summary()), ..deployment(DeploymentPhase::Settled, 62_320_000) };
    last(event(deployment, vec![]))
}

/// One host's new version is never healthy.
pub fn aborted() -> DeploymentEvent {
    let reason = "web-2 voted no: not healthy within 30s";
    let deployment = Deployment { reason: reason.into(), ..deployment(DeploymentPhase::Aborted, 30_400_000) };
    let failed = HostProgress {
        phase: HostPhase::Failed.into(),
        detail: "not healthy within 30s: GET /healthz on 172.30.0.6:8080 answered 500, 412 tries".into(),
        log_tail: vec!["starting".into(), "\u{1b}[31mcannot open /data: permission denied\u{1b}[0m\r".into()],
        ..host("web-2", HostPhase::Probing)
    };
    last(event(deployment, vec![host("web-1", HostPhase::Ready), failed, host("web-3", HostPhase::Ready)]))
}

pub fn rolled_back() -> DeploymentEvent {
    let deployment = Deployment {
        reason: "errors in the watch: 4.1 % of 812 requests on web-3".into(),
        rolled_back_by: "web-43".into(),
        summary: Some(summary()),
        ..deployment(DeploymentPhase::RolledBack, 9_000_000)
    };
    last(event(deployment, vec![]))
}

use super::*;
use bgctl_proto::operator::{ByHand, DeploymentKind, DeploymentPhase};
use std::time::{Duration, UNIX_EPOCH};

const STARTED_UNIX_MILLIS: u64 = 1_763_632_564_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(STARTED_UNIX_MILLIS + 7_384_000)
}

fn latest(phase: DeploymentPhase) -> Deployment {
    Deployment {
        id: "web-42".into(),
        service: "web".into(),
        kind: DeploymentKind::Deploy.into(),
        version: "2.3.1".into(),
        from_version: "2.3.0".into(),
        phase: phase.into(),
        actor: "alice".into(),
        started_unix_millis: STARTED_UNIX_MILLIS,
        elapsed_micros: 2_310_000,
        ..Deployment::default()
    }
}

fn host(name: &str) -> HostServiceStatus {
    HostServiceStatus {
        host: name.into(),
        connected: true,
        version: "2.3.1".into(),
        generation: 42,
        colour: "green".into(),
        condition: "healthy".into(),
        standby_version: "2.3.0".into(),
        standby_condition: "healthy".into(),
        current: true,
        ..HostServiceStatus::default()
    }
}

fn web(hosts: Vec<HostServiceStatus>) -> ServiceStatus {
    ServiceStatus {
        service: "web".into(),
        spec_revision: 7,
        version: "2.3.1".into(),
        generation: 42,
        rollback_version: "2.3.0".into(),
        rollback_ready: true,
        latest: Some(latest(DeploymentPhase::Settled)),
        hosts,
        ..ServiceStatus::default()
    }
}

fn text(services: &[ServiceStatus]) -> String {
    lines(services, now()).iter().map(|line| line.painted(false) + "\n").collect()
}

/// Everything as it should be.
#[test]
fn all_current() {
    insta::assert_snapshot!(text(&[web(vec![host("web-1"), host("web-2")])]));
}

/// A host that is away, one left behind, and one whose standby is dead: each stands out in words.
#[test]
fn hosts_that_stand_out() {
    let away = HostServiceStatus { connected: false, trouble: "last seen 2h 03m ago".into(), ..host("web-2") };
    let behind = HostServiceStatus { current: false, version: "2.2.9".into(), ..host("web-3") };
    let cold = HostServiceStatus { standby_condition: "dead".into(), ..host("web-4") };
    let service = ServiceStatus { rollback_ready: false, ..web(vec![host("web-1"), away, behind, cold]) };
    insta::assert_snapshot!(text(&[service]));
}

/// A deployment under way, and a service that was only applied, with no host.
#[test]
fn pending_and_new() {
    let pending = latest(DeploymentPhase::Preparing);
    let busy = ServiceStatus { latest: Some(pending.clone()), pending: Some(pending), ..web(vec![host("web-1")]) };
    let new = ServiceStatus { service: "api".into(), spec_revision: 1, ..ServiceStatus::default() };
    insta::assert_snapshot!(text(&[busy, new]));
}

/// The latest deployment failed: the reason is there, and what serves is what served before.
#[test]
fn latest_aborted() {
    let aborted = Deployment { reason: "web-2 voted no: image not found".into(), ..latest(DeploymentPhase::Aborted) };
    let service = ServiceStatus { version: "2.3.0".into(), latest: Some(aborted), ..web(vec![]) };
    insta::assert_snapshot!(text(&[service]));
}

/// One host was left out of the latest deployment, and one is no longer selected: both are said in words.
#[test]
fn mixed_with_a_dropped_host() {
    let left_out = vec!["web-2".to_owned()];
    let away = HostServiceStatus { connected: false, current: false, version: "2.2.9".into(), ..host("web-2") };
    let dropped = HostServiceStatus {
        current: false,
        dropped: true,
        version: "2.2.9".into(),
        trouble: "web no longer selects this host, which serves 2.2.9 on".into(),
        ..host("web-3")
    };
    let latest = Deployment { left_out, ..latest(DeploymentPhase::Settled) };
    let hosts = vec![host("web-1"), away, dropped];
    let service = ServiceStatus { mixed: true, latest: Some(latest), ..web(hosts) };
    insta::assert_snapshot!(text(&[service]));
}

/// What somebody did on a host is said where it was done.
#[test]
fn a_switch_by_hand_is_shown_with_who_and_when() {
    let hand = ByHand {
        service: "web".into(),
        colour: "blue".into(),
        version: "2.3.0".into(),
        at_unix_millis: STARTED_UNIX_MILLIS,
        uid: 0,
    };
    let held = HostServiceStatus {
        colour: "blue".into(),
        version: "2.3.0".into(),
        current: false,
        by_hand: Some(hand),
        ..host("web-2")
    };
    let not_ready = HostServiceStatus { not_ready: "not ready: web: it is not healthy".into(), ..host("web-3") };
    let text = text(&[web(vec![host("web-1"), held, not_ready])]);
    let line = |name: &str| text.lines().find(|line| line.contains(name)).expect("a line").to_owned();
    let said = "switched by hand to blue (2.3.0) at 2025-11-20 09:56:04Z by uid 0";
    assert!(line("web-2").contains("BY HAND") && line("web-2").contains(said), "{text}");
    assert!(line("web-3").contains("not ready: web: it is not healthy"), "{text}");
    assert!(!line("web-1").contains("hand"), "{text}");
}

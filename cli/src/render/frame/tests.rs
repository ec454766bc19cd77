use super::*;
use bgctl_proto::operator::{Deployment, DeploymentEvent, DeploymentKind};
use std::time::Instant;

const WIDE: Size = Size { columns: 100, rows: 24 };

fn host(name: &str, phase: HostPhase, moments: [u64; 4], detail: &str) -> HostProgress {
    let [pulled_micros, started_micros, healthy_micros, voted_micros] = moments;
    let (host, phase, detail) = (name.to_owned(), phase.into(), detail.to_owned());
    HostProgress {
        host,
        phase,
        detail,
        pulled_micros,
        started_micros,
        healthy_micros,
        voted_micros,
        ..HostProgress::default()
    }
}

fn progress(phase: DeploymentPhase, hosts: Vec<HostProgress>) -> Progress {
    let deployment = Deployment {
        id: "web-42".into(),
        service: "web".into(),
        kind: DeploymentKind::Deploy.into(),
        version: "2.3.1".into(),
        from_version: "2.3.0".into(),
        phase: phase.into(),
        host_count: hosts.len() as u32,
        ..Deployment::default()
    };
    let mut progress = Progress::default();
    let event = DeploymentEvent { deployment: Some(deployment), hosts, last: false, attached: false };
    progress.merge(event, Instant::now());
    progress
}

fn text(progress: &Progress, size: Size) -> String {
    let lines = frame(progress, Duration::from_millis(4_270), size);
    assert!(lines.len() < size.rows, "{} lines on {} rows", lines.len(), size.rows);
    assert!(lines.iter().all(|line| line.columns() < size.columns.max(1)), "a line touches the margin");
    lines.iter().map(|line| line.painted(false) + "\n").collect()
}

fn three() -> Vec<HostProgress> {
    vec![
        host("web-1", HostPhase::Ready, [1_200_000, 1_310_000, 2_020_000, 2_031_000], ""),
        host("web-2", HostPhase::Probing, [1_240_000, 1_350_000, 0, 0], "GET /healthz: connection refused, 7 tries"),
        host("web-3", HostPhase::Pulling, [0; 4], "sha256:9f86d081 3 of 7 layers"),
    ]
}

/// Hosts at different stages: a column appears once a host has got that far.
#[test]
fn preparing() {
    insta::assert_snapshot!(text(&progress(DeploymentPhase::Preparing, three()), WIDE));
}

/// What is said before the controller has said anything.
#[test]
fn nothing_known_yet() {
    insta::assert_snapshot!(text(&Progress::default(), WIDE));
}

/// A failed and an absent host stand out in words.
#[test]
fn failed_and_away() {
    let mut hosts = three();
    hosts[1] =
        host("web-2", HostPhase::Failed, [1_240_000, 1_350_000, 0, 0], "not healthy within 30s: GET /healthz: 500");
    hosts[2] = host("web-3", HostPhase::Away, [0; 4], "not connected for 2m 10s");
    insta::assert_snapshot!(text(&progress(DeploymentPhase::Preparing, hosts), WIDE));
}

/// Half the fleet has switched.
#[test]
fn switching() {
    let mut hosts = three();
    for host in &mut hosts {
        (host.detail, host.phase) = (String::new(), HostPhase::Ready.into());
    }
    hosts[0].phase = HostPhase::Switched.into();
    hosts[0].switched_micros = 2_420_000;
    insta::assert_snapshot!(text(&progress(DeploymentPhase::Switching, hosts), WIDE));
}

/// The connection is gone: said below the overall line, with the last known state kept.
#[test]
fn connection_lost() {
    let mut progress = progress(DeploymentPhase::Preparing, three());
    progress.lost = Some("10.0.0.5:7700: connection refused".to_owned());
    insta::assert_snapshot!(text(&progress, WIDE));
}

/// A hundred hosts on ten rows: failed first, then those with most left to do, and the rest counted.
#[test]
fn more_hosts_than_rows() {
    let mut hosts: Vec<_> =
        (0..100).map(|i| host(&format!("web-{i:02}"), HostPhase::Ready, [0, 0, 0, 2_000_000 + i], "")).collect();
    hosts[40] = host("web-40", HostPhase::Pulling, [0; 4], "");
    hosts[70] = host("web-70", HostPhase::Failed, [0; 4], "no space left on device");
    hosts[90] = host("web-90", HostPhase::Probing, [0, 1_000_000, 0, 0], "");
    insta::assert_snapshot!(text(&progress(DeploymentPhase::Preparing, hosts), Size { columns: 70, rows: 10 }));
}

/// No room for all who still work: the hidden ones are counted by phase.
#[test]
fn more_busy_hosts_than_rows() {
    let phases = [HostPhase::Ready, HostPhase::Probing, HostPhase::Pulling];
    let hosts = (0..30).map(|i| host(&format!("web-{i:02}"), phases[i % 3], [0; 4], "")).collect();
    insta::assert_snapshot!(text(&progress(DeploymentPhase::Preparing, hosts), Size { columns: 70, rows: 8 }));
}

/// Lines are cut where the terminal ends; whatever a host says stays on its line.
#[test]
fn narrow_and_hostile() {
    let mut hosts = three();
    hosts[2].detail = "\u{1b}[2J\u{1b}]0;owned\u{7}line one\nline two".to_owned();
    insta::assert_snapshot!(text(&progress(DeploymentPhase::Preparing, hosts), Size { columns: 44, rows: 24 }));
}

/// Every size has a frame that fits, down to none at all.
#[test]
fn every_size_fits() {
    let hosts: Vec<_> = (0..40).map(|i| host(&format!("web-{i}"), HostPhase::Pulling, [0; 4], "x")).collect();
    let mut progress = progress(DeploymentPhase::Preparing, hosts);
    progress.lost = Some("gone".to_owned());
    for rows in 1..50 {
        for columns in [1, 2, 10, 80] {
            text(&progress, Size { columns, rows });
        }
    }
}

//! The verbs with one answer.

use crate::fake::{Call, Fake};
use crate::run::{Running, run_with_stdin};
use crate::story::{aborted, deployment, rolled_back, settled};
use bgctl_proto::operator::{
    AbortReply, ApplyReply, DeploymentEvent, DeploymentPhase, DeploymentReport, HistoryReply, Host, HostsReply,
    ServiceStatus, StatusReply,
};
use std::fs;
use tonic::Status;

fn applied() -> ApplyReply {
    ApplyReply { service: "web".into(), revision: 7, changed: true, hosts: vec!["web-1".into(), "web-2".into()] }
}

/// The text goes as it is, with the name that errors will call it by.
#[test]
fn apply() {
    let fake = Fake::new();
    fake.answer(|answers| answers.apply = Ok(applied()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    fs::write(&file, "service: web # ü\n").unwrap();
    let ended = fake.run(&["apply", "-f", file.to_str().unwrap()]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.stdout, "web: revision 7 applied, selects 2 hosts: web-1, web-2\n");
    let from_stdin = run_with_stdin(fake.command(&["apply", "-f", "-"]), "service: web\n");
    assert_eq!(from_stdin.code, 0, "{from_stdin:?}");
    let calls = fake.calls();
    let [Call::Apply(first), Call::Apply(second)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((first.text.as_str(), first.file_name.as_str()), ("service: web # ü\n", file.to_str().unwrap()));
    assert_eq!((second.text.as_str(), second.file_name.as_str()), ("service: web\n", "stdin"));
}

/// Nothing new, and nowhere to go, are said.
#[test]
fn apply_without_change_or_hosts() {
    let fake = Fake::new();
    fake.answer(|answers| answers.apply = Ok(ApplyReply { changed: false, hosts: vec![], ..applied() }));
    let ended = run_with_stdin(fake.command(&["apply", "-f", "-"]), "service: web\n");
    assert!(ended.stdout.starts_with("web: revision 7 unchanged, selects NO HOST now"), "{}", ended.stdout);
}

/// How it really ended decides the code: too late to abort is not done.
#[test]
fn abort() {
    let fake = Fake::new();
    let told = [
        (DeploymentPhase::Aborted, 0, "aborted, nothing changed"),
        (DeploymentPhase::RolledBack, 0, "rolled back"),
        (DeploymentPhase::Switching, 2, "TOO LATE, it is switching; to take it back: bgctl rollback web"),
        (DeploymentPhase::Settled, 2, "TOO LATE"),
        (DeploymentPhase::Deciding, 2, "NOT ABORTED"),
    ];
    for (phase, code, expected) in told {
        fake.answer(|answers| answers.abort = Ok(AbortReply { deployment: Some(deployment(phase, 1_000)) }));
        let ended = fake.run(&["abort"]);
        assert_eq!(ended.code, code, "{phase:?}: {ended:?}");
        assert!(ended.stdout.contains(expected), "{phase:?}: {}", ended.stdout);
    }
    fake.answer(|answers| answers.abort = Err(Status::failed_precondition("no deployment of web is open")));
    let ended = fake.run(&["abort", "web"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert_eq!(ended.stderr, "bgctl: refused: no deployment of web is open\n");
}

fn report(event: DeploymentEvent) -> DeploymentReport {
    DeploymentReport { deployment: event.deployment, hosts: event.hosts }
}

pub fn history_reply() -> HistoryReply {
    HistoryReply { deployments: [settled(), aborted(), rolled_back()].map(report).into(), follower: None }
}

/// Newest first, as the controller says, each with its reason.
#[test]
fn history() {
    let fake = Fake::new();
    fake.answer(|answers| answers.history = Ok(history_reply()));
    let ended = fake.run(&["history", "web", "--limit", "3"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    insta::assert_snapshot!("history", ended.stdout);
    let calls = fake.calls();
    assert!(matches!(&calls[..], [Call::History(asked)] if asked.service == "web" && asked.limit == 3), "{calls:?}");
}

pub fn hosts_reply() -> HostsReply {
    let web_1 = Host {
        host: "web-1".into(),
        labels: [("zone".to_owned(), "a".to_owned()), ("role".to_owned(), "web".to_owned())].into(),
        connected: true,
        since_millis: 184_000,
        incarnation: "9f86d081884c7d659a2feaa0c55ad015".into(),
        agent_version: "0.1.0".into(),
        docker_version: "20.10.24".into(),
        nginx_version: "1.22.1".into(),
        services: vec!["api".into(), "web".into()],
        troubles: vec![],
        warnings: vec!["Docker has live-restore off".into()],
        ..Host::default()
    };
    let troubles = vec!["nginx is not running".into(), "disk is full: /var/lib/bgctl".into()];
    let web_2 = Host { host: "web-2".into(), connected: false, since_millis: 7_384_000, troubles, ..web_1.clone() };
    let waiting = "new life waiting (10.0.0.9:4711): run `bgctl hosts replace web-3`".to_owned();
    let web_3 = Host { host: "web-3".into(), stranger: true, waiting, ..Host::default() };
    HostsReply { hosts: vec![web_1, web_2, web_3], follower: None }
}

/// Who is there, and who is not.
#[test]
fn hosts() {
    let fake = Fake::new();
    fake.answer(|answers| answers.hosts = Ok(hosts_reply()));
    let ended = fake.run(&["hosts"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    insta::assert_snapshot!("hosts", ended.stdout);
}

/// Nothing to show is said, and not as data.
#[test]
fn empty_answers() {
    let fake = Fake::new();
    fake.answer(|answers| {
        answers.status = Ok(StatusReply::default());
        answers.history = Ok(HistoryReply::default());
        answers.hosts = Ok(HostsReply::default());
    });
    for (args, expected) in
        [(&["status"][..], "no service yet"), (&["history", "web"], "never deployed"), (&["hosts"], "no host")]
    {
        let ended = fake.run(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
    }
}

/// A reader that has seen enough is no error.
#[test]
fn a_closed_pipe_is_no_error() {
    let fake = Fake::new();
    let services = (0..2_000).map(|i| ServiceStatus { service: format!("service-{i}"), ..ServiceStatus::default() });
    let reply = StatusReply { services: services.collect(), revision: 1, epoch: 1, ..StatusReply::default() };
    fake.answer(|answers| answers.status = Ok(reply));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = fake.command(&["status"]).stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut stderr = crate::run::Stream::of(child.stderr.take().unwrap());
    stderr.wait_for_end();
    assert_eq!((child.wait().unwrap().code(), stderr.told.as_str()), (Some(0), ""));
}

/// Status asks for the service that was named.
#[test]
fn status_of_one() {
    let fake = Fake::new();
    let service = ServiceStatus { service: "web".into(), version: "2.3.1".into(), ..ServiceStatus::default() };
    fake.answer(|answers| {
        answers.status = Ok(StatusReply { services: vec![service], revision: 9, epoch: 3, ..StatusReply::default() })
    });
    let mut running = Running::start(fake.command(&["status", "web"]));
    running.wait_for_stdout("web  2.3.1");
    assert_eq!(running.wait().code, 0);
    let calls = fake.calls();
    assert!(matches!(&calls[..], [Call::Status(asked)] if asked.service == "web"), "{calls:?}");
}

//! What programs read. These records are an interface: a change here breaks somebody's script.

use crate::fake::Fake;
use crate::run::{Ended, Running, bare, run, run_with_stdin};
use crate::story::*;
use crate::verbs::{history_reply, hosts_reply};
use bgctl_proto::operator::{AbortReply, ApplyReply, DeploymentPhase, HostServiceStatus, ServiceStatus, StatusReply};
use serde_json::Value;
use tonic::Status;

fn pretty(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value:#}\n")).collect()
}

fn json_deploy(fake: &Fake) -> Ended {
    fake.run(&[&DEPLOY[..], &["--json"]].concat())
}

/// Lines of events, the last a result; stderr stays quiet.
#[test]
fn done() {
    let fake = Fake::new();
    fake.stream().tell(opening()).tell(pulling()).tell(switched());
    let ended = json_deploy(&fake);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let lines = ended.json_lines();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["progress", "progress", "progress", "result"]);
    // Only what changed.
    assert_eq!(lines[1]["hosts"].as_array().unwrap().len(), 1);
    insta::assert_snapshot!("json_done", pretty(&[lines[1].clone(), lines[3].clone()]));
}

/// A failure has its reason, the host, and the log as the container wrote it.
#[test]
fn aborted() {
    let fake = Fake::new();
    fake.stream().tell(crate::story::aborted());
    let ended = json_deploy(&fake);
    assert_eq!(ended.code, 3, "{ended:?}");
    let result = ended.json_lines().pop().unwrap();
    assert_eq!((&result["outcome"], &result["exit_code"]), (&"aborted".into(), &3.into()));
    assert_eq!(result["reason"], "web-2 voted no: not healthy within 30s");
    assert_eq!(result["hosts"][1]["log_tail"][1], "\u{1b}[31mcannot open /data: permission denied\u{1b}[0m\r");
    // Escaped: even raw JSON does nothing to a terminal.
    assert!(ended.stdout.chars().all(|c| c == '\n' || !c.is_control()));
}

/// However it ends, the last line is a result with the exit code in it.
#[test]
fn every_end_is_a_result() {
    let check = |ended: &Ended, code: i32, outcome: &str| {
        assert_eq!(ended.code, code, "{ended:?}");
        let result = ended.json_lines().pop().unwrap();
        assert_eq!((&result["event"], &result["outcome"]), (&"result".into(), &outcome.into()));
        assert_eq!(result["exit_code"], code);
        assert!(result["error"].is_string() && !ended.stderr.is_empty(), "{ended:?}");
        result
    };
    let mut fake = Fake::new();
    fake.refuse(Status::not_found("no service web"));
    assert_eq!(check(&json_deploy(&fake), 2, "refused")["error"], "refused: no service web");

    let teller = fake.stream();
    teller.tell(opening());
    let mut running = Running::start(fake.command(&[&DEPLOY[..], &["--json"]].concat()));
    running.wait_for_stdout("progress");
    running.interrupt();
    assert_eq!(check(&running.wait(), 130, "interrupted")["deployment"], "web-42");

    let teller = fake.stream();
    teller.tell(opening());
    let args = [&DEPLOY[..], &["--json", "--reconnect-timeout", "0s"]].concat();
    let mut running = Running::start(fake.command(&args));
    running.wait_for_stdout("progress");
    fake.kill();
    let ended = running.wait();
    assert_eq!(check(&ended, 5, "unreachable")["phase"], "preparing");
    let lost = &ended.json_lines()[1];
    assert_eq!((&lost["event"], &lost["state"]), (&"connection".into(), &"lost".into()));

    let soon = ["--json", "--connect-timeout", "100ms"];
    check(&fake.run(&[&DEPLOY[..], &soon].concat()), 5, "unreachable");
    check(&fake.run(&[&["status"][..], &soon].concat()), 5, "unreachable");
    let mut command = bare();
    command.args(["hosts", "--json"]);
    check(&run(command), 2, "refused");
}

/// The other verbs: one document each.
#[test]
fn documents() {
    let fake = Fake::new();
    let host =
        HostServiceStatus { host: "web-1".into(), connected: true, current: true, ..HostServiceStatus::default() };
    let service = ServiceStatus {
        service: "web".into(),
        spec_revision: 7,
        version: "2.3.1".into(),
        generation: 42,
        latest: settled().deployment,
        hosts: vec![host],
        ..ServiceStatus::default()
    };
    let applied = ApplyReply { service: "web".into(), revision: 7, changed: true, hosts: vec!["web-1".into()] };
    fake.answer(|answers| {
        answers.apply = Ok(applied);
        answers.abort = Ok(AbortReply { deployment: Some(deployment(DeploymentPhase::Aborted, 1_000)) });
        answers.status = Ok(StatusReply { services: vec![service], revision: 99, epoch: 3, ..StatusReply::default() });
        answers.history = Ok(history_reply());
        answers.hosts = Ok(hosts_reply());
    });
    let applied = run_with_stdin(fake.command(&["apply", "-f", "-", "--json"]), "service: web\n").json();
    insta::assert_snapshot!("json_apply", pretty(&[applied]));
    let verbs: [(&str, &[&str]); 4] =
        [("abort", &["abort"]), ("status", &["status"]), ("history", &["history", "web"]), ("hosts", &["hosts"])];
    for (name, args) in verbs {
        let ended = fake.run(&[args, &["--json"]].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        assert_eq!(ended.stdout.lines().count(), 1);
        insta::assert_snapshot!(format!("json_{name}"), pretty(&[ended.json()]));
    }
}

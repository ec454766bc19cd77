//! How a deployment ends, and what is said about it.

use crate::fake::{Call, Fake};
use crate::run::{Running, run};
use crate::story::*;
use bgctl_proto::operator::{DeploymentKind, DeploymentPhase, HostPhase, HostProgress, Summary, WatchRequest};

/// Switched: the result on stdout, the way there on stderr, and nothing else.
#[test]
fn done() {
    let fake = Fake::new();
    fake.stream().tell(opening()).tell(pulling()).tell(ready()).tell(switched());
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 0, "{ended:?}");
    insta::assert_snapshot!("done_stdout", ended.stdout);
    insta::assert_snapshot!("done_stderr", ended.stderr);
}

/// A host was away, and might be: done, and the result says who and what comes of it.
#[test]
fn done_without_one() {
    let fake = Fake::new();
    fake.stream().tell(opening()).tell(switched_without_one());
    let ended = fake.run(&["deploy", "web", "--version", "2.3.1", "--exclude", "web-3,web-4"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    insta::assert_snapshot!("done_without_one_stdout", ended.stdout);
    let Call::Deploy(request) = &fake.calls()[0] else { panic!("{:?}", fake.calls()) };
    assert_eq!(request.exclude, ["web-3", "web-4"]);
}

/// One host says no: nothing changed, and the reason is there with the container's last words, made harmless.
#[test]
fn aborted_with_reason_and_log() {
    let fake = Fake::new();
    fake.stream().tell(opening()).tell(aborted());
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 3, "{ended:?}");
    insta::assert_snapshot!("aborted_stdout", ended.stdout);
    insta::assert_snapshot!("aborted_stderr", ended.stderr);
    let harmless = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control());
    assert!(harmless(&ended.stdout) && harmless(&ended.stderr), "{ended:?}");
}

/// Taken back in the watch. Without --watch the command was done before that, so with it.
#[test]
fn rolled_back_in_the_watch() {
    let fake = Fake::new();
    fake.stream().tell(opening()).tell(switched()).tell(rolled_back());
    let ended = fake.run(&["deploy", "web", "--version", "2.3.1", "--watch"]);
    assert_eq!(ended.code, 4, "{ended:?}");
    insta::assert_snapshot!("rolled_back_stdout", ended.stdout);
}

/// The stream about the switch ends with it; --watch asks for the rest with Watch.
#[test]
fn watch_goes_on_after_the_switch() {
    let fake = Fake::new();
    fake.stream().tell(opening()).tell(last(switched()));
    fake.stream().tell(switched()).tell(settled());
    let ended = fake.run(&["deploy", "web", "--version", "2.3.1", "--watch"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("settled"), "{}", ended.stdout);
    assert!(!ended.stderr.contains("lost"), "{}", ended.stderr);
    let watch = WatchRequest { deployment: "web-42".into(), until_settled: true };
    assert_eq!(fake.calls()[1..], [Call::Watch(watch)]);
}

/// Attached to a deployment that someone else began: said first.
#[test]
fn attached() {
    let fake = Fake::new();
    let mut first = opening();
    first.attached = true;
    fake.stream().tell(first).tell(switched());
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 0, "{ended:?}");
    let told = "attached to deployment web-42, which was already running, begun by alice\n";
    assert!(ended.stderr.starts_with(told), "{}", ended.stderr);
}

/// A rollback without a service: one call, an id the controller takes, and the measured loss if there is one.
#[test]
fn rollback() {
    let fake = Fake::new();
    let mut event = switched();
    let deployment = event.deployment.as_mut().unwrap();
    deployment.kind = DeploymentKind::Rollback.into();
    (deployment.version, deployment.from_version) = ("2.3.0".into(), "2.3.1".into());
    deployment.summary = Some(Summary { requests_lost: Some(0), ..summary() });
    fake.stream().tell(event);
    let ended = fake.run(&["rollback"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    insta::assert_snapshot!("rollback_stdout", ended.stdout);
    let calls = fake.calls();
    let [Call::Rollback(request)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(request.service, "");
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!((1..=63).contains(&request.request_id.len()) && request.request_id.chars().all(fits), "{request:?}");
}

/// Two commands are two requests.
#[test]
fn request_ids_differ() {
    let fake = Fake::new();
    for _ in 0..2 {
        fake.stream().tell(switched());
        assert_eq!(fake.run(&DEPLOY).code, 0);
    }
    let calls = fake.calls();
    let [Call::Deploy(first), Call::Deploy(second)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_ne!(first.request_id, second.request_id);
}

/// What is watched may be over: the code is that of the deployment. `--until switched` is content with less.
#[test]
fn watch_tells_the_deployments_own_code() {
    let fake = Fake::new();
    let told = [(aborted(), 3), (rolled_back(), 4), (settled(), 0)];
    for (event, code) in told {
        fake.stream().tell(event);
        assert_eq!(fake.run(&["watch", "web-42"]).code, code);
    }
    let teller = fake.stream();
    teller.tell(switched());
    assert_eq!(fake.run(&["watch", "web-42", "--until", "switched"]).code, 0);
    let until_settled = fake.calls().into_iter().map(|call| matches!(call, Call::Watch(watch) if watch.until_settled));
    assert_eq!(until_settled.collect::<Vec<_>>(), [true, true, true, false]);
}

/// A report that ends in the middle of a deployment is no success.
#[test]
fn a_short_report_is_an_error() {
    let fake = Fake::new();
    fake.stream().tell(opening()).tell(last(ready()));
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("bgctl watch web-42"), "{}", ended.stderr);
}

/// Ctrl-C ends the looking, not the deployment, and says so.
#[test]
fn interrupted() {
    let fake = Fake::new();
    let teller = fake.stream();
    teller.tell(opening()).tell(pulling());
    let mut running = Running::start(fake.command(&DEPLOY));
    running.wait_for_stderr("pulling");
    running.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(ended.stdout, "");
    insta::assert_snapshot!("interrupted_stderr", ended.stderr);
}

/// When a version is bad everywhere, a few hosts say why and the others are counted.
#[test]
fn many_failures() {
    let fake = Fake::new();
    let mut event = aborted();
    let broken = event.hosts[1].clone();
    event.hosts = (0..40)
        .map(|i| bgctl_proto::operator::HostProgress { host: format!("web-{i:02}"), ..broken.clone() })
        .collect();
    fake.stream().tell(event);
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(ended.stdout.matches("cannot open /data").count(), 5);
    assert!(ended.stdout.contains("… and 35 more failed; all of them: bgctl history web --json"), "{}", ended.stdout);
}

/// Colours go where they are asked to, and nowhere else.
#[test]
fn colours() {
    let fake = Fake::new();
    let run = |args: &[&str], no_color: &str| {
        fake.stream().tell(switched());
        let mut command = fake.command(&[&DEPLOY[..], args].concat());
        command.env("NO_COLOR", no_color).env("TERM", "xterm");
        run(command)
    };
    assert!(run(&["--color", "always"], "").stdout.contains("\u{1b}[32m"));
    for (args, no_color) in [(&["--color", "never"][..], ""), (&[], "1"), (&[], "")] {
        let ended = run(args, no_color);
        assert!(!ended.stdout.contains('\u{1b}') && !ended.stderr.contains('\u{1b}'), "{ended:?}");
    }
}

/// A host away and left out by policy is in the result, and does not make it a failure.
#[test]
fn a_host_left_out() {
    let fake = Fake::new();
    let mut event = switched();
    event.hosts[2] = HostProgress { left_out: true, ..host("web-3", HostPhase::Away) };
    event.deployment.as_mut().unwrap().phase = DeploymentPhase::Settled.into();
    fake.stream().tell(event);
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("2 of 3 hosts serve 2.3.1") && ended.stdout.contains("AWAY"), "{}", ended.stdout);
}

/// A host that voted yes and cannot follow is no success, in words and in the exit code.
#[test]
fn a_host_that_cannot_follow() {
    let fake = Fake::new();
    for phase in [DeploymentPhase::Watching, DeploymentPhase::Settled] {
        let mut event = switched();
        let detail = "committed, and not followed yet: it will when it can".to_owned();
        event.hosts[2] = HostProgress { detail, ..host("web-3", HostPhase::Ready) };
        event.deployment.as_mut().unwrap().phase = phase.into();
        fake.stream().tell(event.clone());
        let ended = fake.run(&DEPLOY);
        assert_eq!(ended.code, 6, "{ended:?}");
        for words in ["NOT EVERYWHERE, 2 of 3 hosts serve 2.3.1; web-3 not yet", "not followed yet"] {
            assert!(ended.stdout.contains(words), "{}", ended.stdout);
        }
        fake.stream().tell(event);
        let told = fake.run(&[&DEPLOY[..], &["--json"]].concat()).stdout;
        assert!(told.contains("\"outcome\":\"incomplete\"") && told.contains("\"exit_code\":6"), "{told}");
    }
}

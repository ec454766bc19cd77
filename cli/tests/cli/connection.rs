//! Controllers that are away, come back, or hand over.

use crate::fake::{Call, Fake};
use crate::run::{Running, run};
use crate::story::*;
use bgctl_proto::operator::{HostsReply, WatchRequest};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// A port where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Nobody there: each address with its reason, and the word that nothing was asked.
#[test]
fn unreachable() {
    let fake = Fake::new();
    let (first, second) = (nobody(), nobody());
    for args in [&DEPLOY[..], &["rollback"], &["status"], &["apply", "-f", "/dev/null"]] {
        let mut command = fake.known_as(&format!("{first},{second}"), &fake.pki.operator());
        command.args(args).args(["--connect-timeout", "100ms"]);
        let ended = run(command);
        assert_eq!(ended.code, 5, "{args:?}: {ended:?}");
        assert_eq!(ended.stdout, "");
        for expected in [&first, &second, "Connection refused", "the request reached none of them"] {
            assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
        }
    }
}

/// A controller that restarts: whoever listened goes away in the handshake, then nobody listens, then it is there.
#[test]
fn a_restart_is_waited_for() {
    for args in [&DEPLOY[..], &["hosts"]] {
        let mut fake = Fake::new();
        fake.stream().tell(switched());
        fake.answer(|answers| answers.hosts = Ok(HostsReply::default()));
        fake.kill();
        let dying = TcpListener::bind(fake.address()).unwrap();
        let running = Running::start(fake.command(args));
        drop(dying.accept().unwrap());
        drop(dying);
        std::thread::sleep(Duration::from_millis(600));
        fake.start();
        let ended = running.wait();
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        assert_eq!(fake.calls().len(), 1, "{args:?}");
    }
}

/// One that accepts and then says nothing is given up after --connect-timeout.
#[test]
fn mute() {
    let fake = Fake::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = fake.known_as(&address, &fake.pki.operator());
    command.args(["hosts", "--connect-timeout", "200ms"]);
    let ended = run(command);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("no answer within 200ms"), "{}", ended.stderr);
}

/// Someone else's controller is nobody to talk to.
#[test]
fn another_ca() {
    let (fake, other) = (Fake::new(), Fake::new());
    let mut command = fake.known_as(&other.address(), &fake.pki.operator());
    command.arg("hosts");
    let ended = run(command);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    assert_eq!(other.calls(), []);
}

/// The first is down, the second is not the leader, the third answers.
#[test]
fn the_next_one_is_asked() {
    let follower = Fake::new();
    let leader = Fake::with(Arc::clone(&follower.pki));
    follower.answer(|answers| answers.hosts = Err(Status::unavailable("not the leader")));
    leader.answer(|answers| answers.hosts = Ok(HostsReply::default()));
    let controllers = [nobody(), follower.address(), leader.address()].join(",");
    let mut command = leader.known_as(&controllers, &leader.pki.operator());
    command.arg("hosts");
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!((follower.calls(), leader.calls()), (vec![Call::Hosts], vec![Call::Hosts]));
}

/// The three ways in which a stream breaks while the controller restarts. Each goes on with Watch, and tells no
/// host's phase twice.
#[test]
fn a_broken_stream_is_taken_up_again() {
    type Break = fn(&mut Fake, crate::fake::Teller);
    let breaks: [(&str, Break); 3] = [
        ("ended", |_, teller| drop(teller)),
        ("unavailable", |_, teller| teller.fail(Status::unavailable("shutting down"))),
        ("killed", |fake, _| {
            fake.kill();
            fake.start();
        }),
    ];
    for (name, break_it) in breaks {
        let mut fake = Fake::new();
        let teller = fake.stream();
        teller.tell(opening()).tell(pulling());
        let mut running = Running::start(fake.command(&DEPLOY));
        running.wait_for_stderr("pulling");
        fake.stream().tell(opening()).tell(pulling()).tell(ready()).tell(switched());
        break_it(&mut fake, teller);
        let ended = running.wait();
        assert_eq!(ended.code, 0, "{name}: {ended:?}");
        let calls = fake.calls();
        let watch = Call::Watch(WatchRequest { deployment: "web-42".into(), until_settled: false });
        assert_eq!(calls[1..], [watch], "{name}");
        assert!(ended.stderr.contains("connection to the controller lost"), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("connection to the controller is back"), "{name}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("switched\n").count(), 3, "{name}: {}", ended.stderr);
    }
}

/// Lost before the first word: the same request again, so that it is one deployment. That one is not "attached".
#[test]
fn an_unanswered_request_is_repeated_as_itself() {
    let fake = Fake::new();
    drop(fake.stream());
    fake.refuse(Status::unavailable("no leader"));
    fake.stream().tell(switched());
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 0, "{ended:?}");
    let calls = fake.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!(matches!(calls[0], Call::Deploy(_)) && calls.iter().all(|call| *call == calls[0]), "{calls:?}");
}

/// Gone for good: the deployment's id, that it goes on, and how to look.
#[test]
fn lost_for_good() {
    let mut fake = Fake::new();
    let teller = fake.stream();
    teller.tell(opening()).tell(pulling());
    let mut running = Running::start(fake.command(&[&DEPLOY[..], &["--reconnect-timeout", "300ms"]].concat()));
    running.wait_for_stderr("pulling");
    fake.kill();
    let ended = running.wait();
    assert_eq!(ended.code, 5, "{ended:?}");
    assert_eq!(ended.stdout, "");
    for expected in ["not back within 300ms", "deployment web-42 goes on by itself", "bgctl watch web-42"] {
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
}

/// Gone before the id was known: nobody can say whether it was started, and that is what is said.
#[test]
fn lost_before_the_first_word() {
    let fake = Fake::new();
    drop(fake.stream());
    let ended = fake.run(&[&DEPLOY[..], &["--reconnect-timeout", "0s"]].concat());
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("not known whether the request was taken"), "{}", ended.stderr);
    assert!(ended.stderr.contains("bgctl deploy web --version 2.3.1"), "{}", ended.stderr);
}

/// After a restart the controller does not know the deployment: not "refused", something was started.
#[test]
fn a_no_in_the_middle_is_no_refusal() {
    let fake = Fake::new();
    fake.stream().tell(opening());
    fake.refuse(Status::not_found("no deployment web-42"));
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("no deployment web-42"), "{}", ended.stderr);
}

//! Everything that is refused before anything was started: exit code 2, and a message that says what to do.

use crate::fake::Fake;
use crate::run::{bare, run};
use crate::story::DEPLOY;
use std::fs;
use tonic::{Code, Status};

/// The controller's no, whatever its code; at the call or as the stream's first word.
#[test]
fn the_controllers_no() {
    let fake = Fake::new();
    let codes = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::PermissionDenied,
        Code::AlreadyExists,
        Code::Unauthenticated,
    ];
    for code in codes {
        let status = || Status::new(code, "service \"web\" is unknown; bgctl status lists them");
        fake.refuse(status());
        let at_once = fake.run(&DEPLOY);
        fake.stream().fail(status());
        let first_word = fake.run(&DEPLOY);
        for ended in [at_once, first_word] {
            assert_eq!(ended.code, 2, "{code:?}: {ended:?}");
            assert_eq!(ended.stdout, "");
            assert_eq!(ended.stderr, "bgctl: refused: service \"web\" is unknown; bgctl status lists them\n");
        }
    }
}

/// A fault is not a no.
#[test]
fn the_controllers_fault() {
    let fake = Fake::new();
    fake.refuse(Status::internal("the store is corrupt"));
    let ended = fake.run(&DEPLOY);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("the store is corrupt"), "{}", ended.stderr);
}

/// A spec's fault comes through with its lines as they are.
#[test]
fn invalid_spec() {
    let fake = Fake::new();
    let text = "web.yaml:3:5: unknown key `imagee`, expected `image`\n 3 |     imagee: demo/web\n   |     ^^^^^^";
    fake.answer(|answers| answers.apply = Err(Status::invalid_argument(text)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    fs::write(&file, "service: web\n").unwrap();
    let ended = fake.run(&["apply", "-f", file.to_str().unwrap()]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, format!("bgctl: refused: {text}\n"));
}

/// A file that is no spec does not reach the controller.
#[test]
fn files_that_are_no_spec() {
    let fake = Fake::new();
    let folder = tempfile::tempdir().unwrap();
    let (large, binary) = (folder.path().join("large"), folder.path().join("binary"));
    fs::write(&large, vec![b'a'; (1 << 20) + 1]).unwrap();
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    let told = [
        (folder.path().join("absent"), "No such file"),
        (large, "larger than 1048576 bytes"),
        (binary, "not UTF-8"),
        (folder.path().to_owned(), "Is a directory"),
    ];
    for (file, expected) in told {
        let ended = fake.run(&["apply", "-f", file.to_str().unwrap()]);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    assert_eq!(fake.calls(), []);
}

/// No identity: which files, where, and what makes them.
#[test]
fn identity_missing() {
    let fake = Fake::new();
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fake.pki.operator().join("ca.crt"), folder.path().join("ca.crt")).unwrap();
    let mut command = fake.known_as(&fake.address(), folder.path());
    command.arg("hosts");
    let ended = run(command);
    assert_eq!(ended.code, 2, "{ended:?}");
    let expected = ["operator.crt, operator.key missing", "bgctl-controller issue-operator", "--identity DIR"];
    assert!(expected.iter().all(|text| ended.stderr.contains(text)), "{}", ended.stderr);
}

/// The default is ~/.config/bgctl.
#[test]
fn identity_default() {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare();
    command.env("HOME", home.path()).args(["hosts", "--controller", "127.0.0.1:1"]);
    let ended = run(command);
    assert_eq!(ended.code, 2, "{ended:?}");
    let folder = home.path().join(".config/bgctl");
    assert!(ended.stderr.contains(folder.to_str().unwrap()), "{}", ended.stderr);
}

/// Files that are there and useless are named.
#[test]
fn identity_unusable() {
    let fake = Fake::new();
    let folder = tempfile::tempdir().unwrap();
    for name in ["ca.crt", "operator.crt", "operator.key"] {
        fs::write(folder.path().join(name), "no PEM").unwrap();
    }
    let mut command = fake.known_as(&fake.address(), folder.path());
    command.arg("hosts");
    let ended = run(command);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("ca.crt"), "{}", ended.stderr);
}

/// Arguments that make no sense, and the ones clap refuses, have the same code.
#[test]
fn bad_arguments() {
    let fake = Fake::new();
    let told: [(&[&str], &str); 7] = [
        (&["hosts", "--controller", "nowhere"], "expected HOST:PORT"),
        (&["hosts", "--connect-timeout", "0s"], "expected more than 0s"),
        (&["hosts", "--connect-timeout", "1h"], "at most 5s"),
        (&["deploy", "web"], "--version"),
        (&["history", "web", "--limit", "0"], "--limit"),
        (&["fly"], "fly"),
        (&[], "Usage"),
    ];
    for (args, expected) in told {
        let ended = fake.run(args);
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
    }
    let mut command = bare();
    command.arg("hosts");
    let ended = run(command);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("BGCTL_CONTROLLERS"), "{}", ended.stderr);
}

/// Help is data, and has the exit codes.
#[test]
fn help() {
    for args in [&["--help"][..], &["deploy", "--help"]] {
        let mut command = bare();
        command.args(args);
        let ended = run(command);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{args:?}");
        assert!(ended.stdout.contains("rolled back") && ended.stdout.contains("130"), "{}", ended.stdout);
    }
    let mut command = bare();
    command.arg("--help");
    insta::assert_snapshot!("help", run(command).stdout);
}

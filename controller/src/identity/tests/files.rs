//! What is on disk afterwards, also when it did not work.

use super::{Authority, DAY, Validity, host, init, issue_host, issue_operator, labels, operator_folder};
use crate::identity::{IssueError, LABELS_MAX, is_label};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Every path below a folder, with its mode.
fn tree(dir: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        if entry.file_type().expect("a type").is_dir() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path(), mode);
    }
    found
}

fn expected(dir: &Path, files: &[(&str, u32)]) -> BTreeMap<PathBuf, u32> {
    files.iter().map(|(name, mode)| (dir.join(name), *mode)).collect()
}

#[test]
fn keys_are_for_their_owner_only() {
    let temporary = tempfile::tempdir().expect("a folder");
    let dir = temporary.path().join("fleet");
    assert_eq!(init(&dir, "alice").expect("made"), dir.join("operators/alice"));
    issue_host(&dir, &host("web-1"), &labels(&[]), &dir.join("hosts/web-1")).expect("made");
    issue_operator(&dir, "bob@example.com", &dir.join("bob")).expect("made");
    let all = [
        ("ca.crt", 0o644),
        ("ca.key", 0o600),
        ("controller.crt", 0o644),
        ("controller.key", 0o600),
        ("operators", 0o700),
        ("operators/alice", 0o700),
        ("operators/alice/ca.crt", 0o644),
        ("operators/alice/operator.crt", 0o644),
        ("operators/alice/operator.key", 0o600),
        ("hosts", 0o700),
        ("hosts/web-1", 0o700),
        ("hosts/web-1/ca.crt", 0o644),
        ("hosts/web-1/host.crt", 0o644),
        ("hosts/web-1/host.key", 0o600),
        ("bob", 0o700),
        ("bob/ca.crt", 0o644),
        ("bob/operator.crt", 0o644),
        ("bob/operator.key", 0o600),
    ];
    assert_eq!(tree(&dir), expected(&dir, &all));
    assert_eq!(tree(temporary.path())[&dir], 0o700);
}

#[test]
fn nothing_is_ever_overwritten() {
    let temporary = tempfile::tempdir().expect("a folder");
    let dir = temporary.path();
    init(dir, "alice").expect("made");
    issue_host(dir, &host("web-1"), &labels(&[]), &dir.join("web-1")).expect("made");
    let contents = || tree(dir).into_keys().map(|path| (std::fs::read(&path).ok(), path)).collect::<Vec<_>>();
    let before = contents();
    for error in [
        init(dir, "alice").expect_err("there is a CA"),
        init(dir, "bob").expect_err("there is a CA"),
        issue_host(dir, &host("web-1"), &labels(&[]), &dir.join("web-1")).expect_err("there is a host"),
        issue_operator(dir, "alice", &operator_folder(dir, "alice")).expect_err("there is an operator"),
    ] {
        assert!(matches!(error, IssueError::Exists { .. }), "{error}");
        assert!(error.to_string().contains("exists already, and no identity is ever overwritten"), "{error}");
    }
    assert_eq!(contents(), before);
}

/// A CA whose key is kept elsewhere, or whose certificate was lost, is no free place.
#[test]
fn half_a_ca_is_not_overwritten_either() {
    for remaining in ["ca.key", "ca.crt"] {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(remaining), "precious").expect("written");
        let error = init(dir.path(), "alice").expect_err("refused");
        assert!(matches!(&error, IssueError::Exists { path } if path.ends_with(remaining)), "{error}");
        assert_eq!(tree(dir.path()).len(), 1);
    }
}

/// A folder in the way of a file: what was made before it is taken back.
#[test]
fn a_failure_leaves_nothing_half_made() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("controller.crt")).expect("made");
    let error = init(dir.path(), "alice").expect_err("refused");
    assert!(matches!(&error, IssueError::Exists { path } if path.ends_with("controller.crt")), "{error}");
    let left: Vec<PathBuf> = tree(dir.path()).into_keys().filter(|path| path.is_file()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());

    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("operators"), "a file").expect("written");
    let error = init(dir.path(), "alice").expect_err("refused");
    assert!(matches!(error, IssueError::File { .. }), "{error}");
    assert_eq!(tree(dir.path()).len(), 1);
}

#[test]
fn of_two_at_the_same_time_one_wins_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let results: Vec<_> = std::thread::scope(|scope| {
        let dir = dir.path();
        let attempts = ["a", "b", "c", "d"].map(|name| scope.spawn(move || init(dir, name).is_ok()));
        attempts.into_iter().map(|attempt| attempt.join().expect("no panic")).collect()
    });
    assert_eq!(results.iter().filter(|won| **won).count(), 1);
    // Files of two attempts mixed would be a key that does not fit.
    issue_host(dir.path(), &host("web-1"), &labels(&[]), &dir.path().join("web-1")).expect("a CA that fits together");
    let is_draft = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    assert!(!tree(dir.path()).keys().any(is_draft), "drafts are left");
}

#[test]
fn a_ca_that_cannot_sign_is_told_apart() {
    let (dir, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let attempt = || issue_host(dir.path(), &host("web-1"), &labels(&[]), &dir.path().join("web-1"));
    let error = attempt().expect_err("no CA");
    assert!(matches!(error, IssueError::NoAuthority { .. }) && error.to_string().contains("bgctl-controller init"));

    init(dir.path(), "alice").expect("made");
    init(other.path(), "alice").expect("made");
    let own = std::fs::read(dir.path().join("ca.key")).expect("a key");
    std::fs::copy(other.path().join("ca.key"), dir.path().join("ca.key")).expect("copied");
    let error = attempt().expect_err("another CA's key").to_string();
    assert!(error.contains("ca.key is not the key of ca.crt"), "{error}");
    std::fs::write(dir.path().join("ca.key"), "nonsense").expect("written");
    let error = attempt().expect_err("no key").to_string();
    assert!(error.contains("ca.key: "), "{error}");
    std::fs::write(dir.path().join("ca.key"), own).expect("written");
    std::fs::write(dir.path().join("ca.crt"), "nonsense").expect("written");
    let error = attempt().expect_err("no certificate").to_string();
    assert!(error.contains("ca.crt: "), "{error}");

    let now = SystemTime::now();
    let (expired, key) = Authority::create(Validity { from: now - 2 * DAY, to: now - DAY }).expect("made");
    std::fs::write(dir.path().join("ca.crt"), expired.certificate()).expect("written");
    std::fs::write(dir.path().join("ca.key"), key).expect("written");
    let error = attempt().expect_err("expired").to_string();
    assert!(error.contains("it expired on "), "{error}");
    assert!(!dir.path().join("web-1").exists());
}

#[test]
fn a_certificate_does_not_outlive_its_ca() {
    let dir = tempfile::tempdir().expect("a folder");
    let now = SystemTime::now();
    let (authority, key) = Authority::create(Validity { from: now - DAY, to: now + DAY }).expect("made");
    std::fs::write(dir.path().join("ca.crt"), authority.certificate()).expect("written");
    std::fs::write(dir.path().join("ca.key"), key).expect("written");
    issue_host(dir.path(), &host("web-1"), &labels(&[]), &dir.path().join("web-1")).expect("made");
    let end = |path: &Path| {
        let pem = std::fs::read(path).expect("a file");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
        pem.parse_x509().expect("a certificate").validity().not_after
    };
    assert_eq!(end(&dir.path().join("web-1/host.crt")), end(&dir.path().join("ca.crt")));
}

/// Each is for one end of a connection and for nothing else, and none of them can sign.
#[test]
fn a_certificate_says_what_it_is_for() {
    let temporary = tempfile::tempdir().expect("a folder");
    let dir = temporary.path();
    init(dir, "alice").expect("made");
    issue_host(dir, &host("web-1"), &labels(&[]), &dir.join("web-1")).expect("made");
    for (file, server) in [("controller.crt", true), ("web-1/host.crt", false), ("operators/alice/operator.crt", false)]
    {
        let pem = std::fs::read(dir.join(file)).expect("a file");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
        let certificate = pem.parse_x509().expect("a certificate");
        let usage = certificate.extended_key_usage().expect("readable").expect("there is one").value;
        assert_eq!((usage.server_auth, usage.client_auth), (server, !server), "{file}");
        assert!(!usage.any && usage.other.is_empty(), "{file}");
        let key_usage = certificate.key_usage().expect("readable").expect("there is one").value;
        assert!(key_usage.digital_signature() && !key_usage.key_cert_sign() && !certificate.is_ca(), "{file}");
    }
}

#[test]
fn names_and_labels_that_would_mean_something_else_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["", "..", ".", "../alice", "a/b", "-a", "a b", "a\n", "ä", "a%2f", &"a".repeat(64)] {
        let error = init(dir.path(), name).expect_err(name);
        assert!(matches!(error, IssueError::Malformed { what: "operator", .. }), "{error}");
    }
    assert_eq!(tree(dir.path()).len(), 0);
    init(dir.path(), "alice").expect("made");
    let out = dir.path().join("web-1");
    for (key, value) in
        [("", "x"), ("x", ""), ("a=b", "x"), ("a", "b c"), ("a/b", "x"), ("-a", "x"), ("a", "b."), ("a", "é")]
    {
        let error = issue_host(dir.path(), &host("web-1"), &labels(&[(key, value)]), &out).expect_err("refused");
        assert!(matches!(error, IssueError::Malformed { what: "label", .. }), "{error}");
        assert!(!(is_label(key) && is_label(value)));
    }
    let many: BTreeMap<String, String> = (0..=LABELS_MAX).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    let error = issue_host(dir.path(), &host("web-1"), &many, &out).expect_err("refused").to_string();
    assert!(error.contains("at most 32 labels"), "{error}");
    assert!(!out.exists());
}

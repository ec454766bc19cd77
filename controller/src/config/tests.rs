use super::{Config, ConfigError};
use crate::store::StoreConfig;
use crate::store::etcd::{EtcdConfig, EtcdTls};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, "c.yaml").map_err(|error| error.to_string())
}

/// Its values are the defaults it names.
#[test]
fn the_sample_in_deploy_is_what_an_empty_file_means() {
    let sample = include_str!("../../../deploy/config/controller.yaml");
    assert_eq!(parse(sample), Ok(Config::default()));
    assert_eq!(parse(""), Ok(Config::default()));
    assert_eq!(parse("# nothing but a comment\n"), Ok(Config::default()));
}

/// The other ways it shows, in comments, are ways that work.
#[test]
fn what_the_sample_in_deploy_has_in_comments_works_too() {
    let sample = include_str!("../../../deploy/config/controller.yaml");
    let (_, etcd) = sample.split_once("#store:").expect("a second store, in comments");
    let lines = etcd.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
    let text = format!("store:{}", lines.collect::<Vec<_>>().join("\n"));
    assert!(matches!(parse(&text).expect(&text).store, StoreConfig::Etcd(_)));
}

#[test]
fn every_key_is_read() {
    let text = "listen: \"[::1]:0\"\nname: ctl-1\nadvertise: ctl-1.example.net:7443\nstate_dir: /srv/state\nidentity: /srv/id\nstore:\n  etcd:\n    \
                endpoints: [\"https://10.0.0.1:2379\", \"https://[::1]:2379\"]\n    prefix: /fleet-1/\n    \
                ca: /e/ca.crt\n    certificate: /e/c.crt\n    key: /e/c.key\n    lease_ttl: 10s\n    \
                request_timeout: 500ms\n";
    let file = |name: &str| PathBuf::from(format!("/e/{name}"));
    let tls = EtcdTls { ca: file("ca.crt"), cert: Some(file("c.crt")), key: Some(file("c.key")) };
    let etcd = EtcdConfig {
        prefix: "/fleet-1/".to_owned(),
        tls: Some(tls),
        lease_ttl_seconds: 10,
        request_timeout_milliseconds: u64::try_from(Duration::from_millis(500).as_millis()).expect("small"),
        ..EtcdConfig::new(vec!["https://10.0.0.1:2379".to_owned(), "https://[::1]:2379".to_owned()])
    };
    let expected = Config {
        listen: "[::1]:0".parse().expect("an address"),
        name: Some("ctl-1".to_owned()),
        advertise: Some("ctl-1.example.net:7443".to_owned()),
        state_dir: PathBuf::from("/srv/state"),
        identity: PathBuf::from("/srv/id"),
        store: StoreConfig::Etcd(etcd),
    };
    assert_eq!(parse(text), Ok(expected.clone()));
    assert_eq!(expected.identity_files().1, Path::new("/srv/id/controller.crt"));
}

#[test]
fn an_embedded_store_has_three_ways_to_be_written() {
    for (text, path) in [
        ("store: embedded", None),
        ("store: {embedded: {}}", None),
        ("store: {embedded: {path: /srv/store.redb}}", Some(PathBuf::from("/srv/store.redb"))),
    ] {
        assert_eq!(parse(text).expect(text).store, StoreConfig::Embedded { path }, "{text}");
    }
}

#[test]
fn faults_say_where_and_what_was_expected() {
    for (text, expected) in [
        ("- listen", "c.yaml:1:1: expected a map, such as `listen: 0.0.0.0:7443`, found a list"),
        (
            "listen: 7443",
            "c.yaml:1:9: listen: expected an address with a port, such as 0.0.0.0:7443 or \"[::]:7443\", found the number 7443",
        ),
        (
            "listen: localhost:7443",
            "c.yaml:1:9: listen: expected an address with a port, such as 0.0.0.0:7443 or \"[::]:7443\", found the text \"localhost:7443\"",
        ),
        (
            "name: -a",
            "c.yaml:1:7: name: expected 1 to 63 of A-Z, a-z, 0-9, '_', '.' and '-', beginning with a letter or digit, found the text \"-a\"",
        ),
        (
            "advertise: ctl-1",
            "c.yaml:1:12: advertise: expected HOST:PORT, such as 10.0.0.5:7443, found the text \"ctl-1\"",
        ),
        ("listn: 0.0.0.0:1", "c.yaml:1:1: listn: unknown key \"listn\"; did you mean `listen`?"),
        ("state_dir: state", "c.yaml:1:12: state_dir: expected an absolute path, found the text \"state\""),
        ("identity: [/a]", "c.yaml:1:11: identity: expected an absolute path, found a list"),
        ("identity:", "c.yaml:1:9: identity: expected an absolute path, found nothing"),
        (
            "store: sqlite",
            "c.yaml:1:8: store: expected `embedded`, or a map with `embedded` or `etcd`, found the text \"sqlite\"",
        ),
        ("store: {}", "c.yaml:1:8: store: expected `embedded` or `etcd`, found neither"),
        (
            "store: {embedded: {}, etcd: {endpoints: [\"http://a:1\"]}}",
            "c.yaml:1:8: store: expected `embedded` or `etcd`, found both",
        ),
        (
            "store: {etcd: {}}",
            "c.yaml:1:15: store.etcd: `endpoints` is missing, expected at least one, such as [http://10.0.0.1:2379]",
        ),
        ("store: {etcd: {endpoints: []}}", "c.yaml:1:27: store.etcd.endpoints: expected at least one endpoint"),
        (
            "store: {etcd: {endpoints: [\"https://a:1\"]}}",
            "c.yaml:1:28: store.etcd.endpoints[0]: expected http://HOST:PORT (https:// needs `ca`), found the text \"https://a:1\"",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a:1\"], ca: /ca}}",
            "c.yaml:1:28: store.etcd.endpoints[0]: expected https://HOST:PORT (with `ca`), found the text \"http://a:1\"",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a\"]}}",
            "c.yaml:1:28: store.etcd.endpoints[0]: expected http://HOST:PORT (https:// needs `ca`), found the text \"http://a\"",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a:1\"], prefix: x}}",
            "c.yaml:1:51: store.etcd.prefix: expected 2 to 64 of A-Z, a-z, 0-9, '/', '_', '.' and '-', ending with '/', found the text \"x\"",
        ),
        (
            "store: {etcd: {endpoints: [\"https://a:1\"], ca: /ca, key: /k}}",
            "c.yaml:1:15: store.etcd: expected `certificate` and `key` together, and `ca` with them",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a:1\"], tls: {}}}",
            "c.yaml:1:43: store.etcd.tls: unknown key \"tls\"; expected `ca`, `certificate` and `key` beside `endpoints`",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a:1\"], lease_ttl: 1s}}",
            "c.yaml:1:54: store.etcd.lease_ttl: expected a time from 2s to 1m, such as 500ms, 10s or 1m30s, found the text \"1s\"",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a:1\"], lease_ttl: 2500ms}}",
            "c.yaml:1:15: store.etcd: expected lease_ttl in whole seconds, found 2.5s",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a:1\"], request_timeout: 2}}",
            "c.yaml:1:60: store.etcd.request_timeout: expected a time from 100ms to 1m, such as 500ms, 10s or 1m30s, with its unit (ms, s, m, h), found the number 2",
        ),
        ("identity: /a\nidentity: /b", "c.yaml:2:1: the key \"identity\" is here twice, first on line 1"),
        ("a: b: c", "c.yaml:1:5: not valid YAML: mapping values are not allowed in this context"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.lines().next(), Some(expected), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/controller.yaml")).expect_err("it is not there");
    assert!(matches!(&error, ConfigError::Unreadable { path, .. } if path.ends_with("controller.yaml")));
    assert_eq!(error.to_string(), "cannot read the config file /nonexistent/controller.yaml");
}

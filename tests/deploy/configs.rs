//! The sample configs, read by the programs they are for.

use super::{path, text};
use bgctl_agent::nginx::NginxConfig;
use bgctl_controller::spec::Spec;

#[test]
fn the_agents_config_is_read_and_shows_the_defaults() {
    let config = bgctl_agent::config::Config::load(&path("config/agent.yaml")).expect("the sample is valid");
    assert_eq!(config.nginx, NginxConfig::default());
    let folder = tempfile::tempdir().expect("a folder");
    let shortest = folder.path().join("agent.yaml");
    std::fs::write(&shortest, format!("controllers: {:?}\n", config.controllers)).expect("written");
    let defaults = bgctl_agent::config::Config::load(&shortest).expect("all but the controllers has a default");
    assert_eq!(format!("{config:?}"), format!("{defaults:?}"), "the sample says it shows the defaults");
}

#[test]
fn the_controllers_config_is_read_and_shows_the_defaults() {
    let config = bgctl_controller::config::Config::load(&path("config/controller.yaml")).expect("the sample is valid");
    assert_eq!(config, bgctl_controller::config::Config::default());
}

/// The other store's keys stand in comments.
#[test]
fn the_controllers_config_for_etcd_is_read_as_well() {
    let sample = text("config/controller.yaml");
    let lines = sample.lines().filter(|line| *line != "store: embedded");
    let lines = lines.map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') || key.starts_with("  ") => key,
        Some(_) | None => line,
    });
    let with_etcd: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(with_etcd.contains("\nstore:\n  etcd:\n"), "{with_etcd}");
    let config = bgctl_controller::config::Config::parse(&with_etcd, "controller.yaml")
        .unwrap_or_else(|error| panic!("{error}\n{with_etcd}"));
    assert_ne!(config.store, bgctl_controller::config::Config::default().store);
}

#[test]
fn the_service_is_read() {
    let spec = Spec::parse(&text("config/web.yaml"), "web.yaml").unwrap_or_else(|error| panic!("{error}"));
    assert!(spec.selects(&[("role".to_owned(), "web".to_owned())].into()));
    let broken = text("config/web.yaml").replace("prepare_timeout: 5m", "prepare_timeout: 5 parsecs");
    Spec::parse(&broken, "web.yaml").expect_err("a bad duration is refused");
}

/// One of three; the other two differ in what is theirs.
#[test]
fn the_config_of_one_controller_of_three_is_read() {
    let path = path("config/controller-of-three.yaml");
    let config = bgctl_controller::config::Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
    let replica = config.replica("anything");
    assert_eq!((replica.name.as_str(), replica.address.as_str()), ("ctl-1", "ctl-1.example.com:7443"));
    assert_ne!(config.store, bgctl_controller::config::Config::default().store);
}

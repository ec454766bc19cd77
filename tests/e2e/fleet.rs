//! The whole on real parts: what users of a fleet see through deployments and rollbacks, and that nothing of a
//! fleet is left when it goes.

use bgctl_tests::fleet::{Fleet, FleetOptions, Store};
use bgctl_tests::load::{Load, LoadHandle, LoadOptions, LoadReport};
use bgctl_tests::process::working_in;
use bollard::Docker;
use rustix::process::Signal;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Deployments, and as many rollbacks: a short run of what the benchmark does twenty times.
const ROUNDS: usize = 5;

/// Steady load on every host.
async fn load_on(fleet: &Fleet) -> LoadHandle {
    let options = LoadOptions { rate_per_second: Some(200), ..LoadOptions::default() };
    let load = Load::start(fleet.targets(), options).expect("good options");
    load.warm(LIMIT).await.expect("every connection answered");
    load
}

async fn served_everywhere(load: &LoadHandle, changes: usize) {
    let seen = |report: &LoadReport| report.targets.iter().all(|target| target.versions.len() > changes);
    load.wait_until(&format!("change {changes} on every host"), LIMIT, seen).await.expect("the version");
}

fn assert_nothing_lost(report: &LoadReport) {
    assert_eq!((report.total.failed, report.total.closed_idle), (0, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_and_rollbacks_lose_nothing_and_change_the_version_only_at_the_switch() {
    let fleet = Fleet::up(FleetOptions::default()).await.expect("a fleet");
    let load = load_on(&fleet).await;
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        let version = if round % 2 == 0 { "v2" } else { "v3" };
        let deployed = fleet.bgctl(&["deploy", "web", "--version", version, "--json"]).await;
        deployed.and_then(|ran| ran.success()).expect("a deployment");
        expected.push(version);
        served_everywhere(&load, expected.len()).await;
        let rolled_back = fleet.bgctl(&["rollback", "--json"]).await;
        rolled_back.and_then(|ran| ran.success()).expect("a rollback");
        expected.push("v1");
        served_everywhere(&load, expected.len()).await;
    }
    let report = load.stop().await;
    assert_nothing_lost(&report);
    let switches = report.switches().expect("all hosts alike");
    assert_eq!(switches.iter().map(|switch| switch.to.as_str()).collect::<Vec<_>>(), expected);
    fleet.down().await.expect("nothing left");
}

/// The zeros of the other tests mean something: what our switch replaces does cost users their connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_nginx_would_have_been_noticed() {
    let fleet = Fleet::up(FleetOptions { hosts: 1, ..FleetOptions::default() }).await.expect("a fleet");
    let load = load_on(&fleet).await;
    assert_nothing_lost(&load.snapshot());
    let nginx = working_in(&fleet.plan().dir, &["nginx"]);
    let master = nginx.iter().min_by_key(|process| (process.start_ticks, process.pid)).expect("a private nginx");
    assert!(master.signal(Signal::HUP));
    load.wait_until("a closed connection", LIMIT, |report| report.total.closed_idle > 0).await.expect("a loss");
    drop(load);
    fleet.down().await.expect("nothing left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_dies_changes_nothing_and_shows_its_last_words() {
    let fleet = Fleet::up(FleetOptions { hosts: 2, ..FleetOptions::default() }).await.expect("a fleet");
    let load = load_on(&fleet).await;
    let ran = fleet.bgctl(&["deploy", "web", "--version", "crash"]).await.expect("bgctl runs");
    assert_eq!(ran.code, Some(3), "{}", ran.short());
    let said = format!("{}{}", ran.stdout, ran.stderr);
    for words in [fleet.hosts()[0].name.as_str(), "cannot start without a database"] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    let good = fleet.bgctl(&["deploy", "web", "--version", "v2"]).await;
    good.and_then(|ran| ran.success()).expect("the next good deployment works");
    served_everywhere(&load, 1).await;
    let report = load.stop().await;
    assert_nothing_lost(&report);
    assert!(report.targets.iter().all(|target| target.sequence() == "v1 → v2"), "{report}");
    fleet.down().await.expect("nothing left");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_programs_come_back_while_users_are_served() {
    let fleet = Fleet::up(FleetOptions { hosts: 2, ..FleetOptions::default() }).await.expect("a fleet");
    let load = load_on(&fleet).await;
    let controller = fleet.kill_controller().await.expect("it ran");
    let agent = fleet.kill_agent(1).await.expect("it ran");
    fleet.wait_restarted("controller", controller, LIMIT).await.expect("a restart");
    fleet.wait_restarted(&fleet.hosts()[0].agent(), agent, LIMIT).await.expect("a restart");
    fleet.wait_connected(LIMIT).await.expect("all connected again");
    let deployed = fleet.bgctl(&["deploy", "web", "--version", "v2"]).await;
    deployed.and_then(|ran| ran.success()).expect("a deployment");
    served_everywhere(&load, 1).await;
    assert_nothing_lost(&load.stop().await);
    fleet.down().await.expect("nothing left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_on_etcd_works_and_nothing_of_it_is_left() {
    let options = FleetOptions { hosts: 1, store: Store::Etcd, ..FleetOptions::default() };
    let fleet = Fleet::up(options).await.expect("a fleet");
    let deployed = fleet.bgctl(&["deploy", "web", "--version", "v2"]).await;
    deployed.and_then(|ran| ran.success()).expect("a deployment");
    let plan = fleet.plan().clone();
    let names = ["etcd", "nginx", "bgctl-controlle", "bgctl-agent", "fleet"];
    assert!(working_in(&plan.dir, &names).len() >= names.len(), "the check below would see nothing");
    fleet.down().await.expect("nothing left");
    assert_eq!(working_in(&plan.dir, &names), []);
    assert!(!plan.dir.exists());
    let docker = Docker::connect_with_unix_defaults().expect("Docker");
    let networks = docker.list_networks(None).await.expect("Docker's networks");
    assert!(networks.iter().all(|network| network.name.as_ref() != Some(&plan.hosts[0].network)));
    let all = bollard::query_parameters::ListContainersOptionsBuilder::new().all(true).build();
    let containers = docker.list_containers(Some(all)).await.expect("Docker's containers");
    let host = Some(&plan.hosts[0].name);
    assert!(containers.iter().all(|container| container.labels.as_ref().and_then(|l| l.get("bgctl.host")) != host));
}

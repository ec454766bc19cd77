//! The fleet of namespaces itself: a host of it deploys, loses its power, dies at a crash point, and is cut off; and
//! nothing of it is left afterwards.

use bgctl_tests::load::{Load, LoadOptions};
use bgctl_tests::netfleet::{NetFleet, NetFleetOptions, Order};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

fn load(fleet: &NetFleet) -> bgctl_tests::load::LoadHandle {
    let _inside = fleet.runtime().enter();
    let options = LoadOptions { connections: 4, rate_per_second: Some(100), ..LoadOptions::default() };
    Load::start(fleet.targets(), options).expect("the options are in range")
}

async fn serves(fleet: &NetFleet, version: &str) {
    let is_so = |answer: &serde_json::Value| {
        let hosts = answer["services"][0]["hosts"].as_array().cloned().unwrap_or_default();
        hosts.len() == fleet.hosts().len()
            && hosts.iter().all(|host| host["connected"] == true && host["version"] == version)
    };
    fleet.wait_for(&format!("{version} everywhere"), LIMIT, &["status", "--json"], is_so).await.unwrap_or_else(
        |error| {
            panic!("{error}\n{}", fleet.log_ends());
        },
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_in_namespaces_deploys_dies_at_a_point_is_cut_off_and_loses_its_power() {
    let mut fleet = NetFleet::up(NetFleetOptions::default()).await.unwrap_or_else(|error| panic!("{error}"));
    let load = load(&fleet);
    load.warm(LIMIT).await.expect("the sample service answers");

    let host = &fleet.hosts()[0];
    let before = host.process("agent").expect("it runs");
    host.points().arm("after_prepared_fsync", Order::Abort).expect("a file");
    let ran = fleet.bgctl(&["deploy", "web", "--version", "v2"]).await.expect("bgctl");
    assert_eq!(ran.code, Some(0), "{}", ran.short());
    assert!(host.points().is_reached("after_prepared_fsync"));
    assert!(!before.is_alive(), "the agent lived through its own death");
    serves(&fleet, "v2").await;

    let cut = fleet.cut(&["h1"], &["c1"]).expect("iptables");
    let gone = |answer: &serde_json::Value| answer["hosts"][0]["connected"] == false;
    fleet.wait_for("the loss of the link", LIMIT, &["hosts", "--json"], gone).await.unwrap_or_else(|e| panic!("{e}"));
    fleet.heal(cut);
    fleet.wait_connected(LIMIT).await.unwrap_or_else(|error| panic!("{error}"));

    let report = load.stop().await;
    assert_eq!(report.total.failed, 0, "{report}\n{}", fleet.log_ends());
    assert_eq!(report.targets[0].sequence(), "v1 → v2");

    fleet.reboot(0).await.unwrap_or_else(|error| panic!("{error}"));
    serves(&fleet, "v2").await;
    let ran = fleet.bgctl(&["rollback"]).await.expect("bgctl");
    assert_eq!(ran.code, Some(0), "{}", ran.short());
    serves(&fleet, "v1").await;

    let dir = fleet.dir().to_owned();
    let processes: Vec<_> = ["dockerd", "bgctl-agent", "nginx", "containerd-shim"]
        .iter()
        .flat_map(|name| fleet.hosts()[0].processes(name))
        .collect();
    assert!(processes.len() >= 4, "{processes:?}");
    drop(fleet);
    assert!(processes.iter().all(|process| !process.is_alive()), "a process is left");
    assert!(!dir.exists(), "its folder is left");
    let groups = std::fs::read_dir(Path::new("/sys/fs/cgroup")).expect("control groups").flatten();
    let id = dir.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let mut below = groups.flat_map(|group| std::fs::read_dir(group.path()).into_iter().flatten().flatten());
    assert!(!below.any(|group| group.file_name().to_string_lossy().starts_with(&id)), "a control group is left");
}

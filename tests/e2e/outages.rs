//! nginx is stopped, killed, or its config spoiled: the agent brings it back, and says what is wrong meanwhile.
//! Users of that host notice; for how long is measured. Users of the others must not.

use super::docker::started;
use super::outage::{apart, over};
use super::scene::{ABORTED, DONE, LIMIT, Scene, assert_nothing_lost, hosts, told};
use bgctl_tests::load::{Load, LoadOptions, LoadReport};
use bgctl_tests::process::{Process, working_in};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// Longer than nginx stands still in any scene: a user who waits loses nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than the agent waits for nginx to follow a switch.
const STANDSTILL: Duration = Duration::from_secs(6);

/// The processes of host 1's nginx, its master first.
fn nginx(scene: &Scene) -> Vec<Process> {
    let dir = scene.fleet().plan().host_dir(&scene.fleet().hosts()[0]);
    let mut all = working_in(&dir, &["nginx"]);
    let pid_file = fs::read_to_string(dir.join("state/nginx/nginx.pid")).expect("nginx's pid");
    let master: i32 = pid_file.trim().parse().expect("a pid");
    all.sort_by_key(|process| process.pid != master);
    assert!(all.len() > 1, "nginx of host 1 does not run: {all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_that_dies_is_brought_back_on_the_same_version() {
    let scene = Scene::quiet(hosts(3)).await;
    scene.deploy("v2").await;
    for (what, signal, all) in
        [("stopped", Signal::TERM, false), ("killed whole", Signal::KILL, true), ("master killed", Signal::KILL, false)]
    {
        let (hit, others) = apart(&scene, 1).await;
        let processes = nginx(&scene);
        scene.note(format!("nginx of host 1 {what}"));
        for process in if all { &processes[..] } else { &processes[..1] } {
            process.signal(signal);
        }
        over(hit, &format!("nginx {what}"), "v2").await;
        assert_nothing_lost(&others.stop().await);
        assert_eq!(scene.at_rest().await, "v2");
    }

    // A deployment right then works, or fails cleanly.
    let processes = nginx(&scene);
    for process in &processes {
        process.signal(Signal::KILL);
    }
    let ran = scene.bgctl(&["deploy", "web", "--version", "v3"]).await;
    let expected = match ran.code {
        Some(DONE) => "v3",
        Some(ABORTED) => "v2",
        _ => panic!("neither done nor aborted: {}", told(&ran)),
    };
    assert_eq!(scene.at_rest().await, expected, "{}", told(&ran));
    scene.deploy("v1").await;
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_that_cannot_start_with_a_spoiled_config_gets_a_good_one() {
    let scene = Scene::quiet(hosts(2)).await;
    let (hit, others) = apart(&scene, 1).await;
    let config = scene.fleet().plan().host_dir(&scene.fleet().hosts()[0]).join("state/nginx/nginx.conf");
    fs::write(&config, "listen_to_reason on;\n").expect("nginx's config");
    for process in nginx(&scene) {
        process.signal(Signal::KILL);
    }
    over(hit, "nginx spoiled and killed", "v1").await;
    assert_nothing_lost(&others.stop().await);
    assert_eq!(scene.at_rest().await, "v1");
    scene.deploy("v2").await;
    scene.down().await;
}

/// nginx stands still until this is dropped.
struct Frozen(Vec<Process>);

impl Frozen {
    fn now(nginx: Vec<Process>) -> Self {
        for process in &nginx {
            process.signal(Signal::STOP);
        }
        Self(nginx)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            process.signal(Signal::CONT);
        }
    }
}

/// It serves nothing until it goes on, and then the new version: until then nobody may say that it does, and an agent
/// that dies meanwhile finds a switch that was made, which is not yet one that is followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_nginx_stands_still_is_not_called_switched() {
    let scene = Scene::quiet(hosts(2)).await;
    let patient = LoadOptions { rate_per_second: Some(100), timeout: PATIENCE, ..LoadOptions::default() };
    let load = Load::start(scene.fleet().targets(), patient).expect("good options");
    load.warm(LIMIT).await.expect("every connection answered");
    let slow = ["deploy", "web", "--version", "slow", "--json"];
    let not_current = async |when: &str| {
        let said = scene.status().await.unwrap_or_else(|said| panic!("no status: {said}"));
        assert_eq!(said["version"], "slow", "host 2 serves what was not committed: {said}");
        assert_eq!(said["hosts"][0]["current"], false, "called current while its nginx stood still, {when}: {said}");
    };
    let (ran, ()) = tokio::join!(scene.bgctl(&slow), async {
        // By then nginx has its part done, and the container has seconds to go.
        started(scene.host(1), "slow").await;
        let _frozen = Frozen::now(nginx(&scene));
        let seen = |report: &LoadReport| report.targets[1].versions.len() == 2;
        let switched = load.wait_until("`slow` on host 2", LIMIT, seen).await.map(|_| Instant::now());
        let switched = switched.unwrap_or_else(|error| panic!("{error}"));
        while switched.elapsed() < STANDSTILL {
            not_current("after the switch").await;
        }
        scene.note("the agent of host 1 dies while its nginx stands still".to_owned());
        let before = scene.fleet().kill_agent(1).await.expect("it runs");
        let agent = scene.fleet().hosts()[0].agent();
        scene.fleet().wait_restarted(&agent, before, LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
        scene.connected().await;
        not_current("after its agent died").await;
    });
    assert_eq!(ran.code, Some(DONE), "{}", told(&ran));
    assert_eq!(scene.at_rest().await, "slow");
    let report = load.stop().await;
    assert_nothing_lost(&report);
    assert!(report.targets.iter().all(|target| target.sequence() == "v1 → slow"), "{report}");
    scene.down().await;
}

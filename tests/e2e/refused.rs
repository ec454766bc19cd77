//! What is refused before anything was started: no image, no such service, no Docker.

use super::docker::{docker, started};
use super::relay::{Mood, Relay};
use super::scene::{ABORTED, DONE, LIMIT, REFUSED, Scene, bare, hosts, told};
use bgctl_tests::workspace::locks;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::fs::File;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A scene in which Docker of host 1 can be stopped.
async fn with_relay() -> (Scene, Relay) {
    let scene = Scene::with_users(hosts(3)).await;
    let path = scene.fleet().plan().dir.join("docker.sock");
    let relay = Relay::start(&path);
    let path = path.to_string_lossy().into_owned();
    scene
        .reconfigure(|number, config| match number {
            1 => config.replace("/var/run/docker.sock", &path),
            _ => format!("{config}\n"),
        })
        .await;
    (scene, relay)
}

fn deploy(version: &str) -> [&str; 4] {
    ["deploy", "web", "--version", version]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_or_does_not_exist_is_refused() {
    let (scene, relay) = with_relay().await;
    let all: Vec<_> = (1..=3).map(|number| scene.host(number).to_owned()).collect();
    scene.expect(&deploy("v0"), REFUSED, &["demo/web:v0", &all[0], &all[1], &all[2]]).await;
    scene.expect(&deploy("no good version!"), REFUSED, &["no good version!"]).await;
    scene.expect(&["deploy", "shop", "--version", "v1"], REFUSED, &["shop", "known: web"]).await;
    scene.expect(&["status", "shop"], REFUSED, &["shop"]).await;
    scene.expect(&["rollback", "shop"], REFUSED, &["shop"]).await;
    scene.expect(&["watch", "web-00000000"], REFUSED, &["web-00000000"]).await;

    relay.mood(Mood::Lacks("demo/web:v3".to_owned()));
    let ran = scene.expect(&deploy("v3"), REFUSED, &["demo/web:v3", &all[0]]).await;
    assert!(!ran.stderr.contains(&all[1]), "a host that has the image is named: {}", told(&ran));
    assert_eq!(scene.at_rest().await, "v1");
    relay.mood(Mood::Well);
    scene.deploy("v3").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_docker_on_one_host_users_are_served_and_a_rollback_works() {
    let (scene, mut relay) = with_relay().await;
    let host = scene.host(1).to_owned();
    scene.deploy("v2").await;

    relay.stop();
    scene.expect(&deploy("v3"), REFUSED, &["demo/web:v3", &host, "Docker"]).await;
    trouble(&scene, |troubles| troubles.contains("Docker")).await;
    // Both colours run: Docker has no part in the way back.
    scene.roll_back(&["rollback"], "v1").await;
    relay.resume();
    trouble(&scene, str::is_empty).await;
    scene.deploy("v3").await;

    // A Docker that hangs is as good as none; it is waited for in vain for a while.
    relay.mood(Mood::Hangs);
    scene.expect(&deploy("v2"), REFUSED, &["demo/web:v2", &host, "unresponsive"]).await;
    scene.roll_back(&["rollback"], "v1").await;
    relay.mood(Mood::Well);
    trouble(&scene, str::is_empty).await;
    scene.deploy("v3").await;

    // Stopped while a deployment runs: that either works or fails cleanly.
    let deploying = scene.bgctl(&["deploy", "web", "--version", "slow", "--json"]);
    let (ran, ()) = tokio::join!(deploying, async {
        started(&host, "slow").await;
        relay.stop();
    });
    match ran.code {
        Some(DONE) => assert_eq!(scene.at_rest().await, "slow", "{}", told(&ran)),
        Some(ABORTED) => assert_eq!(scene.at_rest().await, "v3", "{}", told(&ran)),
        _ => panic!("neither done nor aborted: {}", told(&ran)),
    }
    relay.resume();
    trouble(&scene, str::is_empty).await;
    scene.deploy("v2").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_met_no_docker_at_its_start_works_once_there_is_one() {
    let (scene, mut relay) = with_relay().await;
    let (host, agent) = (scene.host(1).to_owned(), scene.fleet().hosts()[0].agent());
    // Its agent starts over without Docker, and users of the service that runs do not notice.
    relay.stop();
    let before = scene.fleet().kill_agent(1).await.expect("it runs");
    scene.fleet().wait_restarted(&agent, before, LIMIT).await.expect("a restart");
    scene.connected().await;
    assert_eq!(scene.at_rest().await, "v1");
    scene.expect(&deploy("v2"), REFUSED, &[&host, "Docker"]).await;
    relay.resume();
    trouble(&scene, str::is_empty).await;
    scene.deploy("v2").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_somebody_removed_is_made_again() {
    let scene = Scene::quiet(bare(1)).await;
    // Another fleet that comes up meanwhile would find the subnet free and take it.
    let others_wait = File::open(locks().join("fleet-up.lock")).expect("the lock of fleets coming up");
    flock(&others_wait, FlockOperation::LockExclusive).expect("a turn");
    docker(&["network", "rm", &scene.fleet().hosts()[0].network]);
    is_there(&scene.fleet().hosts()[0].network).await;
    drop(others_wait);
    let spec = scene.fleet().plan().spec().to_string_lossy().into_owned();
    scene.expect(&["apply", "-f", &spec], DONE, &[]).await;
    scene.expect(&deploy("v1"), DONE, &[]).await;
    assert_eq!(scene.at_rest().await, "v1");
    scene.down().await;
}

async fn is_there(network: &str) {
    let deadline = Instant::now() + LIMIT;
    while !docker(&["network", "ls", "--format", "{{.Name}}"]).lines().any(|name| name == network) {
        assert!(Instant::now() < deadline, "network {network} does not come back");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until what `bgctl hosts` says of host 1's troubles is as wanted.
async fn trouble(scene: &Scene, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let ran = scene.bgctl(&["hosts", "--json"]).await;
        let answer = ran.json().unwrap_or_default();
        let troubles: Vec<_> = answer["hosts"][0]["troubles"].as_array().into_iter().flatten().collect();
        let troubles = troubles.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
        if wanted(&troubles) {
            return;
        }
        assert!(Instant::now() < deadline, "the troubles of host 1 stay {troubles:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

//! Who a host is: a clone of one, one that comes back on a new disk, and one that is taken out.

use super::docker::{self, docker};
use super::outage::apart;
use super::scene::{DONE, LIMIT, REFUSED, Scene, assert_nothing_lost, hosts, told};
use bgctl_tests::process::working_in;
use bgctl_tests::workspace::program;
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ASK_EVERY: Duration = Duration::from_millis(200);

/// Waits until `bgctl hosts` says this of a host.
async fn host_is(scene: &Scene, number: usize, what: &str, is_so: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let ran = scene.bgctl(&["hosts", "--json"]).await;
        let answer = ran.json().unwrap_or_default();
        let mut all = answer["hosts"].as_array().into_iter().flatten();
        if all.any(|host| host["host"] == scene.host(number) && is_so(host)) {
            return;
        }
        assert!(Instant::now() < deadline, "host {number} is never {what}: {}", told(&ran));
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn waits(host: &Value, words: &str) -> bool {
    host["waiting"].as_str().is_some_and(|told| told.contains(words))
}

/// An agent with the state and the identity of a host, on a machine that has neither its Docker nor its ports.
struct Clone(Child);

impl Clone {
    fn of(scene: &Scene, number: usize) -> Self {
        let plan = scene.fleet().plan();
        let host = plan.host_dir(&scene.fleet().hosts()[number - 1]);
        let dir = plan.dir.join("clone");
        fs::create_dir_all(dir.join("state")).expect("a directory");
        fs::copy(host.join("state/journal"), dir.join("state/journal")).expect("a copy");
        let config = fs::read_to_string(host.join("agent.yaml")).expect("the agent's config");
        let state = |of: &std::path::Path| of.join("state").to_string_lossy().into_owned();
        let config =
            config.replace(&state(&host), &state(&dir)).replace("/var/run/docker.sock", "/nowhere/docker.sock");
        let port = scene.fleet().hosts()[number - 1].port.to_string();
        let config = config.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0");
        fs::write(dir.join("agent.yaml"), config).expect("written");
        let log = fs::File::create(plan.log("clone")).expect("a log");
        let mut command = Command::new(program("bgctl-agent").expect("it was built"));
        command.args(["run", "--config"]).arg(dir.join("agent.yaml"));
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("it runs");
        scene.note("a clone of a host starts".to_owned());
        Self(child)
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_not_let_in_is_shown_and_locks_nobody_out() {
    let scene = Scene::with_users(hosts(2)).await;
    let clone = Clone::of(&scene, 1);
    let is_told = |host: &Value| host["connected"] == true && waits(host, "two agents with this identity");
    host_is(&scene, 1, "cloned", is_told).await;
    scene.deploy("v2").await;
    // The host itself comes and goes; the clone asks all the time.
    let agent = scene.fleet().hosts()[0].agent();
    for version in ["v3", "v1"] {
        let before = scene.fleet().kill(&agent).await.expect("it runs");
        scene.fleet().wait_restarted(&agent, before, LIMIT).await.expect("a restart");
        scene.connected().await;
        scene.deploy(version).await;
    }
    // While the host is away, the clone is not taken for it.
    scene.hold(&agent).await;
    host_is(&scene, 1, "away", |host| host["connected"] == false).await;
    let log = scene.fleet().plan().log("clone");
    let refusals = || fs::read_to_string(&log).unwrap_or_default().matches("not let in").count();
    let (before, deadline) = (refusals(), Instant::now() + LIMIT);
    while refusals() < before + 2 {
        assert!(Instant::now() < deadline, "the clone asks no more: {before} refusals");
        tokio::time::sleep(ASK_EVERY).await;
    }
    host_is(&scene, 1, "away", |host| host["connected"] == false).await;
    scene.release(&agent);
    scene.connected().await;
    drop(clone);
    for process in working_in(&scene.fleet().plan().dir.join("clone"), &["nginx"]) {
        process.end(Duration::from_secs(5)).await;
    }
    scene.deploy("v2").await;
    scene.end().await;
}

/// As after a new disk: no state, no containers, no nginx.
async fn new_disk(scene: &Scene, number: usize) {
    let host = &scene.fleet().hosts()[number - 1];
    scene.hold(&host.agent()).await;
    scene.note(format!("host {number} gets a new disk"));
    let dir = scene.fleet().plan().host_dir(host);
    for process in working_in(&dir, &["nginx"]) {
        process.end(Duration::from_secs(5)).await;
    }
    for (_, id) in docker::containers(&host.name, false) {
        docker(&["rm", "--force", &id]);
    }
    fs::remove_dir_all(dir.join("state")).expect("removed");
    scene.release(&host.agent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_on_a_new_disk_waits_for_a_person_and_then_catches_up_also_in_the_middle_of_a_deployment() {
    let scene = Scene::quiet(hosts(2)).await;
    let (hit, others) = apart(&scene, 2).await;
    scene.expect(&["hosts", "replace", scene.host(2)], REFUSED, &["no other agent has asked"]).await;

    // While nothing runs.
    new_disk(&scene, 2).await;
    let is_waiting = |host: &Value| host["connected"] == false && waits(host, "new life waiting");
    host_is(&scene, 2, "waiting", is_waiting).await;
    let replace = format!("bgctl hosts replace {}", scene.host(2));
    scene.expect(&["hosts"], DONE, &[&replace]).await;
    scene.expect(&["hosts", "replace", scene.host(2)], DONE, &["replaced"]).await;
    assert_eq!(scene.at_rest().await, "v1");

    // After its promise, or on the way to it: what it promised is void, and its new life is asked.
    let slow = ["deploy", "web", "--version", "slow"];
    let (ran, ()) = tokio::join!(scene.bgctl(&slow), async {
        docker::started(scene.host(2), "slow").await;
        new_disk(&scene, 2).await;
        host_is(&scene, 2, "waiting", is_waiting).await;
        scene.expect(&["hosts", "replace", scene.host(2)], DONE, &["replaced"]).await;
    });
    assert_eq!(ran.code, Some(DONE), "{}", told(&ran));
    assert_eq!(scene.at_rest().await, "slow");
    // Users of that host lost what only it could serve.
    drop(hit);
    let report = others.stop().await;
    assert_nothing_lost(&report);
    assert_eq!(report.targets[0].sequence(), "v1 → slow");
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_removed_is_let_in_again_by_a_person_or_in_another_life() {
    let mut scene = Scene::with_users(hosts(2)).await;
    scene.expect(&["hosts", "remove", "nobody"], REFUSED, &["there is no host nobody"]).await;
    // Not by a slip of the hand.
    scene.expect(&["hosts", "remove", scene.host(2)], REFUSED, &["is linked", "--force"]).await;
    let second = scene.host(2).to_owned();
    let forced = ["hosts", "remove", &second, "--force"];
    scene.expect(&forced, DONE, &["removed"]).await;
    let is_out = |host: &Value| host["stranger"] == true && waits(host, "it was removed and its agent still runs");
    host_is(&scene, 2, "out", is_out).await;
    scene.expect(&["deploy", "web", "--version", "v2"], DONE, &[]).await;
    // It serves on what it served.
    let report = scene.users_leave().await;
    assert_nothing_lost(&report);
    let seen: Vec<_> = report.targets.iter().map(|target| target.sequence()).collect();
    assert_eq!(seen, ["v1 → v2", "v1"]);

    scene.expect(&["hosts", "replace", scene.host(2)], DONE, &["replaced"]).await;
    assert_eq!(scene.at_rest().await, "v2");
    scene.expect(&forced, DONE, &["removed"]).await;
    new_disk(&scene, 2).await;
    scene.connected().await;
    assert_eq!(scene.at_rest().await, "v2");
    scene.down().await;
}

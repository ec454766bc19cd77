//! Hosts that are away when a deployment opens, or go away in the middle, and come back: whoever may be missing is
//! left out and said so, serves what it served, and catches up by itself without a lost request.

use super::full_disk::run;
use super::scene::{DONE, INCOMPLETE, LIMIT, REFUSED, Scene, assert_says, hosts, result, text, told};
use rustix::process::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Applies the sample spec with this policy.
async fn may_be_missing(scene: &Scene, policy: &str) {
    let spec = format!("{}missing_hosts: {policy}\n", include_str!("../fixtures/web.yaml"));
    let spec = scene.spec("missing.yaml", &spec);
    scene.expect(&["apply", "-f", &spec], DONE, &[]).await;
}

/// The names a deployment's result or a history entry has as left out.
fn left_out(deployment: &Value) -> Vec<String> {
    deployment["left_out"].as_array().unwrap_or_else(|| panic!("no list: {deployment}")).iter().map(text).collect()
}

/// What status says of a host.
async fn host_status(scene: &Scene, number: usize) -> Value {
    let status = scene.status().await.expect("a status");
    let hosts = status["hosts"].as_array().expect("hosts").clone();
    hosts.into_iter().find(|host| host["host"] == scene.host(number)).expect("the host")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_away_is_left_out_if_it_may_be_missing() {
    let scene = Scene::with_users(hosts(3)).await;
    let (second, third) = (scene.host(2).to_owned(), scene.host(3).to_owned());
    let agents = [2, 3].map(|number: usize| scene.fleet().hosts()[number - 1].agent());

    // By default all must be there.
    scene.hold(&agents[1]).await;
    let deploy = |version| ["deploy", "web", "--version", version];
    scene.expect(&deploy("v2"), REFUSED, &["needs all of its hosts", &third, "--exclude"]).await;
    may_be_missing(&scene, "1").await;
    let said = format!("2 of 3 hosts serve v2; {third} left out, will catch up");
    scene.expect(&deploy("v2"), DONE, &[&said]).await;
    let status = scene.status().await.expect("a status");
    assert_eq!(status["mixed"], true, "{status}");
    assert_eq!(host_status(&scene, 3).await["current"], false);

    // The way back is not blocked by a host that is dead, nor is the next deployment.
    let back = scene.expect(&["rollback", "--json"], DONE, &[]).await;
    assert_eq!(left_out(&result(&back)).join(","), third, "{}", told(&back));
    scene.hold(&agents[0]).await;
    let refused = ["may do without 1 of its 3 hosts (missing_hosts: 1)", &second, &third];
    scene.expect(&deploy("v3"), REFUSED, &refused).await;
    let both = format!("{second},{third}");
    let ran = scene.expect(&["deploy", "web", "--version", "v3", "--exclude", &both, "--json"], DONE, &[]).await;
    assert_eq!(left_out(&result(&ran)), [second, third], "{}", told(&ran));

    agents.iter().for_each(|agent| scene.release(agent));
    assert_eq!(scene.at_rest().await, "v3");
    assert_eq!(scene.status().await.expect("a status")["mixed"], false);
    scene.end_with_gaps().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_while_it_makes_ready_is_left_out_if_it_may_be_missing() {
    let scene = Scene::with_users(hosts(3)).await;
    may_be_missing(&scene, "34%").await;
    let agent = scene.fleet().hosts()[2].agent();
    let third = scene.host(3).to_owned();
    let slow = ["deploy", "web", "--version", "slow", "--json"];
    let (ran, ()) = tokio::join!(scene.bgctl(&slow), async {
        scene.until_pending().await;
        scene.hold(&agent).await;
    });
    assert_eq!(ran.code, Some(DONE), "{}", told(&ran));
    assert_eq!(left_out(&result(&ran)).join(","), third, "{}", told(&ran));
    let history = scene.expect(&["history", "web", "--json"], DONE, &[&third]).await;
    let newest = history.json().expect("JSON")["deployments"][0].clone();
    assert_eq!(left_out(&newest), [third], "{newest}");
    scene.release(&agent);
    assert_eq!(scene.at_rest().await, "slow");
    scene.end_with_gaps().await;
}

/// The agent dies as by kill -9 at a named place of its catching up. Its users go forward once, and never back.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_while_it_catches_up_never_goes_back() {
    let scene = Scene::with_users(hosts(3)).await;
    may_be_missing(&scene, "1").await;
    let agent = scene.fleet().hosts()[2].agent();
    let points = ["before_rename", "after_rename", "before_applied_fsync", "after_applied_fsync"];
    for (point, version) in points.iter().zip(["v2", "v3"].iter().cycle()) {
        scene.hold(&agent).await;
        scene.expect(&["deploy", "web", "--version", version], DONE, &["2 of 3 hosts"]).await;
        scene.fleet().arm(point, "abort").expect("armed");
        scene.release(&agent);
        scene.fleet().wait_reached(point, LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scene.at_rest().await, *version, "after {point}");
    }
    scene.end().await;
}

/// A folder that nobody can write to. Undone with the value, also when a test fails.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn made_of(folder: PathBuf) -> Self {
        run("mount", &["-o".as_ref(), "bind,ro".as_ref(), &folder, &folder]);
        Self(folder)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        run("umount", &["-l".as_ref(), &self.0]);
    }
}

/// It voted yes, and its disk turns read-only before the switch. The others serve, and that is not called done.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_follow_is_no_success_and_follows_when_it_can() {
    let scene = Scene::with_users(hosts(3)).await;
    let third = scene.host(3).to_owned();
    let switch = scene.fleet().plan().host_dir(&scene.fleet().hosts()[2]).join("state/switch");
    let decided = "before_commit_confirmed";
    scene.fleet().arm(decided, "stop").expect("armed");
    let (ran, broken) = tokio::join!(scene.bgctl(&["deploy", "web", "--version", "v2"]), async {
        scene.fleet().wait_reached(decided, LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
        let broken = ReadOnly::made_of(switch);
        scene.fleet().process("controller").expect("it is stopped, not dead").signal(Signal::CONT);
        broken
    });
    assert_eq!(ran.code, Some(INCOMPLETE), "{}", told(&ran));
    let behind = format!("NOT EVERYWHERE, 2 of 3 hosts serve v2; {third} not yet");
    assert_says(&ran, &[&behind, "committed, and not followed yet", "Read-only file system"]);
    let status = host_status(&scene, 3).await;
    assert_eq!((&status["version"], &status["current"]), (&"v1".into(), &false.into()), "{status}");
    let trouble = text(&status["trouble"]);
    assert!(trouble.contains("load balancers hear of this host what they heard before"), "{status}");
    drop(broken);
    assert_eq!(scene.at_rest().await, "v2");
    scene.end().await;
}

/// A host whose labels are selected again while a deployment is open is no participant: it comes to what is
/// committed, and to the decision when that is made. Before, its labels were not selected, and it served on.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_dropped_serves_on_and_one_that_joins_follows() {
    let scene = Scene::with_users(hosts(3)).await;
    scene.relabel(3, "role=other").await;
    scene.expect(&["deploy", "web", "--version", "v2"], DONE, &["2 of 2 hosts"]).await;
    let dropped = host_status(&scene, 3).await;
    assert_eq!((&dropped["dropped"], &dropped["version"]), (&true.into(), &"v1".into()), "{dropped}");
    assert_eq!(scene.status().await.expect("a status")["mixed"], true);
    scene.expect(&["status", "web"], DONE, &["NOT SELECTED", "no longer selects this host", "MIXED"]).await;

    let (ran, ()) = tokio::join!(scene.bgctl(&["deploy", "web", "--version", "slow", "--json"]), async {
        scene.until_pending().await;
        scene.relabel(3, "role=web").await;
    });
    assert_eq!(ran.code, Some(DONE), "{}", told(&ran));
    let took_part = result(&ran)["hosts"].as_array().expect("hosts").len();
    assert_eq!(took_part, 2, "{}", told(&ran));
    assert_eq!(scene.at_rest().await, "slow");
    assert!(ran.took < Duration::from_secs(60), "it waited for a host that takes no part: {}", told(&ran));
    scene.end_with_gaps().await;
}

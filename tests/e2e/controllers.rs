//! Three controllers on three members of etcd: whoever dies, stops or is cut off, one leads, what was decided stays
//! decided, what was not is decided or aborted, and users notice nothing.

use super::scene::{ABORTED, DONE, LIMIT, REFUSED, Scene, assert_says, result, text, told};
use bgctl_tests::fleet::{FAILOVER_BAR, FleetOptions, Ran, Store, Wire};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// Trials of a failover here; `make bench` has fifty.
const FAILOVERS: usize = 3;
/// etcd lays out its file in pages: smaller than this it cannot start, and a few specs fill it.
const TINY_QUOTA: &str = "--quota-backend-bytes=4194304";
/// Just below what a spec may have.
const LARGE_COMMENT_BYTES: usize = 250 * 1024;
/// Of them, many times the quota.
const LARGE_SPECS_MAX: usize = 100;

/// So many hosts, three controllers, three members of etcd.
pub fn three(hosts: usize) -> FleetOptions {
    FleetOptions { hosts, controllers: 3, store: Store::Etcd, ..FleetOptions::default() }
}

/// What `bgctl` said of a deployment, and what the fleet came to, must agree. That version.
pub async fn agreed(scene: &Scene, ran: &Ran, before: &str, asked: &str) -> String {
    let now = scene.at_rest().await;
    let expected = match ran.code {
        Some(DONE) => asked,
        Some(ABORTED) => before,
        _ => panic!("bgctl does not tell how it ended: {}", told(ran)),
    };
    assert_eq!(now, expected, "bgctl tells something else than what came of it: {}", told(ran));
    now
}

async fn leader(scene: &Scene) -> String {
    scene.fleet().leader().await.unwrap_or_else(|error| panic!("{error}"))
}

fn number(program: &str) -> usize {
    program.rsplit('-').next().and_then(|number| number.parse().ok()).expect("controller-N")
}

fn log(scene: &Scene, program: &str) -> String {
    fs::read_to_string(scene.fleet().plan().log(program)).unwrap_or_default()
}

/// Waits until a program has said these words.
async fn says(scene: &Scene, program: &str, words: &str) {
    let deadline = Instant::now() + LIMIT;
    while !log(scene, program).contains(words) {
        assert!(Instant::now() < deadline, "{program} does not say {words:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn reached(scene: &Scene, point: &str) {
    scene.fleet().wait_reached(point, LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Killed before a vote counts, between votes and decision, and after the decision when nobody has heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_around_the_decision() {
    let scene = Scene::with_users(three(2)).await;
    let points = [
        ("before_vote_received", "v2"),
        ("before_commit_sent", "v3"),
        ("after_commit_sent", "v1"),
        ("after_state_sent", "v2"),
    ];
    let mut serving = "v1".to_owned();
    for (point, version) in points {
        let leader = leader(&scene).await;
        scene.note(format!("--- {leader} dies at {point}"));
        scene.fleet().arm(point, "abort").expect("armed");
        let ran = scene.bgctl(&["deploy", "web", "--version", version, "--json"]).await;
        reached(&scene, point).await;
        assert_eq!(ran.code, Some(DONE), "nothing stood against it: {}", told(&ran));
        serving = agreed(&scene, &ran, &serving, version).await;
        scene.fleet().wait_all_controllers().await.expect("it comes back");
    }
    scene.end().await;
}

/// Stopped with the decision in its hand, and awake again when another one has led, decided and gone on.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_past_its_lease_changes_nothing() {
    let scene = Scene::with_users(three(2)).await;
    let asleep = leader(&scene).await;
    scene.fleet().arm("before_commit_sent", "stop").expect("armed");
    let deploy = ["deploy", "web", "--version", "v2", "--json"];
    let (ran, awake) = tokio::join!(scene.bgctl(&deploy), async {
        reached(&scene, "before_commit_sent").await;
        let process = scene.fleet().process(&asleep).expect("it is stopped, not dead");
        let other = scene.fleet().leader_other_than(&asleep).await.expect("another leader");
        scene.note(format!("--- {asleep} sleeps, {other} leads"));
        process
    });
    assert_eq!(ran.code, Some(DONE), "{}", told(&ran));
    scene.served("v2").await;
    let before = scene.committed().await;
    awake.signal(Signal::CONT);
    says(&scene, &asleep, "no longer leading").await;
    scene.fleet().wait_all_controllers().await.expect("it follows now");
    assert_ne!(leader(&scene).await, asleep);
    assert_eq!(scene.committed().await, before, "the one that slept changed something");
    scene.deploy("v3").await;
    scene.end().await;
}

/// The network between: the leader to the store, then everybody to the leader. What any one controller is asked, the
/// leader answers; if it cannot be reached, what the store says is shown for what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_cut_off_from_the_store_and_from_everybody_else() {
    let scene = Scene::with_users(FleetOptions { wires: true, ..three(2) }).await;
    let first = leader(&scene).await;
    let cut = number(&first);
    scene.note(format!("--- {first} is cut off from etcd"));
    let to_store = |wire| matches!(wire, Wire::Store { controller, .. } if controller == cut);
    let begun = Instant::now();
    let (ran, ()) = tokio::join!(scene.bgctl(&["deploy", "web", "--version", "slow", "--json"]), async {
        scene.fleet().set_cut(to_store, true);
        says(&scene, &first, "silent until the lease is renewed").await;
    });
    eprintln!("cut off from etcd: exit code {:?} after {:?}", ran.code, begun.elapsed());
    let serving = agreed(&scene, &ran, "v1", "slow").await;
    let second = leader(&scene).await;
    assert_ne!(second, first);
    scene.fleet().set_cut(to_store, false);
    scene.fleet().wait_all_controllers().await.expect("it follows now");

    // Only a follower's address: it knows better.
    let follower = scene.fleet().plan().controllers.iter().find(|replica| replica.name != second).expect("there are 3");
    let alone = format!("127.0.0.1:{}", follower.advertised);
    let next = if serving == "v1" { "v2" } else { "v1" };
    scene.expect(&["--controller", &alone, "deploy", "web", "--version", next], DONE, &[]).await;
    scene.served(next).await;

    scene.note(format!("--- {second} is cut off from agents and operators"));
    let cut = number(&second);
    let front = |wire| matches!(wire, Wire::Front { controller } if controller == cut);
    scene.fleet().set_cut(front, true);
    let told = scene.expect(&["--connect-timeout", "1s", "status", "web", "--json"], DONE, &[]).await;
    let answer = told.json().expect("a document");
    assert!(answer["follower"]["replica"].is_string(), "a follower's word must say so: {answer}");
    assert_eq!(text(&answer["services"][0]["version"]), next);
    scene.expect(&["--connect-timeout", "1s", "status", "web"], DONE, &["only the leader hears"]).await;
    let controllers = scene.expect(&["--connect-timeout", "1s", "controllers"], DONE, &["UNREACHABLE", &second]).await;
    eprintln!("{}", controllers.stdout);
    scene.fleet().set_cut(front, false);
    scene.connected().await;
    scene.deploy("v3").await;
    scene.end().await;
}

/// etcd's own leader dies in a deployment, then two of three members.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_loses_its_leader_and_then_its_majority() {
    let scene = Scene::with_users(three(2)).await;
    let leading = etcd_leader(&scene).await;
    let (ran, ()) = tokio::join!(scene.bgctl(&["deploy", "web", "--version", "slow", "--json"]), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.hold(&leading).await;
    });
    assert_eq!(ran.code, Some(DONE), "two members are enough: {}", told(&ran));
    assert_eq!(scene.at_rest().await, "slow");
    scene.expect(&["controllers"], DONE, &["does not answer"]).await;

    let other = scene.fleet().plan().etcd.iter().map(|member| member.name.clone()).find(|name| *name != leading);
    let other = other.expect("there are 3");
    let (ran, ()) = tokio::join!(scene.bgctl(&["deploy", "web", "--version", "v2", "--json"]), async {
        scene.hold(&other).await;
        says(&scene, "controller-1", "cannot be followed").await;
        let ran = scene.expect(&["status", "web", "--json"], DONE, &[]).await;
        assert_eq!(text(&ran.json().expect("a document")["services"][0]["version"]), "slow");
        scene.release(&other);
        scene.release(&leading);
    });
    agreed(&scene, &ran, "slow", "v2").await;
    scene.fleet().wait_all_controllers().await.expect("all are back");
    scene.deploy("v3").await;
    scene.end().await;
}

async fn etcd_leader(scene: &Scene) -> String {
    let ran = scene.expect(&["controllers", "--json"], DONE, &[]).await;
    let answer = ran.json().expect("a document");
    let members = answer["store"]["members"].as_array().cloned().unwrap_or_default();
    let leads = members.iter().find(|member| member["leads"] == true);
    text(&leads.unwrap_or_else(|| panic!("no member leads: {answer}"))["name"])
}

/// A store that takes no more: what is open is aborted, nothing is begun, the leader stays, and a person is told what
/// to type.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_aborts_and_says_what_to_do() {
    let options = FleetOptions { etcd_arguments: vec![TINY_QUOTA.to_owned()], ..three(1) };
    let scene = Scene::with_users(options).await;
    let before = leader(&scene).await;
    let epoch = |answer: &Value| answer["epoch"].as_u64().expect("an epoch");
    let led = epoch(&scene.expect(&["status", "--json"], DONE, &[]).await.json().expect("a document"));
    let (ran, ()) = tokio::join!(scene.bgctl(&["deploy", "web", "--version", "slow", "--json"]), fill(&scene));
    assert_eq!(ran.code, Some(ABORTED), "{}", told(&ran));
    let reason = text(&result(&ran)["reason"]);
    for words in ["space quota", "etcdctl --endpoints=https://", "compact", "defrag", "alarm disarm", "--cacert="] {
        assert!(reason.contains(words), "{words:?} is missing: {reason}");
    }
    assert_eq!(scene.at_rest().await, "v1");
    scene.expect(&["deploy", "web", "--version", "v2"], REFUSED, &["space quota", "defrag"]).await;
    scene.expect(&["controllers"], DONE, &["ALARM NOSPACE", "do not restart", "defrag"]).await;
    says(&scene, &before, "do not restart the controllers").await;
    // Leases are renewed in a full store, and granted no more.
    let renewed = Instant::now() + FAILOVER_BAR;
    while Instant::now() < renewed {
        scene.expect(&["status", "--json"], DONE, &["over its space quota"]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let now = epoch(&scene.expect(&["status", "--json"], DONE, &[]).await.json().expect("a document"));
    assert_eq!(now, led, "the leader was lost");

    // What is said, done as it is said.
    let told = scene.expect(&["controllers", "--json"], DONE, &[]).await.json().expect("a document");
    let warnings = told["store"]["warnings"].as_array().expect("warnings");
    let remedy = warnings.iter().filter_map(Value::as_str).find_map(|warning| warning.split_once("run: "));
    let commands: Vec<_> = remedy.expect("what to run").1.split("; ").collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for command in commands {
        scene.note(format!("$ {command}"));
        let output = Command::new("sh").args(["-c", command]).output().expect("sh");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    scene.deploy("v2").await;
    scene.end().await;
}

async fn fill(scene: &Scene) {
    let spec = include_str!("../fixtures/web.yaml");
    for attempt in 0..LARGE_SPECS_MAX {
        let comment = format!("# {attempt} {}", "x".repeat(LARGE_COMMENT_BYTES));
        let path =
            scene.spec("large.yaml", &format!("{}\n{comment}\n", spec.replace("service: web", "service: large")));
        let ran = scene.bgctl(&["apply", "-f", &path]).await;
        match ran.code {
            Some(DONE) => {}
            Some(REFUSED) => {
                assert_says(&ran, &["space quota", "etcdctl", "alarm disarm"]);
                return;
            }
            _ => panic!("{}", told(&ran)),
        }
    }
    panic!("{LARGE_SPECS_MAX} large specs do not fill it");
}

/// The bar for a failover, a few times.
#[tokio::test(flavor = "multi_thread")]
async fn another_leads_soon_after_the_leader_died() {
    let scene = Scene::with_users(three(2)).await;
    for trial in 0..FAILOVERS {
        let failover = scene.fleet().failover(trial, Duration::ZERO).await.unwrap_or_else(|error| panic!("{error}"));
        eprintln!("{failover:?}");
        assert_ne!(failover.successor, failover.leader);
        assert!(failover.whole < FAILOVER_BAR, "{failover:?}");
    }
    scene.deploy("v2").await;
    scene.end().await;
}

//! Break glass: traffic moved on the hosts themselves, with nobody else left, and what becomes of it.

use super::readiness::answers;
use super::scene::{ABORTED, DONE, LIMIT, REFUSED, Scene, assert_nothing_lost, hosts};
use bgctl_tests::workspace::program;
use std::process::Output;
use std::time::Instant;

/// Runs `bgctl-agent` on host `number`, from 1 on, as root there would.
fn agent(scene: &Scene, number: usize, arguments: &[&str]) -> (Option<i32>, String) {
    let host = &scene.fleet().hosts()[number - 1];
    let config = scene.fleet().plan().host_dir(host).join("agent.yaml");
    let program = program("bgctl-agent").expect("it is built");
    let ran = std::process::Command::new(program).args(arguments).arg("--config").arg(config).output();
    let Output { status, stdout, stderr } = ran.expect("it runs");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    scene.note(format!("host {number} $ bgctl-agent {}   ({:?}) {said}", arguments.join(" "), status.code()));
    (status.code(), said)
}

fn expect(scene: &Scene, number: usize, arguments: &[&str], code: i32, words: &[&str]) {
    let (ended, said) = agent(scene, number, arguments);
    assert_eq!(ended, Some(code), "bgctl-agent {arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "bgctl-agent {arguments:?} does not say {word:?}: {said}");
    }
}

/// Somebody removes a journal under a running agent: nothing is promised that would not be there, and an agent that
/// starts without it takes nothing away.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_journal_was_removed_serves_on_and_promises_nothing() {
    let mut scene = Scene::with_users(hosts(2)).await;
    scene.deploy("v2").await;
    let host = scene.fleet().hosts()[0].clone();
    let state = scene.fleet().plan().host_dir(&host).join("state");
    std::fs::remove_file(state.join("journal")).expect("it is there");
    scene.expect(&["deploy", "web", "--version", "v3"], ABORTED, &["journal", "somebody removed the file"]).await;
    scene.fleet().kill_agent(1).await.expect("it runs");
    let log = scene.fleet().plan().log(&host.agent());
    let deadline = Instant::now() + LIMIT;
    while !std::fs::read_to_string(&log).is_ok_and(|said| said.contains("is gone, and the switch serves web")) {
        assert!(Instant::now() < deadline, "the agent does not say why it does not start");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    scene.served("v2").await;
    let report = scene.users_leave().await;
    assert_nothing_lost(&report);
    assert!(report.targets.iter().all(|target| target.sequence() == "v1 → v2"), "{report}");

    // A person decides that it is a new host: it waits to be let in, as one on a new disk does.
    std::fs::rename(state.join("switch"), state.join("switch.away")).expect("it is there");
    let deadline = Instant::now() + LIMIT;
    while scene.bgctl(&["hosts", "replace", scene.host(1)]).await.code != Some(DONE) {
        assert!(Instant::now() < deadline, "its new life does not ask to be let in");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert_eq!(scene.at_rest().await, "v2");
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_without_a_controller_is_taken_back_by_hand_and_settled_later() {
    let mut scene = Scene::with_users(hosts(3)).await;
    expect(&scene, 1, &["remove"], 1, &["another bgctl-agent works", "stop it first"]);
    // Nothing was served before v1, and nothing but what was served can be gone back to.
    expect(&scene, 1, &["switch", "web", "previous"], REFUSED, &["no release from before"]);
    expect(&scene, 1, &["switch", "web", "blue"], DONE, &["serves v1", "already"]);
    expect(&scene, 1, &["switch", "api", "previous"], REFUSED, &["api is not served", "serves web"]);
    scene.deploy("v2").await;
    scene.at_rest().await;
    scene.hold("controller").await;

    expect(&scene, 1, &["status"], DONE, &["NO CONTROLLER", "serves    green  v2", "warm      blue   v1"]);
    let begun = Instant::now();
    for number in [1, 2] {
        expect(&scene, number, &["switch", "web", "previous"], DONE, &["v1", "by hand", "it was v2"]);
    }
    // The third has lost its agent too.
    let third = scene.fleet().hosts()[2].agent();
    scene.hold(&third).await;
    expect(&scene, 3, &["status"], 5, &["no agent runs", "applied"]);
    expect(&scene, 3, &["switch", "web", "previous"], DONE, &["doing it alone", "v1", "by hand"]);
    scene.served("v1").await;
    eprintln!(
        "three hosts taken back by hand in {:.1} s, one of them without its agent",
        begun.elapsed().as_secs_f64()
    );
    expect(&scene, 1, &["status"], DONE, &["held      v1 (blue), by hand at", "by uid", "applied   green  v2"]);
    answers(&scene, 1, "/ready", 200, "web serves v1 by hand").await;

    // A restart of an agent leads to where the operator wanted to be.
    scene.release(&third);
    let before = scene.fleet().kill_agent(1).await.expect("it runs");
    scene.fleet().wait_restarted(&scene.fleet().hosts()[0].agent(), before, LIMIT).await.expect("a restart");

    // The controller hears of it, and says so.
    scene.release("controller");
    scene.connected().await;
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        let status = scene.status().await.expect("a status");
        let held = status["hosts"].as_array().into_iter().flatten().filter(|host| !host["by_hand"].is_null());
        if held.count() == 3 {
            break status;
        }
        assert!(Instant::now() < deadline, "not every switch by hand is told: {status}");
    };
    for host in status["hosts"].as_array().expect("hosts") {
        assert_eq!((&host["version"], &host["current"]), (&"v1".into(), &false.into()), "{status}");
        assert_eq!(host["by_hand"]["colour"], "blue", "{status}");
    }
    let said = "switched by hand to blue (v1) at ";
    scene.expect(&["status", "web"], DONE, &["BY HAND", said]).await;
    scene.expect(&["hosts"], DONE, &[said]).await;

    // One goes forward again by hand; the others wait for a deployment.
    expect(&scene, 2, &["switch", "web", "--resume"], DONE, &["serves v2", "as the store wants"]);
    expect(&scene, 2, &["switch", "web", "--resume"], DONE, &["not held"]);
    scene.expect(&["deploy", "web", "--version", "v3"], DONE, &[]).await;
    scene.served("v3").await;
    assert_eq!(scene.at_rest().await, "v3");
    expect(&scene, 1, &["status"], DONE, &["linked to", "serves    green  v3"]);

    // And a rollback settles it as well.
    expect(&scene, 1, &["switch", "web", "previous"], DONE, &["v1", "by hand"]);
    scene.expect(&["rollback", "web"], DONE, &[]).await;
    assert_eq!(scene.at_rest().await, "v2");
    let report = scene.users_leave().await;
    assert_nothing_lost(&report);
    let seen: Vec<_> = report.targets.iter().map(bgctl_tests::load::TargetReport::sequence).collect();
    let expected = ["v1 → v2 → v1 → v3 → v1 → v2", "v1 → v2 → v1 → v2 → v3 → v2", "v1 → v2 → v1 → v3 → v2"];
    assert_eq!(seen, expected, "{report}");
    scene.down().await;
}

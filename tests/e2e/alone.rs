//! Hosts without a controller: they serve, restart what dies, and come back from a reboot on the version they had.

use super::docker::{self, docker};
use super::outage::{apart, over, over_or_mended};
use super::scene::{LIMIT, Scene, UNREACHABLE, assert_nothing_lost, hosts, told, users};
use bgctl_tests::process::working_in;
use rustix::process::Signal;

/// As if the machine had lost its power: no agent, no nginx, no running container.
pub async fn power_cut(scene: &Scene, number: usize) {
    let host = &scene.fleet().hosts()[number - 1];
    scene.hold(&host.agent()).await;
    scene.note(format!("power cut of host {number}"));
    for process in working_in(&scene.fleet().plan().host_dir(host), &["nginx"]) {
        process.signal(Signal::KILL);
    }
    for (_, id) in docker::containers(&host.name, true) {
        docker(&["kill", &id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_serve_and_recover_without_a_controller() {
    let scene = Scene::quiet(hosts(3)).await;
    scene.deploy("v2").await;
    scene.hold("controller").await;
    scene.expect(&["status"], UNREACHABLE, &[]).await;
    scene.expect(&["deploy", "web", "--version", "v3"], UNREACHABLE, &[]).await;

    // An agent that is killed is missed by nobody.
    let all = users(scene.fleet().targets()).await;
    for number in 1..=3 {
        let before = scene.fleet().kill_agent(number).await.expect("it runs");
        let agent = scene.fleet().hosts()[number - 1].agent();
        scene.fleet().wait_restarted(&agent, before, LIMIT).await.expect("a restart");
    }

    // A container that is killed is started again.
    let (hit, others) = apart(&scene, 1).await;
    let report = all.stop().await;
    assert_nothing_lost(&report);
    let runs_again = docker::runs_again(scene.host(1), "v2");
    docker(&["kill", &docker::container_of(scene.host(1), "v2")]);
    over_or_mended(hit, "the served container was killed", "v2", runs_again).await;
    assert_nothing_lost(&others.stop().await);

    // And one that was removed is made anew.
    let (hit, others) = apart(&scene, 1).await;
    let runs_again = docker::runs_again(scene.host(1), "v2");
    docker(&["rm", "--force", &docker::container_of(scene.host(1), "v2")]);
    over_or_mended(hit, "the served container was removed", "v2", runs_again).await;

    // A reboot.
    let hit = users(vec![scene.fleet().targets()[1].clone()]).await;
    let others_3 = users(vec![scene.fleet().targets()[2].clone()]).await;
    assert_nothing_lost(&others.stop().await);
    power_cut(&scene, 2).await;
    scene.release(&scene.fleet().hosts()[1].agent());
    over(hit, "the host was rebooted, no controller", "v2").await;
    assert_nothing_lost(&others_3.stop().await);

    // With the controller back, all is as it was, and another reboot goes the same way.
    scene.release("controller");
    assert_eq!(scene.at_rest().await, "v2");
    let (hit, others) = apart(&scene, 3).await;
    power_cut(&scene, 3).await;
    scene.release(&scene.fleet().hosts()[2].agent());
    over(hit, "the host was rebooted", "v2").await;
    assert_nothing_lost(&others.stop().await);
    assert_eq!(scene.at_rest().await, "v2");
    scene.deploy("v3").await;
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_away_catches_up_before_it_counts() {
    let scene = Scene::with_users(hosts(2)).await;
    let agent = scene.fleet().hosts()[1].agent();
    scene.hold(&agent).await;
    let refused = scene.bgctl(&["deploy", "web", "--version", "v2"]).await;
    assert_eq!(refused.code, Some(super::scene::REFUSED), "{}", told(&refused));
    super::scene::assert_says(&refused, &[scene.host(2), "away"]);
    let status = scene.status().await.expect("a status");
    assert_eq!(status["hosts"][1]["connected"], false, "{status}");
    assert_eq!(status["hosts"][1]["current"], false, "a host that is away is called current: {status}");
    scene.release(&agent);
    assert_eq!(scene.at_rest().await, "v1");
    scene.deploy("v2").await;
    scene.end().await;
}

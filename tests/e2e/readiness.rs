//! What load balancers are told, all the time and whatever dies: asked as they ask, over HTTP.

use super::alone::power_cut;
use super::docker::{container_of, docker};
use super::scene::{DONE, LIMIT, Scene, assert_nothing_lost, hosts, users};
use std::fs;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ASK_EVERY: Duration = Duration::from_millis(50);

/// Status and line that host `number`, from 1 on, answers; None: nobody answers.
pub async fn asked(scene: &Scene, number: usize, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(scene.fleet().hosts()[number - 1].ready_address()).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: lb\r\n\r\n").as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let (_, line) = text.split_once("\r\n\r\n")?;
    Some((status, line.trim_end().to_owned()))
}

/// Waits for this status with these words in its line; how long that took.
pub async fn answers(scene: &Scene, number: usize, path: &str, status: u16, words: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = asked(scene, number, path).await;
        if answer.as_ref().is_some_and(|(told, line)| *told == status && line.contains(words)) {
            scene.note(format!("host {number} {path}: {answer:?}"));
            return begun.elapsed();
        }
        assert!(begun.elapsed() < LIMIT, "host {number} {path} is not {status} with {words:?}, but {answer:?}");
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// As it is now, without waiting.
async fn is_ready(scene: &Scene, number: usize) -> bool {
    asked(scene, number, "/ready").await.is_some_and(|(status, _)| status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_what_is_served_and_survives_the_agent() {
    let scene = Scene::with_users(hosts(2)).await;
    answers(&scene, 1, "/ready", 200, "web serves v1").await;
    answers(&scene, 1, "/ready/web", 200, "web serves v1").await;
    answers(&scene, 1, "/ready/api", 404, "no such service").await;
    scene.deploy("v2").await;
    for number in [1, 2] {
        answers(&scene, number, "/ready", 200, "web serves v2").await;
    }

    // The agent's death takes nobody out of rotation, and neither does its restart.
    let agent = scene.fleet().hosts()[0].agent();
    scene.hold(&agent).await;
    assert!(is_ready(&scene, 1).await, "the agent's death took a serving host out of rotation");
    scene.release(&agent);
    let linked = async { scene.connected().await };
    let watched = async {
        loop {
            assert!(is_ready(&scene, 1).await, "the agent's restart took a serving host out of rotation");
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    tokio::select! {
        () = linked => {}
        () = watched => {}
    }
    scene.at_rest().await;
    answers(&scene, 1, "/ready", 200, "web serves v2").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_colour_is_sick_is_not_ready_until_it_is_well() {
    let scene = Scene::quiet(hosts(2)).await;
    // Its watch would take a deployment back.
    scene.deploy("v2").await;
    scene.at_rest().await;
    tokio::time::timeout(LIMIT, settled(&scene)).await.expect("the watch is over");
    let sick = container_of(scene.host(1), "v2");
    docker(&["pause", &sick]);
    answers(&scene, 1, "/ready", 503, "not healthy").await;
    answers(&scene, 1, "/ready/web", 503, "not healthy").await;
    assert!(is_ready(&scene, 2).await);
    docker(&["unpause", &sick]);
    answers(&scene, 1, "/ready", 200, "web serves v2").await;

    // Nobody is ready where the switch cannot be read: told at once, by nginx alone, and put right by the agent.
    let agent = scene.fleet().hosts()[0].agent();
    scene.hold(&agent).await;
    let host = &scene.fleet().hosts()[0];
    fs::remove_dir_all(scene.fleet().plan().host_dir(host).join("state/switch")).expect("the switch is there");
    assert!(!is_ready(&scene, 1).await, "ready without a switch");
    scene.release(&agent);
    answers(&scene, 1, "/ready", 200, "web serves v2").await;
    scene.down().await;
}

/// Waits until the newest deployment is accepted for good.
async fn settled(scene: &Scene) {
    while !scene.status().await.is_ok_and(|status| status["latest"]["phase"] == "settled") {
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_left_out_is_not_ready_until_it_has_caught_up() {
    let scene = Scene::quiet(hosts(2)).await;
    let spec = include_str!("../fixtures/web.yaml");
    let path = scene.spec("left-out.yaml", &format!("{spec}missing_hosts: 1\n"));
    scene.expect(&["apply", "-f", &path], DONE, &[]).await;
    let agent = scene.fleet().hosts()[1].agent();
    scene.hold(&agent).await;
    scene.expect(&["deploy", "web", "--version", "slow"], DONE, &[]).await;
    answers(&scene, 1, "/ready", 200, "web serves slow").await;
    assert!(is_ready(&scene, 2).await, "it has not heard of it, and serves what was committed when it last heard");
    scene.release(&agent);
    let told = answers(&scene, 2, "/ready", 503, "is committed").await;
    eprintln!("not ready {} ms after its agent was let start", told.as_millis());
    answers(&scene, 2, "/ready", 200, "web serves slow").await;
    scene.at_rest().await;
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_without_a_controller_a_host_is_ready_once_it_has_waited_for_one() {
    let scene = Scene::quiet(hosts(2)).await;
    scene.deploy("v2").await;
    answers(&scene, 1, "/ready", 200, "web serves v2").await;
    answers(&scene, 2, "/ready", 200, "web serves v2").await;
    scene.hold("controller").await;
    for number in [1, 2] {
        power_cut(&scene, number).await;
        let host = &scene.fleet().hosts()[number - 1];
        // The machine under the test was not rebooted: its boot is called by another name.
        let memory = scene.fleet().plan().host_dir(host).join("state/switch/ready/memory");
        let text = fs::read_to_string(&memory).expect("what the agent remembers");
        let other = text.lines().map(|line| if line.starts_with("boot ") { "boot before" } else { line });
        fs::write(&memory, other.collect::<Vec<_>>().join("\n")).expect("the same, before the reboot");
    }
    let both = scene.fleet().hosts().iter().map(|host| host.agent()).collect::<Vec<_>>();
    scene.release(&both[0]);
    answers(&scene, 1, "/ready", 503, "has not heard a controller yet").await;
    let load = users(vec![scene.fleet().targets()[0].clone()]).await;
    let waited = answers(&scene, 1, "/ready", 200, "web serves v2").await;
    assert!(waited > Duration::from_secs(20), "it waited {waited:?}");
    assert_nothing_lost(&load.stop().await);

    // A controller's word makes it ready at once.
    scene.release(&both[1]);
    answers(&scene, 2, "/ready", 503, "has not heard a controller yet").await;
    scene.release("controller");
    let word = answers(&scene, 2, "/ready", 200, "web serves v2").await;
    eprintln!("ready again: {:.1} s without a controller, {:.1} s with one", waited.as_secs_f64(), word.as_secs_f64());
    scene.at_rest().await;
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_closed_is_not_ready_without_a_controller_and_serves_on() {
    let mut scene = Scene::with_users(hosts(2)).await;
    let spec = include_str!("../fixtures/web.yaml");
    let text = format!("{spec}on_partition: fail-closed\npartition_grace: 10s\n");
    let path = scene.spec("fail-closed.yaml", &text);
    scene.expect(&["apply", "-f", &path], DONE, &[]).await;
    scene.deploy("v2").await;
    answers(&scene, 1, "/ready", 200, "web serves v2").await;

    scene.hold("controller").await;
    let closed = answers(&scene, 1, "/ready", 503, "no controller for 10 s").await;
    answers(&scene, 2, "/ready/web", 503, "no controller for 10 s").await;
    scene.release("controller");
    answers(&scene, 1, "/ready", 200, "web serves v2").await;
    answers(&scene, 2, "/ready", 200, "web serves v2").await;

    // An agent that is dead cannot say no: its yes runs out by itself.
    scene.hold(&scene.fleet().hosts()[1].agent()).await;
    let ran_out = answers(&scene, 2, "/ready", 503, "the agent has not been heard of").await;
    assert!(is_ready(&scene, 1).await);
    eprintln!(
        "503 after {:.1} s without a controller, {:.1} s without an agent",
        closed.as_secs_f64(),
        ran_out.as_secs_f64()
    );
    scene.release(&scene.fleet().hosts()[1].agent());
    answers(&scene, 2, "/ready", 200, "web serves v2").await;
    scene.at_rest().await;
    assert_nothing_lost(&scene.users_leave().await);
    scene.down().await;
}

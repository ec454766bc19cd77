//! kill -9 at any moment of a deployment: users see nothing of it, the fleet ends on one version by itself, and
//! `bgctl` tells the truth about it.

use super::scene::{ABORTED, DONE, LIMIT, Scene, assert_says, hosts, told};
use bgctl_tests::fleet::Ran;
use bgctl_tests::process::Process;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

#[derive(Debug, Clone, Copy)]
enum Victims {
    Controller,
    Agent(usize),
    AllAgents,
    Everything,
}

impl Victims {
    fn programs(self, scene: &Scene) -> Vec<String> {
        let agents = scene.fleet().hosts().iter().map(|host| host.agent());
        match self {
            Self::Controller => vec!["controller".to_owned()],
            Self::Agent(number) => vec![scene.fleet().hosts()[number - 1].agent()],
            Self::AllAgents => agents.collect(),
            Self::Everything => agents.chain(["controller".to_owned()]).collect(),
        }
    }

    /// All at once, as kill -9 does. Waits until each runs again.
    async fn die(self, scene: &Scene) {
        let mut killed: Vec<(String, Process)> = Vec::new();
        for program in self.programs(scene) {
            killed.push((program.clone(), scene.fleet().kill(&program).await.expect("it runs")));
        }
        for (program, before) in killed {
            scene.fleet().wait_restarted(&program, before, LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// Round and round: of three versions the next one never stands warm beside the one that serves, so that each
/// deployment makes containers.
fn next(serving: &str) -> &'static str {
    match serving {
        "v1" => "v2",
        "v2" => "v3",
        _ => "v1",
    }
}

/// How long a deployment takes that nobody disturbs.
async fn undisturbed(scene: &Scene) -> Duration {
    scene.deploy("v2").await;
    scene.deploy("v3").await.took
}

/// The moment is what these tests vary: nothing else is waited for by time.
async fn at(moment: Duration) {
    tokio::time::sleep(moment).await;
}

/// Kills during a deployment of the next version.
async fn trial(scene: &Scene, serving: &str, victims: Victims, moment: Duration) -> String {
    let version = next(serving);
    typed_and_killed(scene, &["deploy", "web", "--version", version, "--json"], serving, version, victims, moment).await
}

/// What `bgctl` says of what was typed, to lead to a version, and what the fleet comes to must agree.
async fn typed_and_killed(
    scene: &Scene,
    typed: &[&str],
    serving: &str,
    version: &str,
    victims: Victims,
    moment: Duration,
) -> String {
    scene.note(format!("--- {victims:?} dies {moment:?} into {typed:?}, which leads from {serving} to {version}"));
    let begun = Instant::now();
    let (ran, ()) = tokio::join!(scene.bgctl(typed), async {
        at(moment).await;
        victims.die(scene).await;
    });
    let now = scene.at_rest().await;
    eprintln!(
        "{victims:?} dies after {moment:?}: exit code {:?}, {now} serves, at rest after {:?}",
        ran.code,
        begun.elapsed()
    );
    assert_agrees(&ran, serving, version, &now);
    now
}

fn assert_agrees(ran: &Ran, before: &str, asked: &str, now: &str) {
    let expected = match ran.code {
        Some(DONE) => asked,
        Some(ABORTED) => before,
        _ => panic!("bgctl does not tell how it ended: {}", told(ran)),
    };
    assert_eq!(now, expected, "bgctl tells something else than what came of it: {}", told(ran));
}

/// Moments from the first to the last of a deployment, and a little beyond.
fn moments(count: u32, whole: Duration) -> impl Iterator<Item = Duration> {
    (0..count).map(move |index| whole * index / (count - 1) + whole.mul_f64(rand::random_range(0.0..0.1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_dies_at_any_moment() {
    let scene = Scene::with_users(hosts(3)).await;
    let whole = undisturbed(&scene).await;
    let mut serving = "v3".to_owned();
    for moment in moments(6, whole) {
        serving = trial(&scene, &serving, Victims::Controller, moment).await;
    }
    scene.deploy(next(&serving)).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_die_at_any_moment() {
    let scene = Scene::with_users(hosts(3)).await;
    let whole = undisturbed(&scene).await;
    let mut serving = "v3".to_owned();
    for (index, moment) in moments(5, whole).enumerate() {
        serving = trial(&scene, &serving, Victims::Agent(1 + index % 3), moment).await;
    }
    for moment in moments(3, whole) {
        serving = trial(&scene, &serving, Victims::AllAgents, moment).await;
    }
    scene.deploy(next(&serving)).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_dies_at_any_moment_and_while_nothing_happens() {
    let scene = Scene::with_users(hosts(3)).await;
    let whole = undisturbed(&scene).await;
    Victims::Everything.die(&scene).await;
    assert_eq!(scene.at_rest().await, "v3", "it changed while nobody asked for anything");
    let mut serving = "v3".to_owned();
    for moment in moments(4, whole) {
        serving = trial(&scene, &serving, Victims::Everything, moment).await;
    }
    scene.deploy(next(&serving)).await;
    scene.end().await;
}

/// Both versions are warm: everything happens within milliseconds, and what dies is in the middle of it. A rollback
/// goes back once, however often it had to be asked for.
#[tokio::test(flavor = "multi_thread")]
async fn anything_dies_within_the_milliseconds_of_a_warm_switch() {
    let scene = Scene::with_users(hosts(3)).await;
    scene.deploy("v3").await;
    scene.deploy("v2").await;
    let whole = scene.roll_back(&["rollback"], "v3").await.took;
    let mut serving = "v3".to_owned();
    let all = [Victims::AllAgents, Victims::Controller, Victims::Everything];
    for (index, moment) in moments(12, whole).enumerate() {
        let (typed, version): (&[&str], _) = match serving.as_str() {
            "v3" => (&["deploy", "web", "--version", "v2", "--json"], "v2"),
            _ => (&["rollback", "--json"], "v3"),
        };
        serving = typed_and_killed(&scene, typed, &serving, version, all[index % all.len()], moment).await;
    }
    scene.deploy("v1").await;
    scene.end().await;
}

/// How long until `bgctl` hears of its deployment for the first time: it has been opened just before.
async fn until_opened(scene: &Scene, version: &str) -> Duration {
    let begun = Instant::now();
    let mut command = scene.fleet().bgctl_command(&["deploy", "web", "--version", version, "--json"]).expect("bgctl");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("bgctl runs");
    let mut first = [0; 1];
    child.stdout.take().expect("it is piped").read_exact(&mut first).await.expect("a line");
    let opened = begun.elapsed();
    child.kill().await.expect("it is ours");
    scene.served(version).await;
    opened
}

/// The versions are warm, so that most moments are within the controller's own work, and most of all at the opening.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_dies_at_any_moment() {
    let scene = Scene::with_users(hosts(3)).await;
    scene.deploy("v2").await;
    let whole = scene.deploy("v1").await.took;
    let opened = until_opened(&scene, "v2").await;
    let mut serving = "v2";
    for moment in moments(40, opened).chain(moments(8, whole)) {
        let version = if serving == "v1" { "v2" } else { "v1" };
        scene.note(format!("--- bgctl dies {moment:?} into a deployment of {version}"));
        let mut command = scene.fleet().bgctl_command(&["deploy", "web", "--version", version]).expect("bgctl");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bgctl runs");
        at(moment).await;
        child.kill().await.expect("it is ours");
        // Typed again it attaches, or finds it done, or it never came to anything and is begun now.
        scene.deploy(version).await;
        serving = version;
    }
    let seen = scene.versions_seen();
    assert_eq!(seen, 4 + 48, "something was deployed twice, or not at all");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_goes_for_good_ends_the_deployment_at_its_deadline() {
    let scene = Scene::with_users(hosts(3)).await;
    let spec = include_str!("../fixtures/web.yaml").replace("prepare_timeout: 30s", "prepare_timeout: 5s");
    let spec = scene.spec("soon.yaml", &spec);
    scene.expect(&["apply", "-f", &spec], DONE, &[]).await;
    let agent = scene.fleet().hosts()[1].agent();
    let deploy = ["deploy", "web", "--version", "slow"];
    let (ran, ()) = tokio::join!(scene.bgctl(&deploy), async {
        at(Duration::from_secs(1)).await;
        scene.hold(&agent).await;
    });
    assert_eq!(ran.code, Some(ABORTED), "{}", told(&ran));
    assert_says(&ran, &[scene.host(2)]);
    assert!(ran.took < Duration::from_secs(10), "long after the deadline: {}", told(&ran));
    scene.release(&agent);
    assert_eq!(scene.at_rest().await, "v1");

    // The controller stays away after some of the votes, maybe after all: in doubt every host serves on.
    let (ran, ()) = tokio::join!(scene.bgctl(&deploy), async {
        at(Duration::from_secs(4)).await;
        scene.hold("controller").await;
        at(Duration::from_secs(2)).await;
        scene.release("controller");
    });
    let now = scene.at_rest().await;
    assert_agrees(&ran, "v1", "slow", &now);
    scene.deploy("v2").await;
    scene.end().await;
}

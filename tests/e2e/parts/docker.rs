//! Docker without `live-restore`, its containers and its images.

use super::stage::{ABORTED, LIMIT, Stage, until};
use bgctl_tests::netfleet::{NetFleetOptions, Order};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_that_takes_its_containers_along_and_a_person_who_kills_prunes_and_moves_tags() {
    let options = NetFleetOptions { live_restore: false, registry: true, ..NetFleetOptions::default() };
    let stage = Stage::up(options).await;
    for host in 0..2 {
        stage.told(host, "warnings", |told| told.contains("live-restore")).await;
    }
    let labels_of_v1 = labels(&stage, 0, "v1");
    stage.deploy("v2").await;
    docker_dies(&stage).await;
    stage.deploy("v3").await;
    stage.deploy("v2").await;
    containers_are_killed(&stage).await;
    images_are_pruned(&stage).await;
    a_tag_moves(&stage).await;
    the_disk_is_full(&stage).await;
    a_leftover_returns(&stage, &labels_of_v1).await;
}

/// Its containers live through its death and end when it is started again.
async fn docker_dies(stage: &Stage) {
    let before = stage.started(0, "v2");
    let seen = stage.strike("dockerd dies and stays away", 0, "v2", async {
        stage.host(0).hold("dockerd").expect("a file");
        stage.host(0).kill("dockerd", LIMIT).await.expect("it runs");
        stage.told(0, "troubles", |told| told.contains("Docker does not answer")).await;
        let ran = stage.bgctl(&["deploy", "web", "--version", "v3"]).await;
        assert_ne!(ran.code, Some(0), "{}", ran.short());
        assert!(ran.stderr.contains("h1") || ran.stdout.contains("h1"), "{}{}", ran.stdout, ran.stderr);
        assert!(stage.host(0).processes("containerd-shim").len() >= 2, "containers ended with it");
        stage.host(0).release("dockerd");
        until("what was served runs again", || {
            stage.started(0, "v2").is_some_and(|now| Some(now) != before) && stage.started(0, "v1").is_some()
        })
        .await;
    });
    seen.await.versions(&["v2"]);
}

async fn containers_are_killed(stage: &Stage) {
    let (before, served) = (stage.started(0, "v2"), stage.container(0, "v2"));
    let seen = stage.strike("the served container is killed", 0, "v2", async {
        stage.shell(0, &["docker", "kill", &served]);
        until("its restart", || stage.started(0, "v2").is_some_and(|now| Some(now) != before)).await;
    });
    seen.await.versions(&["v2"]);

    // It runs on where nobody reaches it.
    let (before, served) = (stage.started(0, "v2"), stage.container(0, "v2"));
    let seen = stage.strike("the served container is taken off its network", 0, "v2", async {
        stage.shell(0, &["docker", "network", "disconnect", "bgctl", &served]);
        until("its successor", || stage.started(0, "v2").is_some_and(|now| Some(now) != before)).await;
    });
    seen.await.versions(&["v2"]);

    let warm = stage.container(0, "v3");
    let seen = stage.strike("the warm container is killed before a rollback", 0, "v3", async {
        stage.shell(0, &["docker", "kill", &warm]);
        stage.roll_back().await;
    });
    seen.await.lost_nothing().versions(&["v2 → v3"]);
}

/// The host that is struck is not the one that the images were made on.
async fn images_are_pruned(stage: &Stage) {
    stage.deploy("v2").await;
    stage.deploy("v3").await;
    let seen = stage.strike("the warm container and its image are gone", 1, "v2", async {
        let warm = stage.container(1, "v2");
        stage.stop_agent(1).await;
        stage.shell(1, &["docker", "rm", "--force", &warm]);
        let pruned = stage.shell(1, &["docker", "image", "prune", "--all", "--force"]);
        assert!(pruned.contains("deleted:"), "nothing was pruned: {pruned}");
        stage.host(1).release("agent");
        stage.told(1, "connected", |told| told == "true").await;
        until("the warm container's return", || stage.started(1, "v2").is_some()).await;
        stage.roll_back().await;
    });
    seen.await.lost_nothing().versions(&["v3 → v2"]);
}

/// The first host asks the registry what the tag is, and then another image gets it.
async fn a_tag_moves(stage: &Stage) {
    let tag = format!("{}:slow", stage.fleet.repository());
    let host = stage.host(1);
    let seen = stage.strike("a tag moves between two pulls", 1, "slow", async {
        host.points().arm("before_pull", Order::Stop).expect("a file");
        tokio::join!(stage.deploy("slow"), async {
            assert!(host.points().wait_reached("before_pull", LIMIT).await, "nobody pulled");
            stage.shell(0, &["docker", "tag", "demo/web:late", &tag]);
            stage.shell(0, &["docker", "push", &tag]);
            host.process("agent").expect("it runs").signal(Signal::CONT);
        });
    });
    seen.await.lost_nothing().versions(&["v2 → slow"]);
    stage.deploy("v2").await;
}

async fn the_disk_is_full(stage: &Stage) {
    let folder = stage.host(1).dir().join("docker/tmp");
    let folder = folder.to_string_lossy();
    stage.fleet.forget_image(1, "v3").await.unwrap_or_else(|error| panic!("{error}"));
    let seen = stage.strike("no room for an image", 1, "v2", async {
        stage.shell(1, &["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", &folder]);
        let ran = stage.bgctl(&["deploy", "web", "--version", "v3"]).await;
        stage.shell(1, &["umount", &folder]);
        assert_eq!(ran.code, Some(ABORTED), "{}", ran.short());
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("no space left") && said.contains("h2"), "{said}");
    });
    seen.await.lost_nothing().versions(&["v2"]);
    stage.deploy("v3").await;
}

/// Made by hand as an agent long ago might have left it: with labels of ours, and a policy that Docker follows at its
/// own start, while no agent is there.
async fn a_leftover_returns(stage: &Stage, labels: &[String]) {
    let image = format!("{}:v1", stage.fleet.repository());
    let seen = stage.strike("a leftover returns with Docker", 0, "v3", async {
        stage.stop_agent(0).await;
        let labels = labels.iter().flat_map(|label| ["--label", label.as_str()]);
        let words = ["docker", "run", "--detach", "--restart", "always", "--network", "none"];
        let words: Vec<_> = words.into_iter().chain(labels).chain([image.as_str()]).collect();
        let leftover = stage.shell(0, &words);
        let before = started(stage, &leftover);
        stage.host(0).kill("dockerd", LIMIT).await.expect("it runs");
        until("its return", || started(stage, &leftover).is_some_and(|now| Some(now) != before)).await;
        stage.host(0).release("agent");
        until("its end", || {
            let listed = stage.try_shell(0, &["docker", "ps", "--all", "--quiet", "--no-trunc"]);
            listed.is_ok_and(|listed| !listed.lines().any(|id| id == leftover))
        })
        .await;
    });
    seen.await.versions(&["v3"]);
    stage.deploy("v2").await;
}

/// None: it does not run.
fn started(stage: &Stage, id: &str) -> Option<String> {
    let format = "{{.State.Running}} {{.State.StartedAt}}";
    let said = stage.try_shell(0, &["docker", "inspect", "--format", format, id]).ok()?;
    said.strip_prefix("true ").map(str::to_owned)
}

fn labels(stage: &Stage, host: usize, version: &str) -> Vec<String> {
    let id = stage.container(host, version);
    let said = stage.shell(host, &["docker", "inspect", "--format", "{{json .Config.Labels}}", &id]);
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_str(&said).expect("labels");
    labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

//! dockerd dies while it starts a container, and the next one does not know that the container's process lives. That
//! stays at its address, beside whatever is started there next, unless the agent ends it.

use super::stage::{ABORTED, DONE, LIMIT, Stage};
use bgctl_tests::netfleet::{Moment, NetFleetOptions};

/// The host that is struck.
const HOST: usize = 0;
/// How often a moment is tried for. It is missed by some milliseconds once in six times.
const TRIES_MAX: usize = 8;
/// A service's addresses: so many deployments start something at each of them.
const BERTHS: usize = 3;
/// The last byte of the first of them: the one before is the bridge's own.
const FIRST: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_that_dies_while_it_starts_a_container_and_does_not_know_it_any_more() {
    let stage = Stage::up(NetFleetOptions::default()).await;
    let mut serving = a_new_release_is_lost(&stage, Moment::Begun, "v1").await;
    what_is_served_is_lost(&stage, Moment::Begun, serving).await;
    for moment in [Moment::Made, Moment::Running] {
        serving = a_new_release_is_lost(&stage, moment, serving).await;
        // To the address of the one that was lost comes another version: users tell which of the two they meet.
        let (second, third) = (next(serving), next(next(serving)));
        serving = every_berth_is_used_again(&stage, serving, ["slow", second, third]).await;
        what_is_served_is_lost(&stage, moment, serving).await;
        serving = every_berth_is_used_again(&stage, serving, [next(serving), next(next(serving)), serving]).await;
    }
}

/// What stands warm is the version before: the next one has to be started.
fn next(serving: &str) -> &'static str {
    match serving {
        "v1" => "v2",
        "v2" => "v3",
        _ => "v1",
    }
}

/// Answers what is served afterwards.
async fn a_new_release_is_lost(stage: &Stage, moment: Moment, mut serving: &'static str) -> &'static str {
    for _ in 0..TRIES_MAX {
        let (version, mut is_lost) = (next(serving), false);
        let what = format!("dockerd dies while it starts the next release ({moment:?})");
        let seen = stage.strike_to(&what, HOST, async {
            let killed = stage.host(HOST).kill_dockerd_mid_start(moment, LIMIT).expect("it runs");
            let typed = ["deploy", "web", "--version", version];
            let (ran, killed) = tokio::join!(stage.bgctl(&typed), killed);
            is_lost = killed.unwrap_or_else(|error| panic!("{error}")).is_lost;
            match ran.code {
                Some(DONE) => version,
                Some(ABORTED) => serving,
                _ => panic!("neither done nor aborted: {}", ran.short()),
            }
        });
        let (seen, serves) = seen.await;
        seen.lost_nothing().versions(&[serving, &format!("{serving} → {version}")]);
        serving = serves;
        if is_lost {
            return serving;
        }
    }
    panic!("in {TRIES_MAX} tries Docker never lost track of what it started");
}

/// Its users are turned away while nobody runs there, and no longer.
async fn what_is_served_is_lost(stage: &Stage, moment: Moment, serving: &str) {
    for _ in 0..TRIES_MAX {
        let mut is_lost = false;
        let what = format!("dockerd dies while it starts again what is served ({moment:?})");
        let served = stage.container(HOST, serving);
        let seen = stage.strike(&what, HOST, serving, async {
            let killed = stage.host(HOST).kill_dockerd_mid_start(moment, LIMIT).expect("it runs");
            stage.shell(HOST, &["docker", "kill", &served]);
            is_lost = killed.await.unwrap_or_else(|error| panic!("{error}")).is_lost;
            match moment {
                Moment::Begun | Moment::Made => nothing_is_unknown_to_docker(stage).await,
                // It serves, and is let: it goes with the next release that comes to its address.
                Moment::Running => {}
            }
        });
        seen.await.versions(&[serving]);
        if is_lost {
            return;
        }
    }
    panic!("in {TRIES_MAX} tries Docker never lost track of what it started");
}

/// What was lost is gone from wherever it was: what is started there gets all that is sent to it.
async fn every_berth_is_used_again(
    stage: &Stage,
    mut serving: &'static str,
    versions: [&'static str; BERTHS],
) -> &'static str {
    for version in versions {
        call_at_every_berth(stage);
        let what = format!("{version} is deployed afterwards");
        let seen = stage.strike(&what, HOST, version, stage.deploy(version)).await;
        seen.lost_nothing().versions(&[&format!("{serving} → {version}")]);
        serving = version;
    }
    nothing_is_unknown_to_docker(stage).await;
    serving
}

async fn nothing_is_unknown_to_docker(stage: &Stage) {
    let known = stage.fleet.wait_all_known(HOST, LIMIT).await;
    known.unwrap_or_else(|error| panic!("{error}\n{}", stage.fleet.log_ends()));
}

/// As a health check does, or nginx. Who answers is where all that is sent there goes from now on, until somebody else at
/// the address has something to say: of two with one address, the one that is started next waits in vain.
fn call_at_every_berth(stage: &Stage) {
    let subnet = "{{(index .IPAM.Config 0).Subnet}}";
    let subnet = stage.shell(HOST, &["docker", "network", "inspect", "--format", subnet, "bgctl"]);
    let (prefix, _) = subnet.split_once(".0/").expect("a subnet that ends with a byte");
    let calls = (0..BERTHS).map(|berth| format!("timeout 0.3 bash -c '</dev/tcp/{prefix}.{}/8080' & ", FIRST + berth));
    // Nobody there is as good.
    drop(stage.try_shell(HOST, &["bash", "-c", &format!("{} wait", calls.collect::<String>())]));
}

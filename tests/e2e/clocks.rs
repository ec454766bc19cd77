//! Clocks that somebody sets an hour forward or back, of hosts and of the controller, while users are there. libfaketime
//! stands between the programs and the clock; the time since the boot goes on as ever.

use super::docker::{containers, started};
use super::scene::{Scene, hosts};
use bgctl_tests::fleet::FleetOptions;
use std::time::Duration;

/// Two looks of the agent at what has had its time.
const LOOKS: Duration = Duration::from_secs(3);

fn assert_warm(scene: &Scene, version: &str) {
    for number in 1..=2 {
        let all = containers(scene.host(number), true);
        assert!(all.iter().any(|(of, _)| of == version), "{version} is no longer warm on host {number}: {all:?}");
    }
}

async fn set(scene: &Scene, program: &str, hours: i32) {
    scene.note(format!("--- the clock of {program} is {hours:+} h off"));
    scene.fleet().set_clock(program, hours).unwrap_or_else(|error| panic!("{error}"));
}

/// Dies, and comes back by itself.
async fn restart(scene: &Scene, program: &str) {
    scene.hold(program).await;
    scene.release(program);
    scene.connected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_an_hour_either_way_change_nothing_for_users() {
    let scene = Scene::with_users(FleetOptions { clocks: true, ..hosts(2) }).await;
    let agent = scene.fleet().hosts()[0].agent();
    let controller = "controller".to_owned();
    scene.deploy("v2").await;
    for hours in [1, -1] {
        for program in [&agent, &controller] {
            // The way back stays as warm as it was, and is as near.
            set(&scene, program, hours).await;
            tokio::time::sleep(LOOKS).await;
            assert_warm(&scene, "v1");
            scene.roll_back(&["rollback", "--json"], "v1").await;
            scene.deploy("v2").await;

            // In the middle of a deployment the clock is right again.
            let jump = async {
                started(scene.host(1), "slow").await;
                set(&scene, program, 0).await;
            };
            tokio::join!(scene.deploy("slow"), jump);
            assert_warm(&scene, "v2");
            scene.deploy("v1").await;
            scene.deploy("v2").await;

            // A program that starts with the wrong time finds its way in, and knows what stands where.
            set(&scene, program, hours).await;
            restart(&scene, program).await;
            assert_eq!(scene.at_rest().await, "v2");
            tokio::time::sleep(LOOKS).await;
            assert_warm(&scene, "v1");
            scene.deploy("v1").await;
            scene.deploy("v2").await;
            set(&scene, program, 0).await;
            restart(&scene, program).await;
            assert_eq!(scene.at_rest().await, "v2");
        }
    }
    scene.end().await;
}

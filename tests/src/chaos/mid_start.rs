//! The struck host's dockerd dies while it starts a container, and the next one does not know that it lives.

use super::case::{Begun, Case};
use super::prepare::{Prepared, prepare};
use super::scene::{CONVERGE_LIMIT, ChaosError, Scene};
use super::table::Line;
use super::trial::{Done, conclude, text, wait_for_parts};
use crate::netfleet::{Moment, NetFleetError};
use std::time::{Duration, Instant};

/// How often it is tried to meet the moment, which is missed by some milliseconds once in six times.
const TRIES_MAX: usize = 5;
/// For the container to be started, and for the next dockerd to answer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A try that met the moment, or that shows something bad in any case.
pub(super) async fn run(
    scene: &mut Scene,
    case: &Case,
    (begun, moment): (Begun, Moment),
    host: usize,
) -> Result<Line, ChaosError> {
    for _ in 0..TRIES_MAX {
        let (line, is_lost) = once(scene, case, begun, moment, host).await?;
        if is_lost || line.is_bad() {
            return Ok(line);
        }
    }
    Err(ChaosError::Missing { what: format!("in {TRIES_MAX} tries a Docker that has lost track of what it started") })
}

async fn once(
    scene: &mut Scene,
    case: &Case,
    begun: Begun,
    moment: Moment,
    host: usize,
) -> Result<(Line, bool), ChaosError> {
    let Prepared { before, version, faults } = prepare(scene, host).await?;
    if begun == Begun::Served {
        scene.watch_is_over().await?;
    }
    let struck = &scene.fleet.hosts()[host];
    let killed = struck.kill_dockerd_mid_start(moment, START_LIMIT)?;
    let (asked, code, killed) = match begun {
        Begun::Next => {
            let typed = ["deploy", "web", "--version", version];
            let (ran, killed) = tokio::join!(scene.fleet.bgctl(&typed), killed);
            (version.to_owned(), ran?.code, killed?)
        }
        Begun::Served => {
            let serves = text(&before["services"][0]["version"]);
            kill_container(scene, host, &serves).await?;
            (serves, None, killed.await?)
        }
    };
    let healed = Instant::now();
    match (begun, moment) {
        // It serves, and is let: it goes with the next release that comes to its address.
        (Begun::Served, Moment::Running) => {}
        (Begun::Next, _) | (Begun::Served, Moment::Begun | Moment::Made) => {
            scene.fleet.wait_all_known(host, CONVERGE_LIMIT).await?
        }
    }
    wait_for_parts(scene, host).await?;
    let done = Done { before: &before, asked: &asked, code, struck: Some(host), path: None, since: healed };
    Ok((conclude(scene, case, done, faults).await?, killed.is_lost))
}

async fn kill_container(scene: &Scene, host: usize, version: &str) -> Result<(), ChaosError> {
    let containers = scene.fleet.containers(host).await?;
    let name = scene.fleet.hosts()[host].name();
    let missing = || ChaosError::Missing { what: format!("a container of {version} on {name}") };
    let (id, _) = containers.iter().find(|(_, of)| of == version).ok_or_else(missing)?;
    let killed = scene.fleet.docker(host)?.kill_container(id, None).await;
    let failed = |source| NetFleetError::Docker { action: "kill a container", machine: name.to_owned(), source };
    Ok(killed.map_err(failed)?)
}

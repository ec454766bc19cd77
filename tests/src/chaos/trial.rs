//! One case from a fleet at rest to a fleet at rest.

use super::case::{Case, Side, Strike};
use super::judge::{self, Evidence};
use super::mid_start;
use super::prepare::{Prepared, prepare};
use super::scene::{CONVERGE_LIMIT, ChaosError, Scene};
use super::strike::{self, Standing, candidates, program};
use super::switches;
use super::table::Line;
use crate::netfleet::{NetFleetError, Order};
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// For somebody to come to the point: a deployment, and the drain after it.
const REACH_LIMIT: Duration = Duration::from_secs(60);
/// For the command to end: the deployment's own deadline is 30 s, a lease and its follower come on top.
const COMMAND_LIMIT: Duration = Duration::from_secs(150);
/// For as long a process that has not promised is left standing, in case somebody counts on it all the same.
const TEMPT_FOR: Duration = Duration::from_millis(1500);
/// How often a waiting caller looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(super) async fn run(scene: &mut Scene, case: &Case, number: usize) -> Result<Line, ChaosError> {
    let host = number % scene.fleet.hosts().len();
    match case {
        Case::Strike(strike) => struck(scene, case, strike, host).await,
        Case::MidStart(begun, moment) => mid_start::run(scene, case, (*begun, *moment), host).await,
        Case::Switches(count) => switches::run(scene, case, *count, host).await,
    }
}

async fn struck(scene: &mut Scene, case: &Case, strike: &Strike, host: usize) -> Result<Line, ChaosError> {
    let Prepared { before, version, mut faults } = prepare(scene, host).await?;
    for machine in scene.fleet.machines() {
        machine.points().disarm();
    }
    for machine in candidates(scene, strike.side, host) {
        machine.points().arm(&strike.point, Order::Stop)?;
    }
    let mut command = scene.fleet.bgctl_command(&["deploy", "web", "--version", version, "--json"])?;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|source| NetFleetError::Start { what: "bgctl".to_owned(), source })?;
    let deployment = tokio::spawn(child.wait_with_output());

    let standing = wait_reached(scene, strike, host).await;
    let standing = match standing {
        Some(standing) => standing,
        None => {
            let said = match tokio::time::timeout(COMMAND_LIMIT, deployment).await {
                Ok(Ok(Ok(output))) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Ok(_) | Err(_) => "nothing".to_owned(),
            };
            return Err(ChaosError::NotReached { point: strike.point.clone(), limit: REACH_LIMIT, said });
        }
    };
    faults.extend(tempt(scene, strike, &before, host).await?);
    let lost = scene.lost();
    if lost > 0 {
        faults.push(format!("{lost} requests were lost before anything was struck"));
    }
    strike::strike(scene, strike.fault, host, Some(&standing)).await?;
    let healed = Instant::now();

    let ended = tokio::time::timeout(COMMAND_LIMIT, deployment).await;
    let Ok(Ok(Ok(output))) = ended else { return Err(ChaosError::Stuck { limit: COMMAND_LIMIT }) };
    wait_for_parts(scene, host).await?;
    let (before, code) = (&before, output.status.code());
    let done = Done { before, asked: version, code, struck: Some(host), path: None, since: healed };
    conclude(scene, case, done, faults).await
}

/// What was done in a case.
pub(super) struct Done<'a> {
    /// `bgctl status --json` before it.
    pub(super) before: &'a Value,
    /// The version that was asked for.
    pub(super) asked: &'a str,
    /// The command's exit code.
    pub(super) code: Option<i32>,
    /// The host that was struck.
    pub(super) struck: Option<usize>,
    /// See [`Evidence::path`].
    pub(super) path: Option<Vec<String>>,
    /// When everything was healed.
    pub(super) since: Instant,
}

/// Waits for the fleet to be at rest, changes its users, and judges what they saw.
pub(super) async fn conclude(
    scene: &mut Scene,
    case: &Case,
    done: Done<'_>,
    faults: Vec<String>,
) -> Result<Line, ChaosError> {
    let Done { before, asked, code, struck, path, since } = done;
    let after = scene.at_rest().await?;
    let converged = since.elapsed();
    let history = scene.history().await?;
    let report = scene.change_of_users().await?;
    let struck = struck.map_or("", |host| scene.fleet.hosts()[host].name());
    let evidence = Evidence { before, after: &after, history: &history, report: &report, path, asked, code, struck };
    Ok(judge::judge(case, &evidence, converged, faults))
}

async fn wait_reached(scene: &Scene, strike: &Strike, host: usize) -> Option<Standing> {
    let deadline = Instant::now() + REACH_LIMIT;
    loop {
        for machine in candidates(scene, strike.side, host) {
            if machine.points().is_reached(&strike.point) {
                // Whoever else comes to it later passes.
                for other in candidates(scene, strike.side, host) {
                    if other.name() != machine.name() {
                        other.points().disarm();
                    }
                }
                return Some(Standing { process: machine.process(program(strike.side)) });
            }
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a strike costs is this case's, not the next one's: a master that was killed leaves a worker that serves on until
/// the agent has looked, and a Docker that was killed is not missed where everything is done.
pub(super) async fn wait_for_parts(scene: &Scene, host: usize) -> Result<(), ChaosError> {
    let deadline = Instant::now() + CONVERGE_LIMIT;
    let struck = &scene.fleet.hosts()[host];
    loop {
        // Its socket is not there either while it is.
        let docker = async { scene.fleet.docker(host).ok()?.ping().await.ok() };
        if strike::is_nginx_whole(struck) && docker.await.is_some() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what = format!("one nginx with workers of its own and an answer of Docker on {}", struck.name());
            return Err(NetFleetError::Deadline { what, limit: CONVERGE_LIMIT }.into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// While the host stands where it has promised or acknowledged nothing, nobody may act as if it had.
async fn tempt(scene: &Scene, strike: &Strike, before: &Value, host: usize) -> Result<Vec<String>, ChaosError> {
    if strike.side == Side::Leader || !(strike.is_unpromised() || strike.is_unacknowledged()) {
        return Ok(Vec::new());
    }
    let was = before["services"][0]["generation"].as_u64().unwrap_or_default();
    let name = scene.fleet.hosts()[host].name();
    let deadline = Instant::now() + TEMPT_FOR;
    loop {
        let ran = scene.fleet.bgctl(&["status", "--json"]).await?;
        let answer = ran.json().unwrap_or_default();
        let service = &answer["services"][0];
        if strike.is_unpromised() && service["generation"].as_u64().is_some_and(|now| now > was) {
            return Ok(vec![format!("S2: committed while {name} had not promised")]);
        }
        let told = service["hosts"].as_array().cloned().unwrap_or_default();
        let of_host = told.iter().find(|told| told["host"] == name);
        if strike.is_unacknowledged()
            && of_host.is_some_and(|told| told["generation"].as_u64().is_some_and(|now| now > was))
        {
            return Ok(vec![format!("S10: {name} is said to serve what it has not been seen to serve")]);
        }
        if Instant::now() >= deadline {
            return Ok(Vec::new());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

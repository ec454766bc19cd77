//! A deployment, from the start of `bgctl` to its exit, against the least that Docker needs: both measured in turns.
//!
//! The floor is what nobody can do without who starts a new container: for each of three containers at once,
//! `POST /containers/create`, `POST /containers/ID/start`, and a GET of `/health` every millisecond until the first
//! 200; until the last of the three has answered. Same images, one bridge network, fixed addresses, nothing removed
//! meanwhile.

use crate::Effort;
use crate::backends::{self, Network};
use crate::figures::Figures;
use crate::place::Place;
use crate::sample::{Samples, timed};
use anyhow::Context;
use bgctl_tests::fleet::{Fleet, FleetOptions, Ran};
use futures_util::future::try_join_all;
use serde_json::Value;
use std::time::Duration;

/// Deployments, and floors for each.
const ROUNDS: (usize, usize) = (20, 8);
/// Deployments to what is warm.
const WARM_ROUNDS: (usize, usize) = (10, 4);
/// With three in turn, what is deployed is never what stands by.
const VERSIONS: [&str; 3] = ["v2", "v3", "v1"];
const HOSTS: u8 = 3;
/// After each measurement: what it left to do is done, such as taking away what stood by before.
const PAUSE: Duration = Duration::from_millis(1200);
/// Stages in a deployment's result, from the arrival of the request at the controller.
const STAGES: [&str; 3] = ["prepared", "decided", "applied"];
/// Stages of a host, from when it was asked to prepare; the last host's counts.
const HOST_STAGES: [&str; 3] = ["started", "healthy", "voted"];

/// Deployments of new versions, their floor, and deployments of what is warm.
pub async fn measure(place: &Place, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let network = backends::network(place).await?;
    let fleet = Fleet::up(FleetOptions { hosts: HOSTS.into(), ..FleetOptions::default() }).await?;
    let outcome = in_turns(place, &fleet, &network, effort, figures).await;
    fleet.down().await?;
    outcome
}

async fn in_turns(
    place: &Place,
    fleet: &Fleet,
    network: &Network,
    effort: Effort,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let [mut deploys, mut threes, mut ones, mut ratios]: [Samples; 4] = Default::default();
    let mut stages: [Samples; 6] = Default::default();
    for version in VERSIONS.into_iter().cycle().take(effort.pick(ROUNDS.0, ROUNDS.1)) {
        let three = floor(place, network, HOSTS, version).await?;
        let ran = deploy(fleet, version).await?;
        ones.add_millis(floor(place, network, 1, version).await?);
        threes.add_millis(three);
        deploys.add_millis(ran.took);
        ratios.add(ran.took.as_secs_f64() / three.as_secs_f64());
        let result = ran.result().context("`bgctl deploy --json` ends without a result")?;
        let of_all = STAGES.iter().map(|stage| result[format!("{stage}_micros")].as_f64());
        let of_hosts = HOST_STAGES.iter().map(|stage| slowest(&result, &format!("{stage}_micros")));
        for (samples, micros) in stages.iter_mut().zip(of_all.chain(of_hosts)) {
            samples.add(micros.unwrap_or(f64::NAN) / 1e3);
        }
    }
    figures.set_min_p50_max("deploy", "ms", &deploys);
    figures.set_min_p50_max("floor3", "ms", &threes);
    figures.set_min_p50_max("floor1", "ms", &ones);
    figures.set("deploy_to_floor_ratio", deploys.median() / threes.median());
    figures.set("deploy_to_floor_max_ratio", ratios.max());
    for (stage, samples) in STAGES.iter().chain(&HOST_STAGES).zip(&stages) {
        figures.set(&format!("deploy_{stage}_p50_ms"), samples.median());
    }
    let mut warm = Samples::default();
    // Two in turn: each is what the one before left standing by.
    for (index, version) in
        ["v2", "v3"].into_iter().cycle().take(effort.pick(WARM_ROUNDS.0, WARM_ROUNDS.1) + 2).enumerate()
    {
        let ran = deploy(fleet, version).await?;
        // The first two make it so.
        if index >= 2 {
            warm.add_millis(ran.took);
        }
    }
    figures.set_min_p50_max("deploy_warm", "ms", &warm);
    Ok(())
}

async fn deploy(fleet: &Fleet, version: &str) -> anyhow::Result<Ran> {
    let ran = fleet.bgctl(&["deploy", "web", "--version", version, "--json"]).await?.success()?;
    tokio::time::sleep(PAUSE).await;
    Ok(ran)
}

async fn floor(place: &Place, network: &Network, count: u8, version: &str) -> anyhow::Result<Duration> {
    let starts = (0..count).map(|index| backends::start(place, network, 2 + index, version));
    let (started, took) = timed(try_join_all(starts)).await;
    for backend in started? {
        place.remove_container(&backend.id).await?;
    }
    tokio::time::sleep(PAUSE / 4).await;
    Ok(took)
}

fn slowest(result: &Value, field: &str) -> Option<f64> {
    let hosts = result["hosts"].as_array()?;
    hosts.iter().filter_map(|host| host[field].as_f64()).reduce(f64::max)
}

//! Resident memory of the fleet's own programs: when nothing happens, and over many deployments.

use crate::Effort;
use crate::figures::Figures;
use crate::sample::Samples;
use anyhow::Context;
use bgctl_tests::fleet::{Fleet, FleetOptions};
use std::time::Duration;

/// Deployments.
const DEPLOYMENTS: (usize, usize) = (200, 30);
/// With three in turn, each starts new containers.
const VERSIONS: [&str; 3] = ["v2", "v3", "v1"];
/// After which nothing is under way any more.
const IDLE: Duration = Duration::from_secs(3);
/// What is averaged: so many readings in a row.
const WINDOW: usize = 5;
/// Allocators and caches are filled by then; growth counts from here.
const WARMED_UP_AFTER: (usize, usize) = (20, 10);
const CONTROLLER: &str = "controller";

/// Deployments one after the other; a reading after each.
pub async fn measure(effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let fleet = Fleet::up(FleetOptions::default()).await?;
    let outcome = over_deployments(&fleet, effort, figures).await;
    fleet.down().await?;
    outcome
}

async fn over_deployments(fleet: &Fleet, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let agents: Vec<_> = fleet.hosts().iter().map(|host| host.agent()).collect();
    let read = || {
        let agents = agents.iter().map(|agent| megabytes(fleet, agent)).collect::<anyhow::Result<Vec<_>>>()?;
        anyhow::Ok((agents.into_iter().fold(0.0, f64::max), megabytes(fleet, CONTROLLER)?))
    };
    tokio::time::sleep(IDLE).await;
    let (agent, controller) = read()?;
    figures.set("agent_idle_mb", agent);
    figures.set("controller_idle_mb", controller);
    let count = effort.pick(DEPLOYMENTS.0, DEPLOYMENTS.1);
    let mut readings = Vec::with_capacity(count);
    for version in VERSIONS.into_iter().cycle().take(count) {
        fleet.bgctl(&["deploy", "web", "--version", version, "--json"]).await?.success()?;
        readings.push(read()?);
    }
    let warmed_up = effort.pick(WARMED_UP_AFTER.0, WARMED_UP_AFTER.1);
    figures.set("memory_deployments", count as f64);
    for (name, values) in [
        ("agent", readings.iter().map(|reading| reading.0).collect::<Vec<_>>()),
        ("controller", readings.iter().map(|reading| reading.1).collect()),
    ] {
        let last = middle(&values[values.len() - WINDOW..]);
        let half = values.len() / 2;
        figures.set(&format!("{name}_halfway_mb"), middle(&values[half - WINDOW..half]));
        figures.set(&format!("{name}_after_mb"), last);
        figures.set(&format!("{name}_growth_mb"), last - middle(&values[warmed_up - WINDOW..warmed_up]));
    }
    Ok(())
}

fn middle(values: &[f64]) -> f64 {
    let mut samples = Samples::default();
    values.iter().for_each(|value| samples.add(*value));
    samples.median()
}

fn megabytes(fleet: &Fleet, program: &str) -> anyhow::Result<f64> {
    let bytes = fleet.process(program).and_then(|process| process.resident_bytes());
    Ok(bytes.with_context(|| format!("{program} does not run"))? as f64 / 1e6)
}

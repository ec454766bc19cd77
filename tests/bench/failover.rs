//! How long a fleet is without a leader: the leader of three controllers on three members of etcd dies as by kill -9,
//! at random moments of a deployment and beside one.

use crate::Effort;
use crate::figures::Figures;
use crate::sample::Samples;
use anyhow::{Context, ensure};
use bgctl_tests::fleet::{Fleet, FleetOptions, Store};
use rand::Rng;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Leaders that die.
const TRIALS: (usize, usize) = (50, 6);

/// One in so many dies while nothing runs.
const IDLE_ONE_IN: usize = 4;

/// Kills them, and notes how long the next write and the last agent took.
pub async fn measure(effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let options = FleetOptions { hosts: 3, controllers: 3, store: Store::Etcd, ..FleetOptions::default() };
    let fleet = Fleet::up(options).await?;
    let began = Instant::now();
    fleet.bgctl(&["deploy", "web", "--version", "v2"]).await?.success()?;
    let whole = began.elapsed();
    let versions = ["v1", "v2", "v3"];
    let (mut written, mut linked, mut longest) = (Samples::default(), Samples::default(), Duration::ZERO);
    for trial in 0..effort.pick(TRIALS.0, TRIALS.1) {
        let is_idle = trial % IDLE_ONE_IN == 0;
        let deploy = ["deploy", "web", "--version", versions[trial % versions.len()]];
        let deploying = match is_idle {
            true => None,
            false => {
                let mut command = fleet.bgctl_command(&deploy)?;
                let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                Some(child.context("cannot start bgctl")?)
            }
        };
        let moment = whole.mul_f64(rand::rng().random_range(0.0..1.0));
        let failover = fleet.failover(trial, moment).await?;
        written.add_millis(failover.written);
        linked.add_millis(failover.whole);
        longest = longest.max(failover.whole);
        if let Some(mut child) = deploying {
            let ended = child.wait().await.context("cannot wait for bgctl")?;
            // Done, or aborted: anything else is a deployment nobody can tell the end of.
            ensure!(matches!(ended.code(), Some(0 | 3)), "`bgctl {}` ended with {ended}", deploy.join(" "));
        }
    }
    fleet.down().await?;
    figures.set_p50_p99("failover_write", "ms", &written);
    figures.set_p50_p99("failover_linked", "ms", &linked);
    figures.set("failover_max_ms", longest.as_secs_f64() * 1e3);
    Ok(())
}

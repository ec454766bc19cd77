//! A fleet of three under load, through deployments and rollbacks: what users lose, how far apart the hosts turn, and
//! how long a rollback takes.

use crate::Effort;
use crate::figures::Figures;
use crate::sample::Samples;
use anyhow::Context;
use bgctl_tests::fleet::{Fleet, FleetOptions, Ran};
use bgctl_tests::load::{Load, LoadHandle, LoadOptions, LoadReport};
use std::time::Duration;

/// Deployments, and as many rollbacks.
const ROUNDS: (usize, usize) = (20, 8);
/// On each host: enough to see a loss, few enough to leave a small machine's processors to the rest.
const REQUESTS_PER_SECOND: u32 = 300;
/// Answers from all hosts between two switches: half a second's.
const ANSWERS_BETWEEN: u64 = 450;
/// For any state that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Deployments and rollbacks in turn.
pub async fn measure(effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let fleet = Fleet::up(FleetOptions::default()).await?;
    let outcome = under_load(&fleet, effort, figures).await;
    fleet.down().await?;
    outcome
}

async fn under_load(fleet: &Fleet, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let options = LoadOptions { rate_per_second: Some(REQUESTS_PER_SECOND), ..LoadOptions::default() };
    let load = Load::start(fleet.targets(), options)?;
    load.warm(LIMIT).await?;
    let (mut skews, mut errors) = (Samples::default(), Samples::default());
    let (mut deploys, mut rollbacks) = (Samples::default(), Samples::default());
    let mut expected = Vec::new();
    // v1 stands by while the other two take turns, so that every deployment starts new containers.
    for version in ["v2", "v3"].into_iter().cycle().take(effort.pick(ROUNDS.0, ROUNDS.1)) {
        let turns: [(&[&str], &str, &mut Samples); 2] = [
            (&["deploy", "web", "--version", version, "--json"], version, &mut deploys),
            (&["rollback", "--json"], "v1", &mut rollbacks),
        ];
        for (arguments, leads_to, times) in turns {
            let ran = fleet.bgctl(arguments).await?.success()?;
            times.add_millis(ran.took);
            skews.add(millis(&ran, "skew_micros")?);
            errors.add(millis(&ran, "skew_error_micros")?);
            expected.push(leads_to);
            settled(&load, leads_to).await?;
        }
    }
    let report = load.stop().await;
    let seen = report.switches().map(|switches| switches.iter().map(|switch| switch.to.clone()).collect::<Vec<_>>());
    let is_in_order = seen.is_ok_and(|seen| seen == expected);
    if let Some(note) = report.targets.iter().flat_map(|target| &target.failures).next() {
        figures.note(format!("rollout: the first request that failed: {note:?}"));
    }
    figures.set("rollout_switches", expected.len() as f64);
    figures.set("rollout_requests_sent", report.total.sent as f64);
    figures.set("rollout_requests_failed", report.total.failed as f64);
    figures.set("rollout_closed_idle", report.total.closed_idle as f64);
    figures.set("rollout_order_broken", f64::from(u8::from(!is_in_order)));
    figures.set_p50_p99("skew", "ms", &skews);
    figures.set("skew_max_ms", skews.max());
    figures.set("skew_error_max_ms", errors.max());
    figures.set_p50_p99("rollback", "ms", &rollbacks);
    figures.set("rollback_max_ms", rollbacks.max());
    figures.set("rollout_deploy_p50_ms", deploys.median());
    Ok(())
}

fn millis(ran: &Ran, field: &str) -> anyhow::Result<f64> {
    let result = ran.result().with_context(|| format!("`bgctl {}` ends without a result", ran.arguments))?;
    let micros = result[field].as_f64().with_context(|| format!("`bgctl {}` ends without {field}", ran.arguments))?;
    Ok(micros / 1e3)
}

async fn settled(load: &LoadHandle, version: &str) -> anyhow::Result<()> {
    let is_new = |report: &LoadReport| {
        report.targets.iter().all(|target| target.versions.last().is_some_and(|change| change.to == version))
    };
    let before = load.wait_until(&format!("{version} on every host"), LIMIT, is_new).await?.total;
    let enough = |report: &LoadReport| report.total.ok >= before.ok + ANSWERS_BETWEEN;
    load.wait_until("answers between two switches", LIMIT, enough).await?;
    Ok(())
}

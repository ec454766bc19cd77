//! What clients lose while traffic is moved: 100 that keep their connections, send POST, look before they write,
//! and never send anything twice.

use crate::Effort;
use crate::figures::Figures;
use crate::place::Place;
use crate::proxies::{self, Contender, Pair, version};
use bgctl_tests::load::{Load, LoadHandle, LoadOptions, LoadReport, Target};
use cutover::ids::Colour;
use std::time::Duration;

/// Switches of each contender.
const SWITCHES: (usize, usize) = (40, 20);
/// Paced, as pooled connections of real users are: each is idle for most of the time, which is when a reload
/// closes it.
const REQUESTS_PER_SECOND: u32 = 2000;
/// Answers between two switches: 0.25 s, longer than old workers go on after a reload.
const ANSWERS_BETWEEN: u64 = 500;
/// For any state that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// One contender after the other, within a minute.
pub async fn measure(place: &Place, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let switches = effort.pick(SWITCHES.0, SWITCHES.1);
    let pair = Pair::start(place).await?;
    let mut contenders = proxies::all(place, &pair).await?;
    figures.set("lost_switches", switches as f64);
    for contender in &mut contenders {
        let report = under_load(contender, switches).await?;
        let changes = report.targets.iter().map(|target| target.versions.len()).sum::<usize>() as f64;
        let each = |count: f64| count / switches as f64;
        let name = contender.name();
        figures.set(&format!("lost_{name}_per_switch"), each(report.total.failed as f64));
        figures.set(&format!("closed_{name}_per_switch"), each(report.total.closed_idle as f64));
        // The first answer is on record too, and is no change.
        figures.set(&format!("flips_{name}_per_switch"), each(changes - 1.0 - switches as f64));
        if let Contender::Ours(_) = contender {
            figures.set("lost_ours_requests_sent", report.total.sent as f64);
        }
    }
    Ok(())
}

async fn under_load(contender: &mut Contender, switches: usize) -> anyhow::Result<LoadReport> {
    let options = LoadOptions { rate_per_second: Some(REQUESTS_PER_SECOND), ..LoadOptions::default() };
    let load = Load::start(vec![Target::new(contender.address())], options)?;
    load.warm(LIMIT).await?;
    let mut colour = Colour::Blue;
    for _ in 0..switches {
        colour = colour.other();
        contender.prepare(colour).await?;
        contender.switch(colour).await?;
        settled(&load, colour).await?;
    }
    Ok(load.stop().await)
}

/// The new version answers, and a quarter of a second has passed since.
async fn settled(load: &LoadHandle, colour: Colour) -> anyhow::Result<()> {
    let is_new = |report: &LoadReport| {
        report.targets.iter().all(|target| target.versions.last().is_some_and(|change| change.to == version(colour)))
    };
    let before = load.wait_until("the new version", LIMIT, is_new).await?.total;
    let enough = |report: &LoadReport| report.total.ok >= before.ok + ANSWERS_BETWEEN;
    load.wait_until("answers between two switches", LIMIT, enough).await?;
    Ok(())
}

//! How long traffic takes to move, without load: the call itself, and until a new connection is answered by the new
//! version. The contenders take turns, so that all of them meet the same machine.

use crate::Effort;
use crate::backends;
use crate::figures::Figures;
use crate::place::Place;
use crate::proxies::{self, Pair, version};
use crate::sample::{Samples, timed};
use anyhow::{Context, ensure};
use cutover::ids::Colour;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

/// Switches of each contender.
const ROUNDS: (usize, usize) = (200, 50);
/// For the new version to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// After each switch: nginx's old workers are gone, and disks are quiet.
const PAUSE: Duration = Duration::from_millis(30);

/// Everything there is to time in a switch.
pub async fn measure(place: &Place, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let pair = Pair::start(place).await?;
    let mut contenders = proxies::all(place, &pair).await?;
    let dir = place.folder("rename")?;
    let mut times: BTreeMap<String, Samples> = BTreeMap::new();
    let mut note = |name: String, time| times.entry(name).or_default().add_micros(time);
    let mut colour = Colour::Blue;
    for round in 0..effort.pick(ROUNDS.0, ROUNDS.1) {
        colour = colour.other();
        // The call alone in half of the rounds, both ways; in the others, somebody asks all the time.
        let is_watched = round / 2 % 2 == 1;
        for contender in &mut contenders {
            let name = contender.name();
            let (staged, stage) = timed(contender.prepare(colour)).await;
            staged?;
            let watcher = is_watched.then(|| tokio::spawn(first_answer(contender.address(), version(colour))));
            let start = Instant::now();
            let own = contender.switch(colour).await?;
            let call = start.elapsed();
            let Some(watcher) = watcher else {
                note(format!("switch_{name}_call"), call);
                backends::served(contender.address(), version(colour), LIMIT).await?;
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let first = watcher.await.context("the watcher of a switch")??;
            note(format!("switch_{name}_served"), first.saturating_duration_since(start));
            if let Some(own) = own {
                note("switch_ours_stage".to_owned(), stage);
                note("switch_ours_rename".to_owned(), own.rename);
                note("switch_ours_proof".to_owned(), own.proof);
            }
            tokio::time::sleep(PAUSE).await;
        }
        note("switch_rename_fsync".to_owned(), rename_and_fsync(&dir)?);
    }
    for (name, samples) in &times {
        figures.set_p50_p99(name, "us", samples);
    }
    let median = |name: &str| times.get(name).map_or(f64::NAN, Samples::median);
    figures.set("switch_ours_to_reload_ratio", median("switch_ours_proof") / median("switch_reload_served"));
    figures.set(
        "switch_ours_served_to_reload_served_ratio",
        median("switch_ours_served") / median("switch_reload_served"),
    );
    figures.set("switch_ours_call_to_reload_call_ratio", median("switch_ours_call") / median("switch_reload_call"));
    Ok(())
}

/// When a new connection is first answered by this version. Asks without a pause.
async fn first_answer(address: SocketAddr, version: &'static str) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = backends::get(address, "/").await;
        if answer.as_ref().is_ok_and(|answer| answer.version.as_deref() == Some(version)) {
            return Ok(Instant::now());
        }
        ensure!(Instant::now() < deadline, "{version} does not answer on {address} within {LIMIT:?}: {answer:?}");
    }
}

/// What no switch on disk can be faster than: a symlink takes the place of another, durably.
fn rename_and_fsync(dir: &Path) -> anyhow::Result<Duration> {
    let (next, current) = (dir.join("next"), dir.join("current"));
    symlink("target", &next).context("cannot make a symlink")?;
    let start = Instant::now();
    fs::rename(&next, &current).and_then(|()| File::open(dir)?.sync_all()).context("cannot rename a symlink")?;
    Ok(start.elapsed())
}

//! `make bench`: measures bgctl beside what people would use instead, all in one run on one machine.
//! `README.md` beside this file says what each number means.

mod place;
mod sample;
mod catalogue;
mod figures;
mod backends;
mod proxies;
mod lost;
mod switch_time;
mod throughput;
mod deployment;
mod rollout;
mod swarm;
mod memory;
mod failover;

use anyhow::{Context, ensure};
use bgctl_tests::exit::exit;
use clap::{Parser, ValueEnum};
use figures::Figures;
use place::Place;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// No part takes longer, also on a machine several times slower than the one it was written on.
const PART_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Set to 1, figures of a debug build are taken.
const DEBUG_ALLOWED: &str = "BGCTL_BENCH_DEBUG";

/// Measures, prints a table, and writes target/bench/bench.json.
/// Exit code 1: something could not be measured. A bar that is missed is printed, and changes no exit code.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// Fewer rounds: about 3 minutes, for a first look.
    #[arg(long)]
    quick: bool,
    /// Only this part; may be given again.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Part>,
    /// Leaves the sample service's images.
    #[arg(long)]
    keep_images: bool,
}

/// What is measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What clients lose in a switch: ours, nginx -s reload, HAProxy.
    Lost,
    /// How long a switch takes: ours, nginx -s reload, HAProxy, a bare rename.
    Switch,
    /// Requests per second with the switch and without; bridge address and docker-proxy.
    Throughput,
    /// A deployment against what Docker itself needs.
    Deployment,
    /// Deployments and rollbacks of a fleet under load.
    Rollout,
    /// The same update and rollback by Docker Swarm.
    Swarm,
    /// Memory of agent and controller over many deployments.
    Memory,
    /// How long a fleet is without a leader.
    Failover,
}

/// How thorough to be.
#[derive(Debug, Clone, Copy)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// One number for a whole run, one for a quick one.
    fn pick(self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("bench", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let is_debug = cfg!(debug_assertions);
    ensure!(
        !is_debug || std::env::var(DEBUG_ALLOWED).is_ok_and(|value| value == "1"),
        "this is a debug build, and so are the programs beside it: use `make bench`, or set {DEBUG_ALLOWED}=1 for \
         figures that say nothing"
    );
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let place = Place::open().await?;
    let mut figures = Figures::default();
    let finished = tokio::select! {
        finished = measure(&place, &args, &mut figures) => Some(finished),
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
    };
    let file = place.results_file();
    place.close(args.keep_images).await?;
    let Some(failed) = finished else {
        println!("interrupted; everything is removed");
        return Ok(ExitCode::from(130));
    };
    println!("\n{figures}");
    write_json(&file, &figures)?;
    println!("{} numbers in {}", figures.len(), file.display());
    if is_debug {
        println!("DEBUG BUILD: these figures say nothing");
    }
    for (part, error) in &failed {
        println!("NOT MEASURED: {part:?}: {error:#}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every part that was asked for; answers those that failed. One that fails does not keep the others.
async fn measure(place: &Place, args: &Args, figures: &mut Figures) -> Vec<(Part, anyhow::Error)> {
    let began = Instant::now();
    let effort = Effort { quick: args.quick };
    let mut failed = Vec::new();
    for part in Part::value_variants().iter().copied() {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        println!("{:>6.1} s  {part:?}", began.elapsed().as_secs_f64());
        let measured = tokio::time::timeout(PART_LIMIT, one(part, place, effort, figures)).await;
        let outcome = measured.unwrap_or_else(|_| Err(anyhow::anyhow!("not done within {PART_LIMIT:?}")));
        let swept = place.sweep().await.context("cannot clear away after it");
        failed.extend([outcome, swept].into_iter().filter_map(Result::err).map(|error| (part, error)));
    }
    figures.set("bench_seconds", began.elapsed().as_secs_f64());
    figures.set("bench_quick", f64::from(u8::from(args.quick)));
    figures.set("bench_cpus", std::thread::available_parallelism().map_or(0.0, |cpus| cpus.get() as f64));
    failed
}

async fn one(part: Part, place: &Place, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    match part {
        Part::Lost => lost::measure(place, effort, figures).await,
        Part::Switch => switch_time::measure(place, effort, figures).await,
        Part::Throughput => throughput::measure(place, effort, figures).await,
        Part::Deployment => deployment::measure(place, effort, figures).await,
        Part::Rollout => rollout::measure(effort, figures).await,
        Part::Swarm => swarm::measure(place, effort, figures).await,
        Part::Failover => failover::measure(effort, figures).await,
        Part::Memory => memory::measure(effort, figures).await,
    }
}

fn write_json(file: &PathBuf, figures: &Figures) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&figures.to_json()).context("figures as JSON")?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

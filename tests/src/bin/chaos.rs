//! `make chaos`: every crash point, cut and loss of power, on a fleet of namespaces under load, in one table.

use anyhow::{Context, ensure};
use bgctl_tests::chaos::case::{self, Case};
use bgctl_tests::chaos::{ChaosOptions, run};
use bgctl_tests::exit::exit;
use bgctl_tests::workspace;
use clap::Parser;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the cases, prints a table, and writes target/chaos/chaos.json. Exit code 1: a bar is missed, or a case could not
/// be run. The logs of a case that went wrong are in target/chaos.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Args {
    /// Only cases whose name contains this; may be given again.
    #[arg(long)]
    only: Vec<String>,
    /// Only the few that `make test` runs.
    #[arg(long)]
    core: bool,
    /// Print the cases, and run none.
    #[arg(long)]
    list: bool,
    /// Requests per second on each host.
    #[arg(long, default_value_t = 350)]
    rate: u32,
    /// No case begins after so many minutes.
    #[arg(long, default_value_t = 240)]
    minutes: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("chaos", all(Args::parse()).await)
}

async fn all(args: Args) -> anyhow::Result<ExitCode> {
    let cases = if args.core { case::core() } else { case::all() };
    let is_wanted = |case: &Case| args.only.is_empty() || args.only.iter().any(|part| case.to_string().contains(part));
    let cases: Vec<_> = cases.into_iter().filter(is_wanted).collect();
    ensure!(!cases.is_empty(), "no case is called so; --list shows them all");
    if args.list {
        cases.iter().for_each(|case| println!("{case}"));
        return Ok(ExitCode::SUCCESS);
    }
    let folder = workspace::root().join("target/chaos");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let options = ChaosOptions {
        rate_per_second: args.rate,
        time_max: Duration::from_secs(args.minutes * 60),
        keep_logs_in: Some(folder.clone()),
    };
    println!("{} cases", cases.len());
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let table = tokio::select! {
        table = run(cases, &options, |line| println!("{line}")) => table?,
        _ = tokio::signal::ctrl_c() => return Ok(interrupted()),
        _ = terminate.recv() => return Ok(interrupted()),
    };
    let path = folder.join("chaos.json");
    fs::write(&path, serde_json::to_vec_pretty(&table)?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\n{table}");
    Ok(if table.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// By now the fleet is down: it went with the run.
fn interrupted() -> ExitCode {
    println!("interrupted; everything is removed");
    ExitCode::from(130)
}

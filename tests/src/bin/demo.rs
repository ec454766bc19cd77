//! `make demo`: a deployment and its rollback under load, on a fleet of its own, in numbers.

use anyhow::Context;
use bgctl_tests::exit::exit;
use bgctl_tests::{demo, images};
use bollard::Docker;
use clap::Parser;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Brings up a fleet on this machine, deploys and rolls back under load, prints what happened, removes everything.
/// Exit code 1: a number is bad, or it did not work.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// How many hosts.
    #[arg(long, default_value_t = 3)]
    hosts: usize,
    /// Leave the sample service's images.
    #[arg(long)]
    keep_images: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("demo", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let outcome = tokio::select! {
        outcome = demo::run(args.hosts) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
    };
    // By now the fleet is down, however it went.
    if !args.keep_images {
        let docker = Docker::connect_with_unix_defaults().context("cannot connect to Docker")?;
        if !images::remove(&docker).await? {
            println!("the sample images stay: another fleet uses them");
        }
    }
    let Some(outcome) = outcome else {
        println!("interrupted; everything is removed");
        return Ok(ExitCode::from(130));
    };
    let figures = outcome?;
    println!("\n{figures}");
    let faults = figures.faults();
    for fault in &faults {
        println!("BAD: {fault}");
    }
    if faults.is_empty() {
        println!("Nothing was lost, and everything is removed.");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

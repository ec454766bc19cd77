//! `bgctl-sim`: runs one seed and tells what happened, or many and tells what came of them.

use bgctl_sim::run::run;
use bgctl_sim::sabotage::Sabotage;
use bgctl_sim::sweep;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The real loops of controllers and agents in a simulated world.
#[derive(Debug, Parser)]
#[command(name = "bgctl-sim")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed and prints what happened, in simulated time.
    Replay {
        /// Everything that happens follows from it.
        seed: u64,
        /// A bug put in on purpose.
        #[arg(long)]
        sabotage: Option<Sabotage>,
        /// Only what came of it, as JSON.
        #[arg(long)]
        brief: bool,
    },
    /// Runs many seeds, each in a process of its own, and prints what they came to hit.
    Sweep(sweep::Sweep),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Replay { seed, sabotage, brief } => {
            let (outcome, timeline) = run(seed, sabotage)?;
            if !brief {
                for line in timeline.lines() {
                    println!("{line}");
                }
            }
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Sweep(sweep) => Ok(if sweep.run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

//! Many seeds, a process each: nothing of one run is left when the next begins.

use crate::coverage::Coverage;
use crate::fleet::{CERTIFICATES, make_certificates};
use crate::run::Outcome;
use crate::sabotage::Sabotage;
use anyhow::Context;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Which seeds, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Sweep {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// How many.
    #[arg(long, default_value_t = 200)]
    pub seeds: u64,
    /// Runs at once; 0: one for each processor.
    #[arg(long, default_value_t = 0)]
    pub jobs: usize,
    /// Each twice, and the traces compared.
    #[arg(long)]
    pub twice: bool,
    /// A bug put in on purpose.
    #[arg(long)]
    pub sabotage: Option<Sabotage>,
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Total {
    /// Seeds that were run.
    pub seeds: u64,
    /// Those that count.
    pub counted: u64,
    /// Deployments committed and aborted.
    pub commits: usize,
    /// See `commits`.
    pub aborts: usize,
    /// What was hit.
    pub coverage: Coverage,
    /// The slowest of each bound, milliseconds.
    pub slowest: [u64; 4],
    /// Simulated time.
    pub seconds: f64,
    /// Seeds that failed, and why.
    pub failures: Vec<(u64, String)>,
}

impl Sweep {
    /// Runs all of it and prints what came of it. True: nothing failed.
    pub fn run(&self) -> anyhow::Result<bool> {
        let begun = Instant::now();
        let total = self.total()?;
        println!("{}", total.coverage);
        let [leader, decided, converged, clean] = total.slowest.map(|millis| millis as f64 / 1000.0);
        println!(
            "{} seeds in {:.0} s, {:.0} simulated; {} count; {} faults; {} commits, {} aborts",
            total.seeds,
            begun.elapsed().as_secs_f64(),
            total.seconds,
            total.counted,
            total.coverage.total(),
            total.commits,
            total.aborts
        );
        println!(
            "after healing, slowest: leader {leader} s, decided {decided} s, converged {converged} s, clean {clean} s"
        );
        for (seed, why) in &total.failures {
            println!("FAILED seed {seed} at commit {}: {why}", commit());
        }
        if !total.failures.is_empty() {
            println!("`make sim SEED={}` tells the first", total.failures[0].0);
        }
        Ok(total.failures.is_empty())
    }

    /// Runs all of it.
    pub fn total(&self) -> anyhow::Result<Total> {
        let program = std::env::current_exe().context("cannot find this very program")?;
        self.total_with(&program)
    }

    /// The same with another build of the program.
    pub fn total_with(&self, program: &Path) -> anyhow::Result<Total> {
        let jobs = match self.jobs {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            jobs => jobs,
        };
        let certificates = tempfile::tempdir().context("no folder for the certificates")?;
        make_certificates(certificates.path())?;
        let next = AtomicU64::new(self.from);
        let total = Mutex::new(Total::default());
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.from + self.seeds {
                            return;
                        }
                        let outcome = self.one(program, certificates.path(), seed);
                        total.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
                    }
                });
            }
        });
        Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn one(&self, program: &Path, certificates: &Path, seed: u64) -> anyhow::Result<Outcome> {
        let first = replay(program, certificates, seed, self.sabotage)?;
        if self.twice {
            let second = replay(program, certificates, seed, self.sabotage)?;
            anyhow::ensure!(
                first.trace == second.trace,
                "run twice, it went two ways: traces {} and {}",
                first.trace,
                second.trace
            );
        }
        Ok(first)
    }
}

/// Runs one seed in a process of its own.
fn replay(program: &Path, certificates: &Path, seed: u64, sabotage: Option<Sabotage>) -> anyhow::Result<Outcome> {
    let mut command = Command::new(program);
    command.env(CERTIFICATES, certificates);
    command.args(["replay", "--brief", &seed.to_string()]).stdin(Stdio::null());
    if let Some(sabotage) = sabotage {
        use clap::ValueEnum;
        let name = sabotage.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        command.args(["--sabotage", &name]);
    }
    let output = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("it ended with {} and said: {said}", output.status)
    })
}

impl Total {
    fn add(&mut self, seed: u64, outcome: anyhow::Result<Outcome>) {
        self.seeds += 1;
        match outcome {
            Err(error) => self.failed(seed, format!("{error:#}")),
            Ok(outcome) => {
                self.counted += u64::from(outcome.counts);
                self.commits += outcome.commits;
                self.aborts += outcome.aborts;
                self.seconds += outcome.seconds;
                self.coverage.add(&outcome.coverage);
                let reached = outcome.reached;
                let all = [reached.leader, reached.decided, reached.converged, reached.clean];
                for (slowest, took) in self.slowest.iter_mut().zip(all) {
                    *slowest = (*slowest).max(took.unwrap_or_default());
                }
                if !outcome.violations.is_empty() {
                    self.failed(seed, outcome.violations.join("; "));
                }
            }
        }
    }

    /// Said at once: of thousands, nobody waits for the last to hear of the first that failed.
    fn failed(&mut self, seed: u64, why: String) {
        eprintln!("seed {seed} failed: {why}");
        self.failures.push((seed, why));
        self.failures.sort();
    }
}

/// What is checked out, for whoever looks at a failure later.
fn commit() -> String {
    let said = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

//! One run: faults and checks, then everything is healed and must come right.

use crate::chance;
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::faults::Faults;
use crate::fleet::{Certificates, Fleet, Making};
use crate::liveness::Reached;
use crate::plan::Plan;
use crate::sabotage::Sabotage;
use crate::timeline::{Logs, Timeline};
use serde::{Deserialize, Serialize};
use std::sync::PoisonError;
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use turmoil::Sim;

/// How much time passes for one host before the next has its turn, and how finely messages are delivered.
const TICK: Duration = Duration::from_millis(20);

/// How long a message takes.
const LATENCY: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(40);

/// Messages that wait in one connection: more than any hold gathers.
const MESSAGES_WAITING_MAX: usize = 16_384;

/// How often a seed that does not count is drawn again.
const DRAWS: u64 = 4;

/// What came of a seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Which of its draws this is, from 0: those before had nothing decided, or nothing that went wrong.
    pub draw: u64,
    /// Whether this one counts.
    pub counts: bool,
    /// What does not hold; empty: all is well.
    pub violations: Vec<String>,
    /// Deployments that were decided: committed and aborted.
    pub commits: usize,
    /// See `commits`.
    pub aborts: usize,
    /// What was hit.
    pub coverage: Coverage,
    /// How fast it came right.
    pub reached: Reached,
    /// Names the trace.
    pub trace: String,
    /// Simulated time.
    pub seconds: f64,
}

/// Runs a seed. Of one that does not count, the next draw is run.
pub fn run(seed: u64, sabotage: Option<Sabotage>) -> anyhow::Result<(Outcome, Timeline)> {
    // Before chance is tamed: keys are drawn here, and how many numbers that takes is nobody's business.
    let certificates = Certificates::find()?;
    chance::begin(seed);
    // A thread of its own: what hash maps draw is drawn once for each thread.
    std::thread::scope(|scope| {
        let ran = scope.spawn(|| counting(seed, sabotage, &certificates)).join();
        ran.map_err(|_| anyhow::anyhow!("the simulation itself panicked"))?
    })
}

fn counting(seed: u64, sabotage: Option<Sabotage>, certificates: &Certificates) -> anyhow::Result<(Outcome, Timeline)> {
    let mut draw = 0_u64;
    loop {
        // Draws are far apart, so that the second of one seed is the first of no other.
        let drawn = seed.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut plan = Plan::draw(drawn);
        if let Some(sabotage) = sabotage {
            sabotage.provoke(&mut plan);
        }
        let (outcome, timeline) = once(seed, draw, &plan, drawn, sabotage, certificates)?;
        draw += 1;
        if outcome.counts || !outcome.violations.is_empty() || draw == DRAWS {
            return Ok((outcome, timeline));
        }
    }
}

fn once(
    seed: u64,
    draw: u64,
    plan: &Plan,
    drawn: u64,
    sabotage: Option<Sabotage>,
    certificates: &Certificates,
) -> anyhow::Result<(Outcome, Timeline)> {
    let clock = Clock::default();
    let timeline = Timeline::new(clock.clone());
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(Logs::new(timeline.clone()));
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut sim = turmoil::Builder::new()
        .tick_duration(TICK)
        .simulation_duration(Duration::MAX)
        .tcp_capacity(MESSAGES_WAITING_MAX)
        .min_message_latency(*LATENCY.start())
        .max_message_latency(*LATENCY.end())
        .rng_seed(drawn)
        .build();
    let making = Making { seed: drawn, plan, certificates, sabotage, timeline: &timeline, clock: &clock };
    let fleet = Fleet::new(&mut sim, &making);
    note_panics(&timeline, &fleet);
    let mut faults = Faults::new(plan, &mut sim);
    while sim.elapsed() < plan.heal_at && fleet.checks.seen().violations.is_empty() {
        step(&mut sim, &fleet)?;
        faults.step(sim.elapsed(), &mut sim, &fleet);
    }
    timeline.say("WORLD", "everything is healed");
    faults.heal(&mut sim, &fleet);
    let healed = sim.elapsed();
    let mut reached = Reached::default();
    while fleet.checks.seen().violations.is_empty() {
        step(&mut sim, &fleet)?;
        let healed_for = sim.elapsed() - healed;
        if reached.look(healed_for, &fleet, &faults.off) {
            break;
        }
        if let Some(violation) = reached.overdue(healed_for, &fleet, &faults.off) {
            timeline.say("CHECK", format!("!! {violation}"));
            fleet.checks.seen().violations.push(violation);
        }
    }
    let mut coverage = std::mem::take(&mut faults.coverage);
    for row in std::mem::take(&mut *fleet.rows_of_commands.lock().unwrap_or_else(PoisonError::into_inner)) {
        coverage.row(row);
    }
    let seconds = sim.elapsed().as_secs_f64();
    // The programs end before anything is counted: what they say at their end belongs to the trace.
    drop(sim);
    drop(std::panic::take_hook());
    let seen = fleet.checks.seen();
    let count = |outcome: &str| seen.outcomes.values().filter(|ended| *ended == outcome).count();
    let (commits, aborts) = (count("commit"), count("abort") + seen.silent_aborts);
    let outcome = Outcome {
        seed,
        draw,
        counts: commits + aborts > 0 && coverage.total() > 0,
        violations: seen.violations.clone(),
        commits,
        aborts,
        coverage,
        reached,
        trace: timeline.digest(),
        seconds,
    };
    Ok((outcome, timeline))
}

fn step(sim: &mut Sim<'_>, fleet: &Fleet) -> anyhow::Result<()> {
    sim.step().map_err(|error| anyhow::anyhow!("the simulation itself failed: {error}"))?;
    fleet.clock.set(sim.elapsed());
    fleet.etcd.tick(sim.elapsed());
    fleet.checks.step();
    Ok(())
}

/// A task that panics ends alone and unseen: its panic is what is wrong.
fn note_panics(timeline: &Timeline, fleet: &Fleet) {
    let (timeline, checks) = (timeline.clone(), fleet.checks.clone());
    std::panic::set_hook(Box::new(move |info| {
        let text = format!("panic: {info}");
        eprintln!("{text}");
        timeline.say("CHECK", format!("!! {text}"));
        // Whoever panics may hold the lock.
        if let Some(mut seen) = checks.try_seen() {
            seen.violations.push(text);
        }
    }));
}

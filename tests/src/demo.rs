//! The demo: a fleet, load on all of it, a deployment and its rollback, and the numbers a person wants to see.

use crate::fleet::{Fleet, FleetError, FleetOptions, Ran};
use crate::load::{Load, LoadError, LoadHandle, LoadOptions, LoadReport, VersionMismatch};
use serde_json::Value;
use std::fmt;
use std::time::{Duration, Instant};

/// What each host gets: enough to see a loss, few enough to leave a small machine's processors to the rest.
const REQUESTS_PER_SECOND: u32 = 500;
/// Answers from each host before, between and after the switches: a second's worth.
const ANSWERS_BETWEEN: u64 = REQUESTS_PER_SECOND as u64;
/// For any of the demo's steps that waits for load.
const LIMIT: Duration = Duration::from_secs(60);
/// More is wrong even on a slow and busy machine: five times what an idle one of two processors is held to.
const SKEW_MAX: Duration = Duration::from_millis(100);
/// As [`SKEW_MAX`], for a rollback from the start of `bgctl` to its exit.
const ROLLBACK_MAX: Duration = Duration::from_millis(750);

/// Why there are no numbers.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The fleet, or `bgctl`.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The hosts did not see the same versions.
    #[error(transparent)]
    Versions(#[from] VersionMismatch),
    /// `bgctl` did not say what it must.
    #[error("`bgctl {arguments}` ends without {missing}: {said}")]
    Answer {
        /// Its arguments.
        arguments: String,
        /// What is missing.
        missing: &'static str,
        /// What it said.
        said: String,
    },
}

/// One switch of the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// From the start of `bgctl` to its exit.
    pub took: Duration,
    /// First to last host, as `bgctl` says.
    pub skew_told: Duration,
    /// First to last host, by the load client's first new answers; off by up to the pause between two requests.
    pub skew_seen: Duration,
}

/// What the demo measured.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The deployment of v2.
    pub deploy: Turn,
    /// The way back to v1.
    pub rollback: Turn,
    /// Everything the load client saw.
    pub load: LoadReport,
}

/// Brings up a fleet of `hosts`, deploys and rolls back under load, and takes everything down. Says on stdout what
/// it does.
///
/// # Errors
/// What went wrong; the fleet is down all the same.
pub async fn run(hosts: usize) -> Result<Figures, DemoError> {
    let steps = Steps { began: Instant::now() };
    steps.say(&format!("building the sample images and bringing up {hosts} hosts, on loopback, with web at v1"));
    let fleet = Fleet::up(FleetOptions { hosts, ..FleetOptions::default() }).await?;
    for host in fleet.hosts() {
        steps.say(&format!("  {} serves http://{}", host.name, host.address()));
    }
    let outcome = show(&fleet, &steps).await;
    steps.say("taking everything down");
    fleet.down().await?;
    outcome
}

/// The middle of the demo, on a fleet that serves v1.
async fn show(fleet: &Fleet, steps: &Steps) -> Result<Figures, DemoError> {
    let options = LoadOptions { rate_per_second: Some(REQUESTS_PER_SECOND), ..LoadOptions::default() };
    steps.say(&format!(
        "load on all hosts: {} connections to each, {REQUESTS_PER_SECOND} POSTs a second, none sent twice",
        options.connections
    ));
    let load = Load::start(fleet.targets(), options)?;
    load.warm(LIMIT).await?;
    more_answers(&load).await?;

    steps.say("bgctl deploy web --version v2");
    let deploy = turn(fleet, &["deploy", "web", "--version", "v2", "--json"]).await?;
    seen_by_all(&load, "v2").await?;
    more_answers(&load).await?;

    steps.say("bgctl rollback");
    let rollback = turn(fleet, &["rollback", "--json"]).await?;
    seen_by_all(&load, "v1").await?;
    more_answers(&load).await?;

    steps.say("the load ends");
    let load = load.stop().await;
    let mut figures = Figures { deploy, rollback, load };
    figures.add_skew_seen()?;
    Ok(figures)
}

async fn turn(fleet: &Fleet, arguments: &[&str]) -> Result<Turn, DemoError> {
    let ran = fleet.bgctl(arguments).await?.success()?;
    let missing =
        |missing, ran: &Ran| DemoError::Answer { arguments: ran.arguments.clone(), missing, said: ran.short() };
    let result = ran.result().ok_or_else(|| missing("a result", &ran))?;
    let skew = find_number(&result, "skew_micros").ok_or_else(|| missing("skew_micros", &ran))?;
    Ok(Turn { took: ran.took, skew_told: Duration::from_micros(skew), skew_seen: Duration::ZERO })
}

async fn more_answers(load: &LoadHandle) -> Result<(), LoadError> {
    let before = load.snapshot();
    let enough = move |report: &LoadReport| {
        let pairs = report.targets.iter().zip(&before.targets);
        pairs.into_iter().all(|(now, then)| now.counts.ok >= then.counts.ok + ANSWERS_BETWEEN)
    };
    load.wait_until("a second's worth of answers from every host", LIMIT, enough).await?;
    Ok(())
}

async fn seen_by_all(load: &LoadHandle, version: &str) -> Result<(), LoadError> {
    let seen = |report: &LoadReport| {
        report.targets.iter().all(|target| target.versions.last().is_some_and(|change| change.to == version))
    };
    load.wait_until(&format!("{version} from every host"), LIMIT, seen).await?;
    Ok(())
}

impl Figures {
    /// What is wrong with them, a line each. Empty: nothing.
    pub fn faults(&self) -> Vec<String> {
        let total = &self.load.total;
        let mut faults = Vec::new();
        if total.failed > 0 {
            faults.push(format!("{} requests failed", total.failed));
        }
        if total.closed_idle > 0 {
            faults.push(format!("{} client connections were closed", total.closed_idle));
        }
        for target in self.load.targets.iter().filter(|target| target.sequence() != "v1 → v2 → v1") {
            faults.push(format!("{} went through {} instead of v1 → v2 → v1", target.target, target.sequence()));
        }
        for (name, turn) in [("deployment", &self.deploy), ("rollback", &self.rollback)] {
            let skew = turn.skew_told.max(turn.skew_seen);
            if skew > SKEW_MAX {
                faults.push(format!("the {name}'s skew was {skew:.1?}, more than {SKEW_MAX:?}"));
            }
        }
        if self.rollback.took > ROLLBACK_MAX {
            faults.push(format!("the rollback took {:.1?}, more than {ROLLBACK_MAX:?}", self.rollback.took));
        }
        faults
    }

    fn add_skew_seen(&mut self) -> Result<(), VersionMismatch> {
        let switches = self.load.switches()?;
        for (turn, switch) in [&mut self.deploy, &mut self.rollback].into_iter().zip(switches) {
            turn.skew_seen = Duration::from_micros(switch.skew_micros());
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.load.total;
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let mut row = |what: &str, figure: String| writeln!(f, "  {what:<52}{figure:>12}");
        row("requests sent", total.sent.to_string())?;
        row("requests failed", total.failed.to_string())?;
        row("client connections closed", total.closed_idle.to_string())?;
        row("slowest answer", format!("{:.1} ms", self.load.latency.max_micros as f64 / 1000.0))?;
        for (name, turn) in [("deployment of v2", &self.deploy), ("rollback to v1", &self.rollback)] {
            row(&format!("{name}: start of bgctl to its exit"), millis(turn.took))?;
            row(&format!("{name}: first to last host, told by bgctl"), millis(turn.skew_told))?;
            row(&format!("{name}: first to last host, seen by clients"), millis(turn.skew_seen))?;
        }
        Ok(())
    }
}

struct Steps {
    began: Instant,
}

impl Steps {
    fn say(&self, what: &str) {
        println!("{:>6.1} s  {what}", self.began.elapsed().as_secs_f64());
    }
}

/// Wherever in the document it stands.
fn find_number(value: &Value, key: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => {
            let own = fields.get(key).and_then(Value::as_u64);
            own.or_else(|| fields.values().find_map(|inner| find_number(inner, key)))
        }
        Value::Array(items) => items.iter().find_map(|inner| find_number(inner, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests;

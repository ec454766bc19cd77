//! The fleet, its users, and what is asked of them.

use super::case::Case;
use super::logs;
use super::table::Line;
use crate::load::{Load, LoadError, LoadHandle, LoadOptions, LoadReport};
use crate::netfleet::{Machine, NetFleet, NetFleetError, NetFleetOptions};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Connections to each host.
const CONNECTIONS: usize = 4;
/// For the users' connections to be open.
const WARM_LIMIT: Duration = Duration::from_secs(60);
/// For a fleet to be as if nothing had happened, from the last repair on. A host that boots has a Docker to start and
/// waits 15 s at most for its containers; a new leader waits for a lease of 5 s, twice at most.
pub(super) const CONVERGE_LIMIT: Duration = Duration::from_secs(90);
/// Asks for as many deployments as are kept.
const HISTORY: [&str; 5] = ["history", "web", "--limit", "50", "--json"];
/// For the end of a watch, which is 10 s long where the spec says nothing.
const WATCH_LIMIT: Duration = Duration::from_secs(30);

/// Why a case could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] NetFleetError),
    /// The users.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The moment did not come.
    #[error("nobody came to {point} within {limit:?}; bgctl: {said}")]
    NotReached {
        /// The point.
        point: String,
        /// The wait.
        limit: Duration,
        /// What the deployment said.
        said: String,
    },
    /// What was to be struck is not there.
    #[error("{what} is not there")]
    Missing {
        /// Which.
        what: String,
    },
    /// The command did not end.
    #[error("bgctl deploy did not end within {limit:?}")]
    Stuck {
        /// The wait.
        limit: Duration,
    },
}

/// A fleet under load.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) fleet: NetFleet,
    load: LoadHandle,
    rate_per_second: u32,
}

impl Scene {
    pub(super) async fn up(options: NetFleetOptions, rate_per_second: u32) -> Result<Self, ChaosError> {
        let fleet = NetFleet::up(options).await?;
        let load = new_load(&fleet, rate_per_second).await?;
        Ok(Self { fleet, load, rate_per_second })
    }

    /// What users saw since the last call. The next ones are there before these go.
    pub(super) async fn change_of_users(&mut self) -> Result<LoadReport, ChaosError> {
        let next = new_load(&self.fleet, self.rate_per_second).await?;
        Ok(std::mem::replace(&mut self.load, next).stop().await)
    }

    /// Requests that the present users have lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.load.snapshot().total.failed
    }

    /// Waits until the users of every host have seen this version last.
    pub(super) async fn wait_seen(&self, version: &str) -> Result<(), ChaosError> {
        let is_seen = |report: &LoadReport| {
            report.targets.iter().all(|target| target.versions.last().is_some_and(|change| change.to == version))
        };
        self.load.wait_until(&format!("{version} on every host"), CONVERGE_LIMIT, is_seen).await?;
        Ok(())
    }

    /// Waits until the fleet is as if nothing had happened: nothing open, every host linked, well, and on the version
    /// that the store says. Answers that status.
    pub(super) async fn at_rest(&self) -> Result<Value, ChaosError> {
        let hosts = self.fleet.hosts().len();
        let what = "one version on every host, and all of them well,";
        Ok(self.fleet.wait_for(what, CONVERGE_LIMIT, &["status", "--json"], |answer| is_at_rest(answer, hosts)).await?)
    }

    /// Waits until no container's death leads to a rollback any more: the latest deployment may have been aborted while
    /// the one before it is watched.
    pub(super) async fn watch_is_over(&self) -> Result<(), ChaosError> {
        let is_over = |answer: &Value| {
            let all = answer["deployments"].as_array().cloned().unwrap_or_default();
            all.iter().all(|deployment| deployment["phase"] != "watching")
        };
        self.fleet.wait_for("the end of the watch", WATCH_LIMIT, &HISTORY, is_over).await?;
        Ok(())
    }

    /// Deployments of the sample service, newest first.
    pub(super) async fn history(&self) -> Result<Vec<Value>, ChaosError> {
        let answer = self.fleet.wait_for("an answer", CONVERGE_LIMIT, &HISTORY, |_| true).await?;
        Ok(answer["deployments"].as_array().cloned().unwrap_or_default())
    }

    /// The controller that leads, by what they have written: the highest epoch.
    pub(super) fn leader(&self) -> Result<&Machine, ChaosError> {
        let leads = |machine: &&Machine| epoch_in(&fs::read_to_string(machine.log("controller")).unwrap_or_default());
        let found = self.fleet.controllers().iter().max_by_key(leads).filter(|machine| leads(machine).is_some());
        found.ok_or_else(|| ChaosError::Missing { what: "a leader".to_owned() })
    }

    /// The line of a case that could not be carried through.
    pub(super) fn lost_line(&self, case: &Case, error: &ChaosError) -> Line {
        Line { faults: vec![error.to_string()], ..Line::new(case, &self.load.snapshot()) }
    }

    pub(super) fn keep_logs(&self, folder: &Path) {
        if let Err(error) = logs::keep(&self.fleet, folder) {
            eprintln!("chaos: cannot keep the logs in {}: {error}", folder.display());
        }
    }

    pub(super) async fn down(self) {
        let Self { fleet, load, rate_per_second: _ } = self;
        load.stop().await;
        // Ending hundreds of processes is waited for; a panic in it has been told of.
        drop(tokio::task::spawn_blocking(move || drop(fleet)).await);
    }
}

async fn new_load(fleet: &NetFleet, rate_per_second: u32) -> Result<LoadHandle, ChaosError> {
    let options =
        LoadOptions { connections: CONNECTIONS, rate_per_second: Some(rate_per_second), ..LoadOptions::default() };
    let load = {
        let _inside = fleet.runtime().enter();
        Load::start(fleet.targets(), options)?
    };
    load.warm(WARM_LIMIT).await?;
    Ok(load)
}

/// The number in the last `leading epoch=N`.
fn epoch_in(log: &str) -> Option<u64> {
    let line = log.lines().rev().find(|line| line.contains(" leading epoch="))?;
    let (_, number) = line.rsplit_once("epoch=")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn is_at_rest(answer: &Value, hosts: usize) -> bool {
    let Some(service) = answer["services"].get(0) else { return false };
    let all = service["hosts"].as_array().cloned().unwrap_or_default();
    let is_over = service["latest"]["phase"]
        .as_str()
        .is_none_or(|phase| !["preparing", "deciding", "switching"].contains(&phase));
    let is_well = |host: &Value| {
        host["connected"] == true
            && host["version"] == service["version"]
            && host["generation"] == service["generation"]
            && host["condition"] == "healthy"
            && host["trouble"].is_null()
    };
    service["pending"].is_null() && is_over && all.len() == hosts && all.iter().all(is_well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_epoch_in_a_log_counts() {
        let log = "2026 INFO bgctl_controller::leader: leading epoch=7\nother\n2026 INFO x: leading epoch=19\nmore 3\n";
        assert_eq!(epoch_in(log), Some(19));
        assert_eq!(epoch_in("no longer leading\n"), None);
    }
}

//! How large a fleet, what is deployed, and how much may go wrong.

use crate::names;
use crate::sabotage::Sabotage;
use cutover::ids::{ReleaseDigest, ServiceName};
use std::collections::BTreeMap;

/// What every host serves before anything happens.
const FIRST: u8 = 1;

/// Where there are two services.
const BOTH: [&str; 2] = ["api", "web"];

/// One model. Every number bounds how often something may happen on one path, in any order and at any moment.
#[derive(Debug, Clone)]
pub struct Config {
    /// At most [`names::HOSTS_MAX`].
    pub hosts: usize,
    /// What stands committed at the start.
    pub committed: BTreeMap<ServiceName, ReleaseDigest>,
    /// What is opened, in this order, each at any time when its services are free.
    pub plan: Vec<BTreeMap<ServiceName, ReleaseDigest>>,
    /// Leaders that are elected, the first included. They alternate between two controllers, and the one before
    /// goes on without knowing.
    pub epochs: u8,
    /// Crashes of hosts, between any two of their acts.
    pub crashes: u8,
    /// Hosts replaced: another life, an empty disk.
    pub replacements: u8,
    /// Deployments opened without one of the hosts.
    pub exclusions: u8,
    /// Hosts that a deployment may be decided without, because they do not answer.
    pub may_be_missing: usize,
    /// Work, switches and disk writes that fail.
    pub failures: u8,
    /// Promised containers that die.
    pub deaths: u8,
    /// Times an operator on a host moves its traffic back by hand. Returning it is free.
    pub moves_by_hand: u8,
    /// Acknowledgements are delivered, and the leader counts them.
    pub acknowledgements: bool,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Config {
    /// One service, as many deployments as asked for, each with another release; the last one goes back to the
    /// release from the start, as a rollback does.
    pub fn of(hosts: usize, deployments: u8, epochs: u8, crashes: u8) -> Self {
        let web = |content| BTreeMap::from([(names::service("web"), names::release(content))]);
        let plan = (1..=deployments).map(|number| {
            let is_rollback = number > 1 && number == deployments;
            web(if is_rollback { FIRST } else { FIRST + number })
        });
        Self {
            hosts,
            committed: web(FIRST),
            plan: plan.collect(),
            epochs,
            crashes,
            replacements: 0,
            exclusions: 0,
            may_be_missing: 0,
            failures: 0,
            deaths: 0,
            moves_by_hand: 0,
            acknowledgements: false,
            sabotage: None,
        }
    }

    /// Two services: first both are deployed as a group, then one alone.
    pub fn group(hosts: usize, epochs: u8, crashes: u8) -> Self {
        let plan = vec![releases(&BOTH, FIRST + 1), releases(&["web"], FIRST + 2)];
        Self { committed: releases(&BOTH, FIRST), plan, ..Self::of(hosts, 0, epochs, crashes) }
    }

    /// Two services, each deployed by itself, maybe at the same time.
    pub fn side_by_side(hosts: usize, epochs: u8, crashes: u8) -> Self {
        let plan = vec![releases(&["api"], FIRST + 1), releases(&["web"], FIRST + 1)];
        Self { plan, ..Self::group(hosts, epochs, crashes) }
    }

    /// The same, broken.
    pub fn broken(self, sabotage: Sabotage) -> Self {
        Self { sabotage: Some(sabotage), ..self }
    }
}

fn releases(services: &[&str], content: u8) -> BTreeMap<ServiceName, ReleaseDigest> {
    services.iter().map(|name| (names::service(name), names::release(content))).collect()
}

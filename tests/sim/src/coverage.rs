//! What a run, or many of them, came to hit: kinds of faults, and rows of the failure matrix.

use crate::check::Seen;
use crate::people::Command;
use crate::plan::{Fault, KINDS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Rows of the matrix that a simulation of loops, network, store and hosts' parts can reach. The others are about
/// certificates, real nginx, real disks or versions, and are listed where they are tested.
pub const ROWS: [(u8, &str); 44] = [
    (3, "host replaced after its vote"),
    (5, "a clock wrong by an hour"),
    (10, "all reconnect after a failover"),
    (12, "registry stalls"),
    (14, "disk full while pulling or creating"),
    (15, "disk full or broken for the agent's own state"),
    (16, "create refused or its reply lost"),
    (18, "Docker refuses with 500"),
    (20, "Docker hangs"),
    (21, "Docker restarted, live-restore on"),
    (22, "Docker restarted, live-restore off"),
    (24, "healthy, then flaps"),
    (26, "agent killed while it makes ready"),
    (27, "host loses power while it makes ready"),
    (28, "prepare lost, late or doubled"),
    (29, "agent killed after its promise was written"),
    (32, "new colour dies after the yes vote"),
    (33, "an agent does not answer"),
    (34, "deploy sent twice, two operators at once"),
    (35, "abort while the decision is near"),
    (36, "a new host joins"),
    (40, "leader killed before the decision"),
    (41, "answer of a write lost"),
    (42, "leader cut off, paused, or without its lease"),
    (43, "lease lives on after its leader"),
    (44, "committed, and the new colour is dead"),
    (45, "no store"),
    (46, "store over quota"),
    (47, "store slow"),
    (50, "state lost, late, reordered"),
    (51, "agent cut off after its vote"),
    (52, "leader dies after telling some"),
    (53, "agent killed near the switch"),
    (54, "nginx does not follow"),
    (57, "the switch is gone"),
    (58, "power loss near the rename"),
    (60, "somebody's hand in nginx"),
    (62, "acknowledgement lost"),
    (64, "agent killed while a colour is retired"),
    (66, "rollback while a deployment is open"),
    (67, "rollback to what died"),
    (69, "images pruned"),
    (70, "the agent's disk is slow"),
    (71, "Docker killed while it starts a container"),
];

/// Counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// By kind.
    pub faults: BTreeMap<String, u64>,
    /// By number.
    pub rows: BTreeMap<u8, u64>,
}

impl Coverage {
    /// One fault of this kind.
    pub fn fault(&mut self, kind: &str) {
        *self.faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// One hit of this row.
    pub fn row(&mut self, row: u8) {
        *self.rows.entry(row).or_default() += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        for (row, count) in &other.rows {
            *self.rows.entry(*row).or_default() += count;
        }
    }

    /// All faults.
    pub fn total(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |count: u64| if count == 0 { "   <- gap" } else { "" };
        writeln!(f, "faults injected:")?;
        for kind in KINDS {
            let count = self.faults.get(kind).copied().unwrap_or_default();
            writeln!(f, "{count:>8}  {kind}{}", mark(count))?;
        }
        writeln!(f, "rows of the failure matrix:")?;
        for (row, what) in ROWS {
            let count = self.rows.get(&row).copied().unwrap_or_default();
            writeln!(f, "{count:>8}  {row:>2} {what}{}", mark(count))?;
        }
        Ok(())
    }
}

/// The rows a fault hits, as things stand when it begins.
pub fn rows(fault: &Fault, seen: &Seen) -> Vec<u8> {
    let is_open = !seen.pending.is_empty();
    let state = |who: &str| who.parse().ok().and_then(|host: cutover::HostId| seen.disks.get(&host));
    let is_promised = |who: &str| state(who).is_some_and(|state| !state.record.prepared.is_empty());
    let is_behind = |who: &str| {
        state(who).is_some_and(|state| {
            seen.committed.iter().any(|(service, truth)| {
                state.record.applied.get(service).is_none_or(|slot| slot.generation != truth.generation)
            })
        })
    };
    let has_retired =
        |who: &str| state(who).is_some_and(|state| state.standing().any(|(_, standing)| standing.retired.is_some()));
    let anybody_behind = seen.disks.keys().any(|host| is_behind(host.as_str()));
    let when = |holds: bool, row: u8| holds.then_some(row);
    let link = |a: &str, b: &str| {
        let is_store = a == crate::net::ETCD || b == crate::net::ETCD;
        let host = if a.starts_with('h') { a } else { b };
        let all = [
            when(is_store, 42),
            when(!is_store && is_open, 33),
            when(!is_store && is_open, 28),
            when(!is_store && is_promised(host), 51),
            when(!is_store && is_behind(host), 50),
            when(!is_store && is_behind(host), 62),
        ];
        all.into_iter().flatten().collect::<Vec<_>>()
    };
    let some = |rows: &[Option<u8>]| rows.iter().copied().flatten().collect::<Vec<_>>();
    match fault {
        Fault::Partition(a, b) | Fault::OneWay(a, b) | Fault::Hold(a, b) => link(a, b),
        Fault::Pause(who) if who.starts_with('c') => some(&[Some(42), when(is_open, 28), when(anybody_behind, 50)]),
        Fault::Pause(who) => link(who, "c1"),
        Fault::CrashController(_) => some(&[Some(10)]),
        Fault::CrashLeader => some(&[Some(10), when(is_open, 40), when(anybody_behind, 52)]),
        Fault::CrashLeaderAndLeaseOutlives => some(&[Some(43), when(is_open, 40), when(anybody_behind, 52)]),
        Fault::CrashAgent(who) => some(&[
            when(is_open && !is_promised(who), 26),
            when(is_promised(who), 29),
            when(is_behind(who), 53),
            when(has_retired(who), 64),
        ]),
        Fault::PowerLoss(who) => some(&[
            when(is_open && !is_promised(who), 27),
            when(is_promised(who), 29),
            when(is_behind(who), 58),
            when(has_retired(who), 64),
        ]),
        Fault::CrashEtcd => vec![45],
        Fault::EtcdTroubled(_) => vec![41, 47],
        Fault::LeaseLost => some(&[Some(42), when(is_open, 40)]),
        Fault::Compacted => Vec::new(),
        Fault::QuotaFull => vec![46],
        Fault::ClockJump(..) => vec![5],
        Fault::DockerRefuses(..) => vec![18],
        Fault::DockerNamesTaken(_) | Fault::DockerReplyLost(..) => vec![16],
        Fault::DockerHangs(_) | Fault::DockerGone(_) => vec![20],
        Fault::DockerRestart(who, live_restore) => {
            some(&[Some(if *live_restore { 21 } else { 22 }), when(!live_restore && is_promised(who), 32)])
        }
        Fault::RegistryStalls(_) => vec![12],
        Fault::DiskFull(_) => vec![14],
        Fault::DiskBroken(_) => vec![15],
        Fault::DiskSlow(..) => vec![70],
        Fault::NginxIgnores(_) => vec![54],
        Fault::NginxDies(_) | Fault::FlagFlipped(_) => vec![60],
        Fault::SwitchDeleted(_) => vec![57],
        Fault::HealthFlaps(_) => vec![24],
        Fault::ContainerKilled(who) => {
            some(&[when(is_promised(who), 32), when(is_behind(who), 44), when(has_retired(who), 67)])
        }
        Fault::ImagesPruned(_) => vec![69],
        Fault::DockerKilledStarting(who, _) => some(&[Some(71), when(is_promised(who), 21)]),
        Fault::HostReplaced(who) => some(&[when(is_promised(who), 3), when(!is_promised(who), 36)]),
    }
}

/// The rows a person's command hits.
pub fn rows_of_command(command: &Command, seen: &Seen) -> Vec<u8> {
    let is_open = |service: &String| seen.pending.contains_key(service);
    match command {
        Command::Apply { .. } => Vec::new(),
        Command::Deploy { service, .. } => is_open(service).then_some(34).into_iter().collect(),
        Command::DeployTwice { .. } => vec![34],
        Command::Rollback { service } => is_open(service).then_some(66).into_iter().collect(),
        Command::Abort { service } => is_open(service).then_some(35).into_iter().collect(),
    }
}

//! How a deployment goes and went: what operators watch while it runs is what history keeps.

use crate::records::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A deployment, as told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub id: String,
    /// 0 until it is open.
    pub generation: u64,
    /// Whose.
    pub service: String,
    /// Deploy or rollback.
    pub kind: Kind,
    /// To what.
    pub version: String,
    /// From what; empty: from nothing.
    pub from_version: String,
    /// How far.
    pub phase: Phase,
    /// Why it ended as it did, if it did not end well.
    pub reason: String,
    /// Who.
    pub actor: String,
    /// Milliseconds since 1970.
    pub started_unix_millis: u64,
    /// Until it switched, or ended.
    pub elapsed_micros: u64,
    /// The deployment that took this one back.
    pub rolled_back_by: String,
    /// The numbers, once it switched.
    pub summary: Option<Summary>,
    /// Each host.
    pub hosts: BTreeMap<String, HostReport>,
}

/// How far a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Hosts make ready and vote.
    Preparing,
    /// The decision is being written.
    Deciding,
    /// It is committed; hosts switch.
    Switching,
    /// Every host serves it; trouble still takes it back.
    Watching,
    /// Accepted for good.
    Settled,
    /// Decided against; nothing changed.
    Aborted,
    /// Committed, and taken back.
    RolledBack,
}

impl Report {
    /// The hosts the decision does not rest on.
    pub fn left_out(&self) -> impl Iterator<Item = &String> {
        self.hosts.iter().filter(|(_, part)| part.left_out).map(|(host, _)| host)
    }
}

impl Phase {
    /// Whether nothing follows.
    pub fn is_last(self) -> bool {
        match self {
            Self::Settled | Self::Aborted | Self::RolledBack => true,
            Self::Preparing | Self::Deciding | Self::Switching | Self::Watching => false,
        }
    }
}

/// The numbers of a switch, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// First to last host.
    pub skew_micros: u64,
    /// How far off that may be.
    pub skew_error_micros: u64,
    /// From the request to the last yes.
    pub prepared_micros: u64,
    /// To the store's word.
    pub decided_micros: u64,
    /// To the last acknowledgement.
    pub applied_micros: u64,
}

/// One host in a deployment. Times are microseconds since it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostReport {
    /// How far.
    pub phase: HostPhase,
    /// What it does, or why not.
    pub detail: String,
    /// What the container printed last.
    pub log_tail: Vec<String>,
    /// The decision does not rest on it: it was away, excluded, or did not answer.
    pub left_out: bool,
    /// Where the release stands.
    pub colour: String,
    /// The image is there.
    pub pulled_micros: u64,
    /// The container runs.
    pub started_micros: u64,
    /// It is healthy.
    pub healthy_micros: u64,
    /// The vote arrived.
    pub voted_micros: u64,
    /// Traffic moved.
    pub switched_micros: u64,
    /// The rename(2) call.
    pub rename_micros: u64,
    /// Until nginx proved it.
    pub proof_micros: u64,
}

/// How far a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPhase {
    /// No link to it.
    #[default]
    Away,
    /// It has been asked.
    Asked,
    /// It fetches the image.
    Pulling,
    /// It makes and starts the container.
    Starting,
    /// It asks the container for its health.
    Probing,
    /// It said yes.
    Ready,
    /// It said no, or lost what it had.
    Failed,
    /// It serves it.
    Switched,
}

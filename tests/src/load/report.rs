//! What the load client saw, for people and for programs.

use super::histogram::{Histogram, LatencySummary};
use super::versions::{VersionChange, Versions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// So many failures are kept whole: the first ones tell what went wrong.
const NOTES_MAX: usize = 20;

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection could be opened for it.
    Connect,
    /// The connection ended or was reset after the request went out and before its answer was whole.
    Reset,
    /// An answer with another status than 200.
    Status,
    /// No answer in time.
    Timeout,
    /// What came was no HTTP answer that can be understood.
    Malformed,
}

/// One lost request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureNote {
    /// How.
    pub kind: FailureKind,
    /// When it was seen, in µs since the load began.
    pub at_micros: u64,
    /// What was seen.
    pub detail: String,
}

/// The counters of one target, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Requests a user wanted to send: those whose connection could not be opened are among them.
    pub sent: u64,
    /// Answered with 200.
    pub ok: u64,
    /// The sum of the five below.
    pub failed: u64,
    /// See [`FailureKind::Connect`].
    pub failed_connect: u64,
    /// See [`FailureKind::Reset`].
    pub failed_reset: u64,
    /// See [`FailureKind::Status`].
    pub failed_status: u64,
    /// See [`FailureKind::Timeout`].
    pub failed_timeout: u64,
    /// See [`FailureKind::Malformed`].
    pub failed_malformed: u64,
    /// Connections that ended with nothing outstanding and unannounced.
    pub closed_idle: u64,
    /// Connections that ended as the last answer had announced: no loss.
    pub announced_closes: u64,
    /// Connections opened, replacements included.
    pub connections_opened: u64,
    /// Old answers to requests that were under way when the version changed: no loss.
    pub stragglers: u64,
    /// Version changes beyond what is kept.
    pub version_changes_dropped: u64,
}

/// One target's part.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    /// The target's name.
    pub target: String,
    /// Its counters.
    pub counts: Counts,
    /// Its latencies, of answers with 200.
    pub latency: LatencySummary,
    /// Its versions; the first entry is what answered first.
    pub versions: Vec<VersionChange>,
    /// How many answers each version gave, stragglers' included.
    pub answers: BTreeMap<String, u64>,
    /// The first lost requests.
    pub failures: Vec<FailureNote>,
    #[serde(skip)]
    histogram: Histogram,
}

/// What the load client saw.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// Wall clock at the start, in µs since 1970.
    pub started_unix_micros: u64,
    /// How long it ran, in µs.
    pub elapsed_micros: u64,
    /// The sums over all targets.
    pub total: Counts,
    /// Over all targets.
    pub latency: LatencySummary,
    /// In the order they were given.
    pub targets: Vec<TargetReport>,
}

/// One change of version that every target went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// The version after it.
    pub to: String,
    /// The first target's first new answer, in µs since the load began.
    pub first_micros: u64,
    /// The last target's first new answer.
    pub last_micros: u64,
}

impl Switch {
    /// First to last target, in µs. With paced load this is off by up to the pause between two requests.
    pub fn skew_micros(&self) -> u64 {
        self.last_micros - self.first_micros
    }
}

/// Targets that did not go through the same versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the targets went through different versions: {sequences}")]
pub struct VersionMismatch {
    /// Each target with its versions.
    pub sequences: String,
}

impl LoadReport {
    pub(super) fn new(started_unix_micros: u64, elapsed: Duration, targets: Vec<TargetReport>) -> Self {
        let mut total = Counts::default();
        let mut histogram = Histogram::default();
        for target in &targets {
            total.add(&target.counts);
            histogram.merge(&target.histogram);
        }
        let elapsed_micros = elapsed.as_micros() as u64;
        Self { started_unix_micros, elapsed_micros, total, latency: histogram.summary(), targets }
    }

    /// The changes that all targets went through, in order; what answered first is not among them.
    ///
    /// # Errors
    /// [`VersionMismatch`] when the targets did not all see the same versions in the same order.
    pub fn switches(&self) -> Result<Vec<Switch>, VersionMismatch> {
        let mut switches: Vec<Switch> = Vec::new();
        let Some(first) = self.targets.first() else { return Ok(switches) };
        for (index, change) in first.versions.iter().enumerate() {
            let (mut first_micros, mut last_micros) = (change.at_micros, change.at_micros);
            for target in &self.targets {
                let same = target.versions.len() == first.versions.len() && target.versions[index].to == change.to;
                if !same {
                    return Err(VersionMismatch { sequences: self.sequences() });
                }
                first_micros = first_micros.min(target.versions[index].at_micros);
                last_micros = last_micros.max(target.versions[index].at_micros);
            }
            switches.push(Switch { to: change.to.clone(), first_micros, last_micros });
        }
        Ok(switches.split_off(switches.len().min(1)))
    }

    /// The report as one JSON document.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self)
    }

    fn sequences(&self) -> String {
        let one = |target: &TargetReport| format!("{}: {}", target.target, target.sequence());
        self.targets.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl TargetReport {
    /// The versions in order, as in `v1 → v2`.
    pub fn sequence(&self) -> String {
        self.versions.iter().map(|change| change.to.as_str()).collect::<Vec<_>>().join(" → ")
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.failed += other.failed;
        self.failed_connect += other.failed_connect;
        self.failed_reset += other.failed_reset;
        self.failed_status += other.failed_status;
        self.failed_timeout += other.failed_timeout;
        self.failed_malformed += other.failed_malformed;
        self.closed_idle += other.closed_idle;
        self.announced_closes += other.announced_closes;
        self.connections_opened += other.connections_opened;
        self.stragglers += other.stragglers;
        self.version_changes_dropped += other.version_changes_dropped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} ok, {} failed", self.sent, self.ok, self.failed)?;
        let kinds = [
            ("no connection", self.failed_connect),
            ("reset", self.failed_reset),
            ("not 200", self.failed_status),
            ("timed out", self.failed_timeout),
            ("malformed", self.failed_malformed),
        ];
        let kinds: Vec<_> = kinds.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
        if !kinds.is_empty() {
            write!(f, " ({})", kinds.join(", "))?;
        }
        write!(f, ", {} closed while idle, {} recycled as announced", self.closed_idle, self.announced_closes)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: u64| micros as f64 / 1000.0;
        write!(f, "{} in {:.1} s", self.total, millis(self.elapsed_micros) / 1000.0)?;
        let latency = self.latency;
        let (p50, p99, max) = (millis(latency.p50_micros), millis(latency.p99_micros), millis(latency.max_micros));
        write!(f, "; latency p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")?;
        for target in &self.targets {
            write!(f, "\n  {}: {}; versions {}", target.target, target.counts, target.sequence())?;
            for note in &target.failures {
                write!(f, "\n    {:?} at {:.3} ms: {}", note.kind, millis(note.at_micros), note.detail)?;
            }
        }
        Ok(())
    }
}

/// What the connections of one target write into.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) counts: Counts,
    histogram: Histogram,
    versions: Versions,
    failures: Vec<FailureNote>,
}

impl Stats {
    pub(super) fn answered(&mut self, version: Option<&str>, sent_micros: u64, at_micros: u64) {
        self.counts.ok += 1;
        self.histogram.record(Duration::from_micros(at_micros - sent_micros));
        if let Some(version) = version {
            self.versions.saw(version, sent_micros, at_micros);
        }
    }

    pub(super) fn failed(&mut self, kind: FailureKind, at_micros: u64, detail: String) {
        self.counts.failed += 1;
        match kind {
            FailureKind::Connect => self.counts.failed_connect += 1,
            FailureKind::Reset => self.counts.failed_reset += 1,
            FailureKind::Status => self.counts.failed_status += 1,
            FailureKind::Timeout => self.counts.failed_timeout += 1,
            FailureKind::Malformed => self.counts.failed_malformed += 1,
        }
        if self.failures.len() < NOTES_MAX {
            self.failures.push(FailureNote { kind, at_micros, detail });
        }
    }

    pub(super) fn report(&self, target: &str) -> TargetReport {
        let counts = Counts {
            stragglers: self.versions.stragglers(),
            version_changes_dropped: self.versions.changes_dropped(),
            ..self.counts
        };
        TargetReport {
            target: target.to_owned(),
            counts,
            latency: self.histogram.summary(),
            versions: self.versions.changes().to_vec(),
            answers: self.versions.answers().clone(),
            failures: self.failures.clone(),
            histogram: self.histogram.clone(),
        }
    }
}

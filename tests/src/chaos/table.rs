//! What came of it all, for people and for programs.

use super::case::Case;
use crate::load::LoadReport;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What the test plan asks for: so many requests of a whole run, and none of them lost.
pub const REQUESTS_MIN: u64 = 1_000_000;

/// One case.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its name.
    pub case: String,
    /// Requests that users sent, from just before it to the rest after it.
    pub sent: u64,
    /// Requests they lost, those below included.
    pub failed: u64,
    /// Lost on the struck host, where nothing could have served them.
    pub excused: u64,
    /// Why. Empty: nothing is excused.
    pub excuse: String,
    /// For how long users sent.
    pub sent_for: Duration,
    /// Answers of versions that were not committed.
    pub uncommitted: u64,
    /// Hosts whose users saw a version again that had been replaced, and not because it was committed again.
    pub went_back: usize,
    /// Switches of the fleet: versions that were committed.
    pub committed: usize,
    /// Switches of single hosts, as their users saw them.
    pub switches: usize,
    /// From the repair to the fleet at rest. None: it did not come to rest.
    pub converged: Option<Duration>,
    /// What was committed, in order; of many the ends.
    pub versions: String,
    /// What every host serves at the end.
    pub serves: String,
    /// What must not be.
    pub faults: Vec<String>,
}

/// All of them.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    /// In the order they were run.
    pub lines: Vec<Line>,
    /// These are all cases there are, and not a choice of them.
    pub is_whole: bool,
    /// Requests per second that the users of all hosts were to send.
    pub rate_per_second: u64,
    /// Cases that were not run.
    pub left_out: usize,
    /// The whole run.
    pub took: Duration,
}

impl Line {
    pub(super) fn new(case: &Case, report: &LoadReport) -> Self {
        Self {
            case: case.to_string(),
            sent: report.total.sent,
            failed: report.total.failed,
            excused: 0,
            excuse: String::new(),
            sent_for: Duration::from_micros(report.elapsed_micros),
            uncommitted: 0,
            went_back: 0,
            committed: 0,
            switches: 0,
            converged: None,
            versions: String::new(),
            serves: String::new(),
            faults: Vec::new(),
        }
    }

    /// A bar is missed.
    pub fn is_bad(&self) -> bool {
        !self.faults.is_empty()
    }
}

impl Table {
    /// Every case was run and is well, and the bar of a whole run is met.
    pub fn is_good(&self) -> bool {
        self.left_out == 0 && !self.lines.iter().any(Line::is_bad) && self.bar() != Some(false)
    }

    /// Enough requests, none lost that could have been served, none answered by what was not committed, and no host back.
    /// None: only a whole run can tell.
    pub fn bar(&self) -> Option<bool> {
        let is_met = self.sent() >= REQUESTS_MIN
            && self.sum(|line| line.failed - line.excused + line.uncommitted) == 0
            && self.lines.iter().all(|line| line.went_back == 0);
        (self.is_whole && self.left_out == 0).then_some(is_met)
    }

    fn sent(&self) -> u64 {
        self.sum(|line| line.sent)
    }

    fn sum(&self, of: fn(&Line) -> u64) -> u64 {
        self.lines.iter().map(of).sum()
    }

    /// Of what the users were to send, how much they came to: less when this machine is too slow for them, or a host
    /// did not answer.
    fn percent_sent(&self) -> f64 {
        let sent_for: Duration = self.lines.iter().map(|line| line.sent_for).sum();
        let wanted = self.rate_per_second as f64 * sent_for.as_secs_f64();
        if wanted > 0.0 { 100.0 * self.sent() as f64 / wanted } else { 0.0 }
    }

    /// What was lost on struck hosts, by the reason.
    fn excuses(&self) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line.excused > 0) {
            *all.entry(line.excuse.as_str()).or_default() += line.excused;
        }
        all
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let converged = self.converged.map_or("never".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
        let lost = self.failed - self.excused;
        let excused = if self.excused > 0 { format!(" (+{} there)", self.excused) } else { String::new() };
        write!(
            f,
            "{:<46} {:>7} sent {:>4} lost{:<13} {:>8}  {:<14} {}",
            self.case,
            self.sent,
            lost,
            excused,
            converged,
            self.versions,
            if self.is_bad() { "BAD" } else { "ok" }
        )?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n    {fault}"))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times: Vec<_> = self.lines.iter().filter_map(|line| line.converged).collect();
        times.sort();
        let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 100).copied().unwrap_or_default();
        let bad = self.lines.iter().filter(|line| line.is_bad()).count();
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        let (cases, left_out, took) = (self.lines.len(), self.left_out, self.took.as_secs_f64());
        writeln!(f, "\n{cases} cases, {bad} bad, {left_out} not run, in {took:.0} s")?;
        let (sent, percent) = (self.sent(), self.percent_sent());
        writeln!(f, "{sent} requests, {percent:.0} % of what {} a second come to", self.rate_per_second)?;
        writeln!(f, "{} lost", self.sum(|line| line.failed - line.excused))?;
        for (excuse, lost) in self.excuses() {
            writeln!(f, "{lost} lost on the struck host: {excuse}")?;
        }
        let back: usize = self.lines.iter().map(|line| line.went_back).sum();
        let uncommitted = self.sum(|line| line.uncommitted);
        writeln!(f, "{uncommitted} answers of what was not committed, {back} hosts that went back")?;
        let (committed, switches) = self
            .lines
            .iter()
            .fold((0, 0), |(committed, switches), line| (committed + line.committed, switches + line.switches));
        writeln!(f, "{committed} switches of the fleet, {switches} of single hosts as their users saw them")?;
        writeln!(
            f,
            "at rest again after {:.1} s (p50), {:.1} s (p99), {:.1} s (max)",
            at(50).as_secs_f64(),
            at(99).as_secs_f64(),
            at(100).as_secs_f64()
        )?;
        let verdict = match self.bar() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not tried, for that every case has to be run",
        };
        write!(f, "bar of {REQUESTS_MIN} requests and none lost: {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::Case;
    use super::*;

    fn table(sent: u64, is_whole: bool) -> Table {
        let report = LoadReport {
            started_unix_micros: 0,
            elapsed_micros: 10_000_000,
            total: crate::load::Counts { sent, ..Default::default() },
            latency: crate::load::Histogram::default().summary(),
            targets: Vec::new(),
        };
        let line = Line::new(&Case::Switches(1), &report);
        Table { lines: vec![line], is_whole, rate_per_second: 200_000, ..Table::default() }
    }

    #[test]
    fn only_a_whole_run_of_a_million_requests_without_a_loss_meets_the_bar() {
        assert_eq!(table(REQUESTS_MIN, true).bar(), Some(true));
        assert!(table(REQUESTS_MIN, true).is_good());
        assert_eq!(table(REQUESTS_MIN - 1, true).bar(), Some(false));
        assert!(!table(REQUESTS_MIN - 1, true).is_good());
        assert_eq!(table(REQUESTS_MIN, false).bar(), None);
        assert!(table(1, false).is_good());
        let cut_short = Table { left_out: 1, ..table(REQUESTS_MIN, true) };
        assert_eq!((cut_short.bar(), cut_short.is_good()), (None, false));
        let spoilt = |spoil: fn(&mut Line)| {
            let mut table = table(REQUESTS_MIN, true);
            spoil(&mut table.lines[0]);
            table.bar()
        };
        assert_eq!(spoilt(|line| line.failed = 1), Some(false));
        assert_eq!(spoilt(|line| (line.failed, line.excused) = (1, 1)), Some(true));
        assert_eq!(spoilt(|line| line.uncommitted = 1), Some(false));
        assert_eq!(spoilt(|line| line.went_back = 1), Some(false));
    }

    #[test]
    fn the_closing_lines_say_it_all() {
        let mut table = table(REQUESTS_MIN, true);
        let line = &mut table.lines[0];
        (line.failed, line.excused, line.excuse) = (3, 3, "it is off".to_owned());
        (line.committed, line.switches, line.converged) = (2, 10, Some(Duration::from_millis(1500)));
        let text = table.to_string();
        let (_, end) = text.split_once("\n\n").expect("closing lines");
        assert_eq!(
            end,
            "1 cases, 0 bad, 0 not run, in 0 s\n\
             1000000 requests, 50 % of what 200000 a second come to\n\
             0 lost\n\
             3 lost on the struck host: it is off\n\
             0 answers of what was not committed, 0 hosts that went back\n\
             2 switches of the fleet, 10 of single hosts as their users saw them\n\
             at rest again after 1.5 s (p50), 1.5 s (p99), 1.5 s (max)\n\
             bar of 1000000 requests and none lost: met"
        );
    }
}

//! Waits for a new container to become healthy, and to stay so.

use super::Prober;
use crate::release::Healthcheck;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddrV4;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Pause after the first probe and between good answers. A probe of a closed port takes 0.1 ms, so this
/// costs nothing and finds a fast start within some milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Each further pause is longer by half, up to the interval.
const PAUSE_GROWTH: f64 = 1.5;

/// A container that is settling is looked at this often at least: the one that dies after a second should
/// be seen dying.
const SETTLE_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Kept of the probes at each end: enough to see how it began and how it ended.
const KEPT_EACH_END: usize = 10;

/// One probe and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// From 1.
    pub number: u64,
    /// When the answer was in, since the first probe began.
    pub after: Duration,
    /// What it answered, or why not.
    pub answer: Result<String, String>,
}

/// The first ten probes, the last ten, and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeLog {
    count: u64,
    first: Vec<ProbeReport>,
    last: VecDeque<ProbeReport>,
}

impl ProbeLog {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those that were kept, in order. Numbers jump where the middle was left out.
    pub fn kept(&self) -> impl Iterator<Item = &ProbeReport> {
        self.first.iter().chain(&self.last)
    }

    /// The latest.
    pub fn latest(&self) -> Option<&ProbeReport> {
        self.last.back().or(self.first.last())
    }

    fn push(&mut self, report: ProbeReport) {
        self.count += 1;
        if self.first.len() < KEPT_EACH_END {
            self.first.push(report);
            return;
        }
        if self.last.len() == KEPT_EACH_END {
            self.last.pop_front();
        }
        self.last.push_back(report);
    }
}

/// It is healthy, and how it got there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// From the first probe to the good answer that made the count full.
    pub healthy_after: Duration,
    /// The same with the settle time.
    pub settled_after: Duration,
    /// What it answered.
    pub probes: ProbeLog,
}

/// It did not become healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhealthy {
    /// Why it was given up.
    pub reason: Reason,
    /// How long it was asked.
    pub after: Duration,
    /// What it answered.
    pub probes: ProbeLog,
}

/// Why a container was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `retries` bad answers in a row after the start period.
    BadAnswers(u32),
    /// The deadline came first.
    Deadline,
}

impl std::error::Error for Unhealthy {}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.after.as_secs_f64();
        match self.reason {
            Reason::BadAnswers(count) => {
                write!(f, "unhealthy after {seconds:.1} s: {count} bad answers in a row")?;
            }
            Reason::Deadline => write!(f, "not healthy when the time was up after {seconds:.1} s")?,
        }
        match self.probes.latest().map(|report| &report.answer) {
            Some(Ok(answer)) => write!(f, "; last answer: {answer}, good, but not for long enough")?,
            Some(Err(answer)) => write!(f, "; last answer: {answer}")?,
            None => write!(f, "; it was never asked")?,
        }
        write!(f, " ({} probes)", self.probes.count())
    }
}

/// Probes at once, then after 10 ms, then at pauses that grow by half up to the interval. Healthy is
/// `successes` good answers in a row, 10 ms apart, and then none but good ones for the `settle` time; a
/// bad one begins the count anew.
///
/// Bad answers in the start period are no failure. After it, `retries` of them in a row are. The fast
/// probes do not use these up faster: a bad answer counts only when a whole interval lies between it and
/// the one counted before, or the end of the start period.
///
/// `on_probe` hears each answer as it comes. Dropping the future ends it at any point.
///
/// # Errors
/// [`Unhealthy`], with what was answered.
pub async fn wait_until_healthy(
    prober: &dyn Prober,
    address: SocketAddrV4,
    check: &Healthcheck,
    deadline: Instant,
    mut on_probe: impl FnMut(&ProbeReport) + Send,
) -> Result<HealthReport, Unhealthy> {
    let began = Instant::now();
    let mut probes = ProbeLog::default();
    let mut judge = Judge::new(check);
    loop {
        let Ok(answer) = timeout_at(deadline, prober.probe(address, check)).await else { break };
        let after = began.elapsed();
        let good = answer.is_ok();
        let report = ProbeReport { number: probes.count() + 1, after, answer };
        on_probe(&report);
        probes.push(report);
        let pause = match judge.hear(good, after) {
            Verdict::Ask(pause) => pause,
            Verdict::Healthy { healthy_after } => {
                return Ok(HealthReport { healthy_after, settled_after: after, probes });
            }
            Verdict::Failed => {
                let reason = Reason::BadAnswers(check.retries.max(1));
                return Err(Unhealthy { reason, after, probes });
            }
        };
        let next = Instant::now() + pause;
        sleep_until(next.min(deadline)).await;
        if next >= deadline {
            break;
        }
    }
    Err(Unhealthy { reason: Reason::Deadline, after: began.elapsed(), probes })
}

/// Counts answers. Times are since the first probe began.
struct Judge<'a> {
    check: &'a Healthcheck,
    good_in_row: u32,
    /// When the count of good answers became full.
    healthy_since: Option<Duration>,
    bad_in_row: u32,
    /// The next bad answer counts from here on.
    bad_counts_from: Duration,
    pause: Duration,
}

enum Verdict {
    Ask(Duration),
    Healthy { healthy_after: Duration },
    Failed,
}

impl<'a> Judge<'a> {
    fn new(check: &'a Healthcheck) -> Self {
        Self {
            check,
            good_in_row: 0,
            healthy_since: None,
            bad_in_row: 0,
            bad_counts_from: check.start_period + check.interval,
            pause: FIRST_PAUSE.min(check.interval),
        }
    }

    fn hear(&mut self, good: bool, now: Duration) -> Verdict {
        if good { self.hear_good(now) } else { self.hear_bad(now) }
    }

    fn hear_good(&mut self, now: Duration) -> Verdict {
        self.bad_in_row = 0;
        self.pause = FIRST_PAUSE.min(self.check.interval);
        self.good_in_row = self.good_in_row.saturating_add(1);
        if self.good_in_row < self.check.successes {
            return Verdict::Ask(self.pause);
        }
        let healthy_after = *self.healthy_since.get_or_insert(now);
        let settled = healthy_after + self.check.settle;
        if now >= settled {
            return Verdict::Healthy { healthy_after };
        }
        Verdict::Ask(self.check.interval.min(SETTLE_PAUSE_MAX).min(settled - now))
    }

    fn hear_bad(&mut self, now: Duration) -> Verdict {
        self.good_in_row = 0;
        self.healthy_since = None;
        if now >= self.bad_counts_from {
            self.bad_in_row += 1;
            self.bad_counts_from = now + self.check.interval;
            if self.bad_in_row >= self.check.retries {
                return Verdict::Failed;
            }
        }
        let pause = self.pause;
        self.pause = pause.mul_f64(PAUSE_GROWTH).min(self.check.interval);
        Verdict::Ask(pause)
    }
}

#[cfg(test)]
mod tests;

//! Latencies in buckets that grow with the value: 3 % exact from 1 µs to over an hour, 1 KiB large.

use serde::Serialize;
use std::time::Duration;

/// Buckets per doubling; their width is the error: 1/32.
const STEPS: u64 = 32;
/// Enough for 2^32 µs, which is over an hour.
const BUCKETS: usize = (STEPS as usize) * 28;

/// Counts of latencies.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max_micros: u64,
}

/// What a person asks of latencies, in microseconds. All 0 when nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LatencySummary {
    /// Half were faster.
    pub p50_micros: u64,
    /// One in a hundred was slower.
    pub p99_micros: u64,
    /// The slowest, exactly.
    pub max_micros: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, max_micros: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let micros = latency.as_micros() as u64;
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.max_micros = self.max_micros.max(micros);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max_micros = self.max_micros.max(other.max_micros);
    }

    /// The latency in µs that `quantile` (0 to 1) of all did not exceed: at most 1/32 too high.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((self.total as f64) * quantile.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(index).min(self.max_micros);
            }
        }
        0
    }

    /// The three figures of a report.
    pub fn summary(&self) -> LatencySummary {
        LatencySummary { p50_micros: self.quantile(0.50), p99_micros: self.quantile(0.99), max_micros: self.max_micros }
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doublings = u64::from(micros.ilog2() - STEPS.ilog2());
    let index = (doublings + 1) * STEPS + ((micros >> doublings) - STEPS);
    (index as usize).min(BUCKETS - 1)
}

fn highest(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let doublings = index / STEPS - 1;
    ((index % STEPS + STEPS + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_one_step_too_high() {
        let mut histogram = Histogram::default();
        for micros in 1..=100_000_u64 {
            histogram.record(Duration::from_micros(micros));
        }
        for (quantile, exact) in [(0.5, 50_000_u64), (0.99, 99_000), (0.001, 100), (1.0, 100_000)] {
            let found = histogram.quantile(quantile);
            assert!(found >= exact, "{quantile}: {found} < {exact}");
            assert!(found - exact <= exact / STEPS, "{quantile}: {found} is too far above {exact}");
        }
        assert_eq!(histogram.summary().max_micros, 100_000);
    }

    #[test]
    fn every_bucket_holds_its_own_highest_value_and_not_the_next() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(highest(index)), index);
            assert_eq!(bucket(highest(index) + 1), index + 1);
        }
    }

    #[test]
    fn nothing_measured_is_zero_and_the_absurd_is_counted() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.summary(), LatencySummary::default());
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!(histogram.summary().max_micros, 1_000_000_000_000);
    }

    #[test]
    fn merging_is_as_if_recorded_in_one() {
        let (mut left, mut right, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for micros in [3, 70, 900, 12_000] {
            left.record(Duration::from_micros(micros));
            both.record(Duration::from_micros(micros));
        }
        for micros in [5, 5, 5_000_000] {
            right.record(Duration::from_micros(micros));
            both.record(Duration::from_micros(micros));
        }
        left.merge(&right);
        assert_eq!(left.summary(), both.summary());
    }
}

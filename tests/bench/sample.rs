//! Measured values of one kind.

use std::time::{Duration, Instant};

/// As many as were added.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    values: Vec<f64>,
}

impl Samples {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// One more, in milliseconds.
    pub fn add_millis(&mut self, time: Duration) {
        self.add(time.as_secs_f64() * 1e3);
    }

    /// One more, in microseconds.
    pub fn add_micros(&mut self, time: Duration) {
        self.add(time.as_secs_f64() * 1e6);
    }

    /// The smallest value that `part` (0 to 1) of all do not exceed. NaN: there is none.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }
}

/// What came of it, and how long it took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let done = work.await;
    (done, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut samples = Samples::default();
        for value in [4.0, 1.0, 3.0, 2.0] {
            samples.add(value);
        }
        assert_eq!((samples.min(), samples.median(), samples.quantile(0.99), samples.max()), (1.0, 2.0, 4.0, 4.0));
        assert!(Samples::default().median().is_nan());
    }
}

//! Judges a container that serves, from one probe each interval.

use crate::release::Healthcheck;

/// Healthy until `retries` bad answers in a row, then unhealthy until `successes` good ones in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    healthy: bool,
    /// Answers in a row that contradict `healthy`.
    against: u32,
    retries: u32,
    successes: u32,
}

/// What an answer turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Enough good answers in a row.
    BecameHealthy,
    /// Enough bad answers in a row.
    BecameUnhealthy,
}

impl Monitor {
    /// `healthy`: what it is taken for until its answers say otherwise.
    pub fn new(check: &Healthcheck, healthy: bool) -> Self {
        Self { healthy, against: 0, retries: check.retries.max(1), successes: check.successes.max(1) }
    }

    /// What it is now.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// One more answer. None: it changes nothing.
    pub fn observe(&mut self, good: bool) -> Option<Change> {
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let (enough, change) = match self.healthy {
            true => (self.retries, Change::BecameUnhealthy),
            false => (self.successes, Change::BecameHealthy),
        };
        if self.against < enough {
            return None;
        }
        self.healthy = good;
        self.against = 0;
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Probe;
    use std::time::Duration;

    /// `+` good, `-` bad; answers one character each: `.` nothing, `H` became healthy, `U` unhealthy.
    fn run(healthy: bool, answers: &str) -> String {
        let check = Healthcheck {
            probe: Probe::Tcp,
            port: 1,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            successes: 2,
            retries: 3,
            start_period: Duration::ZERO,
            settle: Duration::ZERO,
        };
        let mut monitor = Monitor::new(&check, healthy);
        let letter = |answer| match monitor.observe(answer == '+') {
            None => '.',
            Some(Change::BecameHealthy) => 'H',
            Some(Change::BecameUnhealthy) => 'U',
        };
        answers.chars().map(letter).collect()
    }

    #[test]
    fn only_answers_in_a_row_turn_it() {
        assert_eq!(run(true, "+--+--+---"), ".........U");
        assert_eq!(run(true, "----+-++---"), "..U....H..U");
        assert_eq!(run(false, "+-+-++-"), ".....H.");
    }
}

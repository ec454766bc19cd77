//! The time of a colour after it took traffic: how long it is drained, and how long it stays warm as the way back.
//!
//! It must survive the agent, and a reboot, and a person who sets the clock. Within one boot it is measured by the
//! time since the boot, which nobody can set; after a reboot only the time of day is left, and if that was put forward
//! meanwhile, the way back ends early.

use crate::release::Release;
use bgctl_proto::ambient::Ambient;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// This host's clocks.
#[derive(Clone)]
pub struct Clocks {
    ambient: Arc<dyn Ambient>,
    boot: u64,
}

/// A moment, by both of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    since_1970: Duration,
    since_boot: Duration,
    /// Names the boot; 0: not known.
    boot: u64,
}

/// Until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Seconds since 1970.
    warm_until: u64,
    /// Milliseconds since 1970.
    drained_at_millis: u64,
    /// The same two since the boot of this name. Missing in journals of older agents.
    #[serde(default)]
    boot: u64,
    #[serde(default)]
    warm_until_uptime: u64,
    #[serde(default)]
    drained_at_uptime_millis: u64,
}

impl Clocks {
    /// `boot`: another one after each reboot of the host; empty: not known.
    pub fn new(ambient: Arc<dyn Ambient>, boot: &str) -> Self {
        let digest = Sha256::digest(boot.as_bytes());
        let name = digest.iter().take(8).fold(0, |name, byte| name << 8 | u64::from(*byte));
        // JSON readers of other languages take no more than 53 bits.
        let boot = if boot.is_empty() { 0 } else { (name >> 11).max(1) };
        Self { ambient, boot }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment { since_1970: self.ambient.since_1970(), since_boot: self.ambient.since_boot(), boot: self.boot }
    }
}

impl Retired {
    /// From a switch that happens now.
    pub fn at(now: Moment, release: &Release) -> Self {
        Self {
            warm_until: (now.since_1970 + release.keep_standby).as_secs(),
            drained_at_millis: (now.since_1970 + release.drain).as_millis() as u64,
            boot: now.boot,
            warm_until_uptime: (now.since_boot + release.keep_standby).as_secs(),
            drained_at_uptime_millis: (now.since_boot + release.drain).as_millis() as u64,
        }
    }

    /// Whether the way back has ended.
    pub fn is_cold(&self, now: Moment) -> bool {
        if self.is_of_this_boot(now) {
            now.since_boot.as_secs() >= self.warm_until_uptime
        } else {
            now.since_1970.as_secs() >= self.warm_until
        }
    }

    /// How long requests that were under way still have: no longer than a whole drain, wherever the clock went.
    pub fn drain_left(&self, now: Moment, drain: Duration) -> Duration {
        let left = if self.is_of_this_boot(now) {
            Duration::from_millis(self.drained_at_uptime_millis).saturating_sub(now.since_boot)
        } else {
            Duration::from_millis(self.drained_at_millis).saturating_sub(now.since_1970)
        };
        left.min(drain)
    }

    fn is_of_this_boot(&self, now: Moment) -> bool {
        self.boot != 0 && self.boot == now.boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const HOUR: Duration = Duration::from_secs(3600);
    const DRAIN: Duration = Duration::from_secs(30);
    const MIDDAY: Duration = Duration::from_secs(1_800_000_000);
    const UP: Duration = Duration::from_secs(500);

    /// (time of day, uptime)
    struct Set(Mutex<(Duration, Duration)>);

    impl Ambient for Set {
        fn since_1970(&self) -> Duration {
            self.0.lock().expect("nobody panics").0
        }
        fn since_boot(&self) -> Duration {
            self.0.lock().expect("nobody panics").1
        }
        fn random(&self) -> u128 {
            0
        }
    }

    fn moment(boot: &str, since_1970: Duration, since_boot: Duration) -> Moment {
        Clocks::new(Arc::new(Set(Mutex::new((since_1970, since_boot)))), boot).now()
    }

    fn release() -> Release {
        Release {
            service: "web".parse().expect("a name"),
            digest: cutover::ids::ReleaseDigest([7; 32]),
            version: "v1".to_owned(),
            containers: Vec::new(),
            routes: Vec::new(),
            drain: DRAIN,
            keep_standby: HOUR,
            partition_grace: None,
            encoded: Vec::new().into(),
        }
    }

    #[test]
    fn an_agent_that_died_while_it_drained_goes_on_with_the_time_that_is_left() {
        let retired = Retired::at(moment("one", MIDDAY, UP), &release());
        for (later, left) in [(0, 30), (12, 18), (30, 0), (31, 0)] {
            let later = Duration::from_secs(later);
            for now in [moment("one", MIDDAY + later, UP + later), moment("two", MIDDAY + later, later)] {
                assert_eq!(retired.drain_left(now, DRAIN), Duration::from_secs(left), "{later:?} after the switch");
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_an_hour_changes_neither_the_drain_nor_the_way_back() {
        let retired = Retired::at(moment("one", MIDDAY, UP), &release());
        let soon = Duration::from_secs(10);
        for jumped in [MIDDAY - HOUR, MIDDAY + HOUR, Duration::ZERO] {
            let now = moment("one", jumped + soon, UP + soon);
            assert_eq!(retired.drain_left(now, DRAIN), DRAIN - soon);
            assert!(!retired.is_cold(now), "the way back ended early");
            assert!(retired.is_cold(moment("one", jumped, UP + HOUR)), "the way back did not end");
        }
    }

    /// The time of day is all there is then.
    #[test]
    fn after_a_reboot_or_without_a_name_of_the_boot_no_drain_is_longer_than_it_is() {
        for (before, after) in [("one", "two"), ("", ""), ("one", "")] {
            let retired = Retired::at(moment(before, MIDDAY, UP), &release());
            let back = moment(after, MIDDAY - HOUR, UP);
            assert_eq!(retired.drain_left(back, DRAIN), DRAIN);
            assert!(!retired.is_cold(back));
            let forward = moment(after, MIDDAY + HOUR, UP);
            assert_eq!(retired.drain_left(forward, DRAIN), Duration::ZERO);
            assert!(retired.is_cold(forward));
        }
    }

    #[test]
    fn what_an_older_agent_wrote_counts_by_the_time_of_day() {
        let old =
            format!(r#"{{"warm_until":{},"drained_at_millis":{}}}"#, (MIDDAY + HOUR).as_secs(), MIDDAY.as_millis());
        let old: Retired = serde_json::from_str(&old).expect("as it was written");
        assert!(!old.is_cold(moment("one", MIDDAY, HOUR * 9)));
        assert!(old.is_cold(moment("one", MIDDAY + HOUR, UP)));
    }
}

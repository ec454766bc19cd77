//! What every program takes from its machine without asking anyone: the time of day, and chance. Handed in, so that
//! a simulation is the same each time it is run.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of day, and chance.
pub trait Ambient: Send + Sync + 'static {
    /// Time since 1970 by the wall clock. It may jump, forward and back: nothing may be decided by it.
    fn since_1970(&self) -> Duration;
    /// Time since the machine was started, its sleep included. It goes on evenly and nobody can set it; after a reboot it
    /// begins anew.
    fn since_boot(&self) -> Duration;
    /// A number nobody can guess, and nobody gets twice.
    fn random(&self) -> u128;
}

impl dyn Ambient {
    /// Milliseconds since 1970, for people and for what must survive a restart.
    pub fn unix_millis(&self) -> u64 {
        u64::try_from(self.since_1970().as_millis()).unwrap_or(u64::MAX)
    }

    /// A share of a duration: half of it at least, so that many who wait do not wake at one instant.
    pub fn jittered(&self, longest: Duration) -> Duration {
        // 53 bits are what a float holds exactly.
        let unit = (self.random() >> 75) as f64 / (1_u64 << 53) as f64;
        longest.mul_f64(0.5 + unit / 2.0)
    }
}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl Machine {
    /// To be handed in.
    pub fn ambient() -> Arc<dyn Ambient> {
        Arc::new(Self)
    }
}

impl Ambient for Machine {
    fn since_1970(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn since_boot(&self) -> Duration {
        // It cannot be negative.
        rustix::time::clock_gettime(rustix::time::ClockId::Boottime).try_into().unwrap_or_default()
    }

    fn random(&self) -> u128 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u128);

    impl Ambient for Fixed {
        fn since_1970(&self) -> Duration {
            Duration::from_millis(1_500)
        }
        fn since_boot(&self) -> Duration {
            Duration::from_millis(500)
        }
        fn random(&self) -> u128 {
            self.0
        }
    }

    #[test]
    fn jitter_is_from_half_to_whole() {
        let longest = Duration::from_secs(10);
        let least: &dyn Ambient = &Fixed(0);
        let most: &dyn Ambient = &Fixed(u128::MAX);
        assert_eq!(least.jittered(longest), longest / 2);
        assert!(most.jittered(longest) <= longest && most.jittered(longest) > longest.mul_f64(0.999));
        assert_eq!(least.unix_millis(), 1_500);
    }
}

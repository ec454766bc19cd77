//! The simulation's time, and what hosts take from their machines.

use bgctl_proto::ambient::Ambient;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// When the simulation begins: 2026-11-01, in seconds since 1970.
const BEGIN: Duration = Duration::from_secs(1_793_491_200);

/// Time since the simulation began, inside its hosts and outside. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    micros: Arc<AtomicU64>,
}

impl Clock {
    /// Outside of all hosts it is now so late.
    pub fn set(&self, now: Duration) {
        self.micros.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Now. Within a host it runs on while the host works.
    pub fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or(Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }
}

/// One host's time of day and chance. Clones are the same host's.
#[derive(Clone)]
pub struct SimAmbient {
    clock: Clock,
    /// How far its clock is off, in milliseconds.
    off: Arc<AtomicI64>,
    chance: Arc<Mutex<SmallRng>>,
}

impl SimAmbient {
    /// Of a host whose clock is right.
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self { clock, off: Arc::default(), chance: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// Its clock is off by this much from now on.
    pub fn set_off(&self, millis: i64) {
        self.off.store(millis, Ordering::Relaxed);
    }

    /// A number below this.
    pub fn below(&self, end: u64) -> u64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).next_u64() % end.max(1)
    }
}

impl Ambient for SimAmbient {
    fn since_1970(&self) -> Duration {
        let right = BEGIN + self.clock.now();
        let off = self.off.load(Ordering::Relaxed);
        let by = Duration::from_millis(off.unsigned_abs());
        if off < 0 { right.saturating_sub(by) } else { right + by }
    }

    fn since_boot(&self) -> Duration {
        self.clock.now()
    }

    fn random(&self) -> u128 {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        (u128::from(chance.next_u64()) << 64) | u128::from(chance.next_u64())
    }
}

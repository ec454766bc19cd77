//! A host's nginx: the fake, which may go on serving what it served whatever happens on disk.

use async_trait::async_trait;
use bgctl_agent::nginx::fake::{Call, FakeProxy};
use bgctl_agent::nginx::{Flags, Proxy, ProxyError, Readiness, Reshaped, Shape, SwitchTimes};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones are the same nginx.
#[derive(Clone, Default)]
pub struct SimProxy {
    /// The fake behind it.
    pub fake: FakeProxy,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What users get while nginx does not follow the disk.
    stuck_on: Option<Option<Flags>>,
    /// Sabotage: a switch that is not proven passes for one that is.
    believes: bool,
    /// Somebody turned the flags by hand, and the agent has not put them right.
    by_hand: bool,
}

impl SimProxy {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It ignores every change from now on, or follows again.
    pub fn ignore(&self, ignores: bool) {
        let stuck_on = ignores.then(|| self.fake.served());
        let error = ignores.then(|| ProxyError::NotFollowing {
            expected: "the new flags".to_owned(),
            answered: "the old ones".to_owned(),
        });
        self.fake.fail(Call::Proof, error);
        self.lock().stuck_on = stuck_on;
    }

    /// Nothing is left of it.
    pub fn wipe(&self) {
        self.fake.wipe();
        let mut state = self.lock();
        *state = State { believes: state.believes, ..State::default() };
    }

    /// Sabotage: what is not proven is believed.
    pub fn believe(&self) {
        self.lock().believes = true;
    }

    /// Somebody turns the flags by hand.
    pub fn turn_by_hand(&self, flags: &Flags) {
        self.lock().by_hand = true;
        self.fake.turn_by_hand(flags);
    }

    /// What users get, unless somebody's hand is in it.
    pub fn users_get(&self) -> Option<Flags> {
        let state = self.lock();
        match &state.stuck_on {
            Some(flags) => flags.clone(),
            None if state.by_hand => None,
            None => self.fake.served(),
        }
    }

    /// What the switch on disk says, unless somebody's hand is in it.
    pub fn on_disk_now(&self) -> Option<Flags> {
        if self.lock().by_hand { None } else { self.fake.current() }
    }

    fn put_right(&self) {
        self.lock().by_hand = false;
    }
}

#[async_trait]
impl Proxy for SimProxy {
    async fn version(&self) -> Result<String, ProxyError> {
        self.fake.version().await
    }
    async fn ensure_running(&self) -> Result<(), ProxyError> {
        self.fake.ensure_running().await
    }
    async fn restore(&self, flags: &Flags) -> Result<(), ProxyError> {
        self.fake.restore(flags).await?;
        self.put_right();
        Ok(())
    }
    async fn on_disk(&self) -> Result<Option<Flags>, ProxyError> {
        self.fake.on_disk().await
    }
    async fn reshape(&self, shape: &Shape) -> Result<Reshaped, ProxyError> {
        self.fake.reshape(shape).await
    }
    async fn validate(&self) -> Result<(), ProxyError> {
        self.fake.validate().await
    }
    async fn observe(&self) -> Result<Flags, ProxyError> {
        let observed = self.fake.observe().await?;
        match &self.lock().stuck_on {
            Some(Some(flags)) => Ok(flags.clone()),
            Some(None) | None => Ok(observed),
        }
    }
    async fn stage(&self, flags: &Flags) -> Result<(), ProxyError> {
        self.fake.stage(flags).await
    }
    async fn switch(&self, flags: &Flags) -> Result<SwitchTimes, ProxyError> {
        let switched = self.fake.switch(flags).await;
        if switched.is_ok() {
            self.put_right();
        }
        match switched {
            Err(ProxyError::NotFollowing { .. }) if self.lock().believes => Ok(SwitchTimes::default()),
            other => other,
        }
    }
    async fn tell_ready(&self, readiness: &Readiness) -> Result<(), ProxyError> {
        self.fake.tell_ready(readiness).await
    }
    async fn told_ready(&self) -> Result<Readiness, ProxyError> {
        self.fake.told_ready().await
    }
    async fn stop(&self) -> Result<(), ProxyError> {
        self.fake.stop().await
    }
}

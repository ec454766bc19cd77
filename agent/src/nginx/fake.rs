//! nginx in memory, for simulation: refuses what the real one refuses, and fails when told to.

use super::listen::{ListenMap, doors};
use super::{Flags, Proxy, ProxyError, Readiness, Reshaped, Shape, SwitchTimes, check_flags};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A host's nginx. Clones are the same nginx: one handed out again after a restart of the agent finds
/// what the agent before left.
#[derive(Debug, Clone, Default)]
pub struct FakeProxy {
    listen: ListenMap,
    state: Arc<Mutex<State>>,
}

/// A call of the trait, to make it fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `version`
    Version,
    /// `ensure_running`
    EnsureRunning,
    /// `restore`
    Restore,
    /// `on_disk`
    OnDisk,
    /// `reshape`
    Reshape,
    /// `validate`
    Validate,
    /// `observe`
    Observe,
    /// `stage`
    Stage,
    /// `switch`, before the rename
    Switch,
    /// `switch`, after the rename: it was made, and nginx is not seen to follow
    Proof,
    /// `tell_ready` and `told_ready`
    Ready,
    /// `stop`
    Stop,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// None: no shape was ever installed.
    shape: Option<Shape>,
    current: Option<Flags>,
    staged: Option<Flags>,
    readiness: Readiness,
    failing: BTreeMap<Call, ProxyError>,
    turns: Vec<Flags>,
}

impl FakeProxy {
    /// A host where nginx does not run yet and nothing is on disk. `listen`: as in the agent's config.
    pub fn new(listen: ListenMap) -> Self {
        Self { listen, state: Arc::default() }
    }

    /// From now on this call fails with this error; none: it works again.
    pub fn fail(&self, call: Call, error: Option<ProxyError>) {
        let mut state = self.lock();
        match error {
            Some(error) => state.failing.insert(call, error),
            None => state.failing.remove(&call),
        };
    }

    /// nginx dies. What is on disk stays.
    pub fn die(&self) {
        self.lock().running = false;
    }

    /// The switch directory is deleted.
    pub fn lose_switch(&self) {
        let mut state = self.lock();
        (state.current, state.staged) = (None, None);
        state.readiness = Readiness::default();
    }

    /// What load balancers get, while it runs and its switch is there: none otherwise.
    pub fn answers_ready(&self) -> Option<Readiness> {
        let state = self.lock();
        let is_there = state.running && state.current.is_some();
        is_there.then(|| state.readiness.clone())
    }

    /// Nothing is left of it, as after its disk was replaced.
    pub fn wipe(&self) {
        *self.lock() = State::default();
    }

    /// Somebody points `current` elsewhere, past the agent.
    pub fn turn_by_hand(&self, flags: &Flags) {
        self.lock().turn(flags);
    }

    /// What the switch on disk says.
    pub fn current(&self) -> Option<Flags> {
        self.lock().current.clone()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.lock().running
    }

    /// The shape in force.
    pub fn shape(&self) -> Option<Shape> {
        self.lock().shape.clone()
    }

    /// What users get: nothing while it does not run.
    pub fn served(&self) -> Option<Flags> {
        let state = self.lock();
        state.current.clone().filter(|_| state.running)
    }

    /// Every content that `current` ever had, in order.
    pub fn turns(&self) -> Vec<Flags> {
        self.lock().turns.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, call: Call) -> Result<MutexGuard<'_, State>, ProxyError> {
        let state = self.lock();
        state.fails(call)?;
        Ok(state)
    }
}

impl State {
    fn fails(&self, call: Call) -> Result<(), ProxyError> {
        self.failing.get(&call).map_or(Ok(()), |error| Err(error.clone()))
    }

    fn answers(&self) -> Result<(), ProxyError> {
        let not_answering =
            |detail: &str| ProxyError::NotAnswering { socket: "fake".to_owned(), detail: detail.to_owned() };
        if self.running { Ok(()) } else { Err(not_answering("it does not run")) }
    }

    fn turn(&mut self, flags: &Flags) -> bool {
        if self.current.as_ref() == Some(flags) {
            return false;
        }
        self.current = Some(flags.clone());
        self.staged = None;
        self.turns.push(flags.clone());
        true
    }

    fn check(&self, flags: &Flags) -> Result<(), ProxyError> {
        let services: BTreeSet<_> = self.shape.iter().flat_map(|shape| shape.services.keys().cloned()).collect();
        check_flags(&services, flags)
    }

    fn observe(&self) -> Result<Flags, ProxyError> {
        self.answers()?;
        let lost = ProxyError::File {
            operation: "read through nginx",
            path: "the switch's current/generation".to_owned(),
            detail: "nginx answers 404 Not Found".to_owned(),
        };
        let mut flags = self.current.clone().ok_or(lost)?;
        let shape = self.shape.clone().unwrap_or_default();
        flags.services.retain(|name, _| shape.services.contains_key(name));
        match shape.services.keys().find(|name| !flags.services.contains_key(name)) {
            Some(name) => Err(ProxyError::NotFollowing {
                expected: format!("a flag for {name}"),
                answered: format!("{name} lost"),
            }),
            None => Ok(flags),
        }
    }
}

#[async_trait]
impl Proxy for FakeProxy {
    async fn version(&self) -> Result<String, ProxyError> {
        let _state = self.begin(Call::Version)?;
        Ok("0.0.0".to_owned())
    }

    async fn ensure_running(&self) -> Result<(), ProxyError> {
        let mut state = self.begin(Call::EnsureRunning)?;
        state.running = true;
        state.shape.get_or_insert_default();
        Ok(())
    }

    async fn restore(&self, flags: &Flags) -> Result<(), ProxyError> {
        self.begin(Call::Restore)?.turn(flags);
        Ok(())
    }

    async fn on_disk(&self) -> Result<Option<Flags>, ProxyError> {
        Ok(self.begin(Call::OnDisk)?.current.clone())
    }

    async fn reshape(&self, shape: &Shape) -> Result<Reshaped, ProxyError> {
        let mut state = self.begin(Call::Reshape)?;
        doors(shape, &self.listen, false)?;
        state.fails(Call::EnsureRunning)?;
        let unchanged = state.running && state.shape.as_ref() == Some(shape);
        state.running = true;
        let installed = state.shape.replace(shape.clone()).unwrap_or_default();
        if state.current.is_some() || installed.services.is_empty() {
            let mut flags = state.current.clone().unwrap_or_default();
            for name in shape.services.keys().filter(|name| !installed.services.contains_key(name)) {
                flags.services.entry(name.clone()).or_insert(None);
            }
            flags.services.retain(|name, _| shape.services.contains_key(name));
            state.turn(&flags);
        }
        Ok(if unchanged { Reshaped::Unchanged } else { Reshaped::Reloaded })
    }

    async fn validate(&self) -> Result<(), ProxyError> {
        self.begin(Call::Validate).map(|_| ())
    }

    async fn observe(&self) -> Result<Flags, ProxyError> {
        self.begin(Call::Observe)?.observe()
    }

    async fn stage(&self, flags: &Flags) -> Result<(), ProxyError> {
        let mut state = self.begin(Call::Stage)?;
        state.check(flags)?;
        state.staged = Some(flags.clone());
        Ok(())
    }

    async fn switch(&self, flags: &Flags) -> Result<SwitchTimes, ProxyError> {
        let mut state = self.begin(Call::Switch)?;
        state.check(flags)?;
        if state.staged.as_ref() != Some(flags) && state.current.as_ref() != Some(flags) {
            state.fails(Call::Stage)?;
        }
        // The runtime's clock, so that a simulation is the same each time.
        let renamed_at = state.turn(flags).then(|| Instant::now().into_std());
        state.fails(Call::Proof)?;
        state.observe()?;
        Ok(SwitchTimes { renamed_at, rename: Duration::ZERO, proof: Duration::ZERO })
    }

    async fn tell_ready(&self, readiness: &Readiness) -> Result<(), ProxyError> {
        self.begin(Call::Ready)?.readiness = readiness.clone();
        Ok(())
    }

    async fn told_ready(&self) -> Result<Readiness, ProxyError> {
        Ok(self.begin(Call::Ready)?.readiness.clone())
    }

    async fn stop(&self) -> Result<(), ProxyError> {
        let mut state = self.begin(Call::Stop)?;
        state.running = false;
        state.shape = None;
        Ok(())
    }
}

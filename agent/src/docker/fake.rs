//! Stands in for Docker in tests and simulation, and answers the health probes of its containers.
//!
//! It refuses what the real one refuses (both pass the suite in `contract`), runs no task of its own, and
//! knows no time but tokio's: what a container is follows from when it was started and what its image does.

mod images;
mod containers;

use super::tail::Tail;
use super::{
    ContainerFacts, CreateRequest, Engine, EngineError, EngineEvent, ImageFacts, LOG_TAIL_LINES_MAX, Network, Occupant,
};
use crate::health::Prober;
use crate::release::{Healthcheck, ImagePin};
use async_trait::async_trait;
use containers::{State, Stopped};
use cutover::ids::HostId;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// When a call that hangs is given up: what the real one allows a look.
const HANG_LIMIT: Duration = Duration::from_secs(10);

/// When a pull that hangs is given up: four times the real one's sixty seconds.
const PULL_HANG_LIMIT: Duration = Duration::from_secs(4 * 60);

/// What the containers of an image do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// From the start until it answers probes well; it refuses connections before. None: it answers 503
    /// for ever.
    pub healthy_after: Option<Duration>,
    /// It ends by itself.
    pub dies: Option<Death>,
    /// Printed at each start.
    pub log: Vec<String>,
    /// It must be killed.
    pub ignores_stop: bool,
}

/// How a container ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// From the start.
    pub after: Duration,
    /// 0 to 255.
    pub exit_code: i64,
    /// By the kernel, for memory.
    pub out_of_memory: bool,
}

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Engine::version`].
    Version,
    /// [`Engine::ensure_network`].
    EnsureNetwork,
    /// [`Engine::remove_network`].
    RemoveNetwork,
    /// [`Engine::image`].
    Image,
    /// [`Engine::registry_digest`].
    RegistryDigest,
    /// [`Engine::pull`].
    Pull,
    /// [`Engine::create`].
    Create,
    /// [`Engine::start`].
    Start,
    /// [`Engine::stop`].
    Stop,
    /// [`Engine::remove`].
    Remove,
    /// [`Engine::inspect`].
    Inspect,
    /// [`Engine::list`].
    List,
    /// [`Engine::log_tail`].
    LogTail,
    /// [`Engine::events`].
    Events,
}

/// How a call fails, until it is healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done and nothing answered.
    Hang,
    /// Nothing is done, and the daemon says this.
    Refuse(String),
    /// There is no daemon.
    Unreachable,
    /// It is done, this much later.
    Slow(Duration),
    /// It is done, and the answer is lost.
    ReplyLost,
    /// Of a start: the daemon is killed in the middle, and the next one does not know how far it came.
    KilledMeanwhile(Left),
}

/// What is left of a start that was broken off. In any case the container cannot be started under its id any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// No process.
    Nothing,
    /// One that waits to become the program: it has the address, and nobody listens.
    Waiting,
    /// The program.
    Program,
}

/// A Docker in memory. Clones are the same one.
#[derive(Clone)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    faults: Mutex<BTreeMap<Call, Fault>>,
    state: Mutex<State>,
    changed: Notify,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// An empty one, on tokio's clock.
    pub fn new() -> Self {
        let made = Instant::now();
        Self::with_clock(move || made.elapsed())
    }

    /// An empty one on another clock, which must not fall and must run as fast as tokio's. For a
    /// simulation in which it outlives the runtime of the agent.
    pub fn with_clock(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let (faults, state) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { clock: Box::new(clock), faults, state, changed: Notify::new() }) }
    }

    /// Puts an image on this host, as `docker load` does.
    pub fn load_image(&self, tag: &str, behaviour: Behaviour) -> ImagePin {
        ImagePin::ImageId(self.state().images.load(tag, behaviour))
    }

    /// Puts an image into the registry. A tag that is there already moves.
    pub fn publish(&self, tag: &str, behaviour: Behaviour) -> ImagePin {
        ImagePin::RepoDigest(self.state().images.publish(tag, behaviour))
    }

    /// Removes an image from this host, by tag, digest or id, as a prune does.
    pub fn forget_image(&self, reference: &str) {
        self.state().images.forget(reference);
    }

    /// Lets a container that is not ours have this name.
    pub fn occupy_name(&self, name: &str) {
        self.state().occupy(name);
    }

    /// Makes a running container answer 503 from now on, or well again.
    pub fn set_sick(&self, id: &str, sick: bool) {
        self.state().set_sick(id, sick);
    }

    /// Takes a container off its network.
    pub fn disconnect(&self, id: &str) {
        self.state().disconnect(id);
    }

    /// Ends a running container from outside.
    pub fn kill(&self, id: &str, exit_code: i64, out_of_memory: bool) {
        self.state().end(id, exit_code, out_of_memory);
        self.shared.changed.notify_waiters();
    }

    /// Ends everything that runs, also what Docker lost track of, as a loss of power does.
    pub fn lose_power(&self) {
        self.state().lose_power();
        self.shared.changed.notify_waiters();
    }

    /// What Docker has lost track of, by id, and where it stands.
    pub fn lost_track(&self) -> Vec<Occupant> {
        self.state().lost_track()
    }

    /// Ends all event streams, as a restart of the daemon does. Without live-restore it ends all
    /// containers too, and none of them comes back.
    pub fn restart_daemon(&self, live_restore: bool) {
        self.state().restart(live_restore);
        self.shared.changed.notify_waiters();
    }

    /// The id of the container that runs at this address.
    pub fn running_at(&self, address: Ipv4Addr) -> Option<String> {
        self.state().running_at(address)
    }

    /// All containers of a host, without the call.
    pub fn listed(&self, host: &HostId) -> Vec<ContainerFacts> {
        self.state().list(host)
    }

    /// Removes the images that no container uses, as `docker image prune --all` does.
    pub fn prune(&self) {
        self.state().prune();
    }

    /// Nothing is left of it but the registry, as after its disk was replaced.
    pub fn wipe(&self) {
        self.state().wipe();
        self.shared.changed.notify_waiters();
    }

    /// From now on this call fails so.
    pub fn fail(&self, call: Call, fault: Fault) {
        self.faults().insert(call, fault);
    }

    /// From now on this call works.
    pub fn heal(&self, call: Call) {
        self.faults().remove(&call);
    }

    fn now(&self) -> Duration {
        (self.shared.clock)()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle(self.now());
        state
    }

    fn faults(&self) -> MutexGuard<'_, BTreeMap<Call, Fault>> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut State, Duration) -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        self.enter(call).await?;
        let now = self.now();
        let result = act(&mut self.state(), now);
        self.shared.changed.notify_waiters();
        self.leave(call).await?;
        result
    }

    async fn enter(&self, call: Call) -> Result<(), EngineError> {
        tokio::task::yield_now().await;
        let fault = self.faults().get(&call).cloned();
        match fault {
            None | Some(Fault::ReplyLost | Fault::KilledMeanwhile(_)) => Ok(()),
            Some(Fault::Slow(pause)) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Some(Fault::Hang) => Err(hang(call).await),
            Some(Fault::Refuse(detail)) => Err(EngineError::Refused { operation: format!("{call:?}"), detail }),
            Some(Fault::Unreachable) => Err(EngineError::Unreachable { detail: "no such socket".to_owned() }),
        }
    }

    async fn leave(&self, call: Call) -> Result<(), EngineError> {
        let lost = matches!(self.faults().get(&call), Some(Fault::ReplyLost));
        if lost { Err(hang(call).await) } else { Ok(()) }
    }
}

async fn hang(call: Call) -> EngineError {
    tokio::time::sleep(HANG_LIMIT).await;
    EngineError::Unresponsive { operation: format!("{call:?}"), limit: HANG_LIMIT }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn version(&self) -> Result<String, EngineError> {
        self.call(Call::Version, |_, _| Ok("fake".to_owned())).await
    }

    async fn spares_containers(&self) -> Result<bool, EngineError> {
        self.call(Call::Version, |_, _| Ok(true)).await
    }

    async fn ensure_network(&self, network: &Network) -> Result<(), EngineError> {
        self.call(Call::EnsureNetwork, |state, _| state.ensure_network(network)).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.call(Call::RemoveNetwork, |state, _| state.remove_network(name)).await
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, EngineError> {
        self.call(Call::Image, |state, _| Ok(state.images.facts(reference))).await
    }

    async fn registry_digest(&self, reference: &str) -> Result<String, EngineError> {
        self.call(Call::RegistryDigest, |state, _| state.images.registry_digest(reference)).await
    }

    async fn pull(&self, pin: &ImagePin, progress: &(dyn Fn(String) + Send + Sync)) -> Result<(), EngineError> {
        let stalled = matches!(self.faults().get(&Call::Pull), Some(Fault::Hang));
        if stalled {
            tokio::time::sleep(PULL_HANG_LIMIT).await;
            let detail = "the registry sent nothing".to_owned();
            return Err(EngineError::ImageMissing { reference: pin.reference().to_owned(), detail });
        }
        let pulled = self.call(Call::Pull, |state, _| state.images.pull(pin)).await?;
        if pulled {
            progress(format!("{}: Pull complete", pin.reference()));
        }
        Ok(())
    }

    async fn create(&self, request: &CreateRequest<'_>) -> Result<String, EngineError> {
        self.call(Call::Create, |state, _| state.create(request)).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let fault = self.faults().get(&Call::Start).cloned();
        self.call(Call::Start, |state, now| match fault {
            Some(Fault::KilledMeanwhile(left)) => state.start_and_forget(id, now, left),
            None | Some(Fault::Hang | Fault::Refuse(_) | Fault::Unreachable | Fault::Slow(_) | Fault::ReplyLost) => {
                state.start(id, now)
            }
        })
        .await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let stopped = self.call(Call::Stop, |state, _| Ok(state.stop(id))).await?;
        match stopped {
            Stopped::Ended => {}
            Stopped::MustBeKilled => {
                tokio::time::sleep(Duration::from_secs(grace.as_millis().div_ceil(1000) as u64)).await;
                self.kill(id, 137, false);
            }
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.call(Call::Remove, |state, _| {
            state.remove(id);
            Ok(())
        })
        .await
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerFacts>, EngineError> {
        self.call(Call::Inspect, |state, _| state.inspect(id)).await
    }

    async fn list(&self, host: &HostId) -> Result<Vec<ContainerFacts>, EngineError> {
        self.call(Call::List, |state, _| Ok(state.list(host))).await
    }

    async fn log_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        let all = self.call(Call::LogTail, |state, _| state.log(id)).await?;
        let mut tail = Tail::new(lines.min(LOG_TAIL_LINES_MAX));
        all.iter().for_each(|line| tail.push(format!("{line}\n").as_bytes()));
        Ok(tail.finish())
    }

    async fn occupants(&self, network: &str, addresses: &[Ipv4Addr]) -> Result<Vec<Occupant>, EngineError> {
        // The host's own list of processes: no daemon has a part in it.
        tokio::task::yield_now().await;
        Ok(self.state().occupants(network, addresses))
    }

    async fn evict(&self, id: &str) -> Result<(), EngineError> {
        tokio::task::yield_now().await;
        self.state().evict(id);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn events(&self, host: &HostId) -> Result<BoxStream<'static, EngineEvent>, EngineError> {
        let cursor = self.call(Call::Events, |state, _| Ok(state.cursor())).await?;
        let (engine, host) = (self.clone(), host.clone());
        let next = move |mut cursor| {
            let (engine, host) = (engine.clone(), host.clone());
            async move {
                loop {
                    let changed = engine.shared.changed.notified();
                    let pause = {
                        let state = engine.state();
                        if !state.is_current(&cursor) {
                            return None;
                        }
                        if let Some(event) = state.next_death(&mut cursor, &host) {
                            return Some((event, cursor));
                        }
                        state.until_next_death(engine.now())
                    };
                    match pause {
                        Some(pause) => drop(tokio::time::timeout(pause, changed).await),
                        None => changed.await,
                    }
                }
            }
        };
        Ok(stream::unfold(cursor, next).boxed())
    }
}

#[async_trait]
impl Prober for FakeEngine {
    async fn probe(&self, address: SocketAddrV4, _: &Healthcheck) -> Result<String, String> {
        tokio::task::yield_now().await;
        let now = self.now();
        self.state().probe(*address.ip(), address.port(), now)
    }

    async fn is_anybody(&self, address: Ipv4Addr) -> bool {
        tokio::task::yield_now().await;
        self.state().is_anybody(address)
    }
}

#[cfg(test)]
mod tests;

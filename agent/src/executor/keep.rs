//! Keeps what stands in a place running, and knows how it is. The agent owns restarts: Docker's own
//! policies forget colours, and some of them bring back what was stopped on purpose.

use super::job::Tools;
use super::vacate::{end, start_or_remove, strays};
use crate::berth::Berth;
use crate::docker::{Condition, ContainerFacts, CreateRequest, EngineError, Labels};
use crate::health::{Change, Monitor, REFUSED};
use crate::release::{Container, Release};
use cutover::ids::{Colour, Generation};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Pause before a container that died is started again: the first restart is at once, so that a crash
/// costs as little as possible; one that keeps dying must not eat the host.
const RESTART_PAUSE_FIRST: Duration = Duration::from_millis(500);
const RESTART_PAUSE_LONGEST: Duration = Duration::from_secs(30);

/// A container that ran for so long has recovered: its next death is its first again.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Docker refuses or does not answer: pause before asking again, longer each time. A container that somebody removes is
/// in the way of the next for some 100 ms.
const DOCKER_PAUSE_FIRST: Duration = Duration::from_millis(100);
const DOCKER_PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// Never probe a running container faster than this, whatever the spec says.
const PROBE_PAUSE_SHORTEST: Duration = Duration::from_millis(250);

/// How a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not known yet, or booting.
    Starting,
    /// Answers its probes.
    Healthy,
    /// Runs, and does not answer as it should.
    Unhealthy(String),
    /// Does not run.
    Dead(String),
}

/// One place's keeper.
pub struct Keeper {
    /// What it works with.
    pub tools: Tools,
    /// What stands there.
    pub release: Release,
    /// For which generation.
    pub generation: Generation,
    /// Where.
    pub colour: Colour,
    /// At which addresses.
    pub berth: Berth,
    /// One for each container.
    pub addresses: Vec<Ipv4Addr>,
    /// Woken when Docker says that something died.
    pub wake: Arc<Notify>,
    /// How the place is when its keeper comes.
    pub known: Health,
}

impl Keeper {
    /// Keeps every container of the place, until dropped. Tells each change.
    pub async fn run(self, tell: impl Fn(Health) + Send + Sync) {
        let states = Mutex::new(vec![self.known.clone(); self.release.containers.len()]);
        let told = Mutex::new(self.known.clone());
        let each = self.release.containers.iter().enumerate().map(|(index, container)| {
            let (states, told, tell) = (&states, &told, &tell);
            self.keep(index, container, move |health| {
                let mut states = states.lock().expect("no panic while it was held");
                states[index] = health;
                let worst = worst(&states);
                let mut told = told.lock().expect("no panic while it was held");
                if *told != worst {
                    *told = worst.clone();
                    tell(worst);
                }
            })
        });
        futures_util::future::join_all(each).await;
    }

    async fn keep(&self, index: usize, container: &Container, tell: impl Fn(Health)) {
        let mut deaths_in_a_row = 0;
        let (mut docker_pause, mut said) = (DOCKER_PAUSE_FIRST, String::new());
        loop {
            let begun = tokio::time::Instant::now();
            match self.running(index, container).await {
                Ok(id) => {
                    (docker_pause, said) = (DOCKER_PAUSE_FIRST, String::new());
                    let is_known_well = deaths_in_a_row == 0 && self.known == Health::Healthy;
                    let death = self.watch(index, container, &id, is_known_well, &tell).await;
                    tell(Health::Dead(death));
                    deaths_in_a_row = if begun.elapsed() >= RECOVERED_AFTER { 1 } else { deaths_in_a_row + 1 };
                    tokio::time::sleep(restart_pause(deaths_in_a_row)).await;
                }
                Err(error) => {
                    let error = error.to_string();
                    if said != error {
                        tracing::warn!(service = %self.release.service, colour = %self.colour, container = %container.name, error, "cannot see to a container");
                        said.clone_from(&error);
                    }
                    // Docker's silence is no death: what answers its probe runs.
                    match self.tools.prober.probe(self.address(index, container), &container.healthcheck).await {
                        Ok(_) => tell(Health::Healthy),
                        Err(_) => tell(Health::Dead(error)),
                    }
                    tokio::time::sleep(docker_pause).await;
                    docker_pause = (docker_pause * 2).min(DOCKER_PAUSE_LONGEST);
                }
            }
        }
    }

    /// Makes sure that the container runs: finds it by its labels, starts it, or makes it anew.
    async fn running(&self, index: usize, container: &Container) -> Result<String, EngineError> {
        let mut found = self.find(container).await?;
        // Off its network nobody reaches it, and a start does not bring it back there.
        if let Some(facts) = found.take_if(|facts| !facts.is_at(self.addresses[index])) {
            tracing::warn!(service = %self.release.service, colour = %self.colour, container = %container.name, "making a container anew that is off its network");
            self.tools.engine.remove(&facts.id).await?;
        }
        if let Some(ContainerFacts { id, condition: Condition::Running, .. }) = found {
            return Ok(id);
        }
        self.vacate(index, container, found.as_ref()).await?;
        tracing::info!(service = %self.release.service, colour = %self.colour, container = %container.name, "starting a container that does not run");
        if let Some(facts) = found
            && start_or_remove(&self.tools, container, &facts.id).await?.is_some()
        {
            return Ok(facts.id);
        }
        let id = self.create(index, container).await?;
        self.tools.engine.start(&id).await?;
        Ok(id)
    }

    async fn create(&self, index: usize, container: &Container) -> Result<String, EngineError> {
        let labels = Labels {
            host: self.tools.host.clone(),
            service: self.release.service.clone(),
            container: container.name.clone(),
            colour: self.colour,
            berth: self.berth,
            generation: self.generation,
            release: self.release.digest,
        };
        let network = &self.tools.network;
        let request = CreateRequest { labels, container, network, address: self.addresses[index] };
        match self.tools.engine.create(&request).await {
            // Pruned by hand: the registry may still have it.
            Err(EngineError::ImageMissing { .. }) => {
                self.tools.engine.pull(&container.pin, &|_| {}).await?;
                self.tools.engine.create(&request).await
            }
            created => created,
        }
    }

    /// Its address is nobody's but its own. Whoever is there may serve, and then it is what served here, whether Docker
    /// says that it does not run or, after a prune, that there is no such container: nobody is served better by another.
    async fn vacate(
        &self,
        index: usize,
        container: &Container,
        found: Option<&ContainerFacts>,
    ) -> Result<(), EngineError> {
        let lost = strays(&self.tools, &[self.addresses[index]]).await?;
        if let [stray] = &lost[..]
            && found.is_none_or(|facts| facts.id == stray.id)
            && self.answers(index, container).await
        {
            return Err(EngineError::LostTrack { occupant: stray.clone() });
        }
        end(&self.tools, &lost).await
    }

    /// As bad as it must be for what serves to be called unhealthy, and not sooner; what nobody listens behind has
    /// never served.
    async fn answers(&self, index: usize, container: &Container) -> bool {
        let (check, address) = (&container.healthcheck, self.address(index, container));
        for _ in 0..check.retries.max(1) {
            match self.tools.prober.probe(address, check).await {
                Ok(_) => return true,
                Err(answer) if answer == REFUSED => return false,
                Err(_) => tokio::time::sleep(check.interval.max(PROBE_PAUSE_SHORTEST)).await,
            }
        }
        false
    }

    async fn find(&self, container: &Container) -> Result<Option<ContainerFacts>, EngineError> {
        let all = self.tools.engine.list(&self.tools.host).await?;
        Ok(all.into_iter().find(|facts| {
            facts.labels.service == self.release.service
                && facts.labels.berth == self.berth
                && facts.labels.container == container.name
                && facts.labels.release == self.release.digest
        }))
    }

    /// Probes until the container dies; answers how it died.
    async fn watch(
        &self,
        index: usize,
        container: &Container,
        id: &str,
        is_known_well: bool,
        tell: &impl Fn(Health),
    ) -> String {
        let check = &container.healthcheck;
        let address = self.address(index, container);
        let mut monitor = Monitor::new(check, is_known_well);
        loop {
            let answer = self.tools.prober.probe(address, check).await;
            if answer.is_err()
                && let Some(death) = self.death(index, id).await
            {
                return death;
            }
            match monitor.observe(answer.is_ok()) {
                Some(Change::BecameHealthy) => tell(Health::Healthy),
                Some(Change::BecameUnhealthy) => tell(Health::Unhealthy(answer.err().unwrap_or_default())),
                None => {}
            }
            let woken = tokio::time::timeout(check.interval.max(PROBE_PAUSE_SHORTEST), self.wake.notified()).await;
            if woken.is_ok()
                && let Some(death) = self.death(index, id).await
            {
                return death;
            }
        }
    }

    fn address(&self, index: usize, container: &Container) -> SocketAddrV4 {
        SocketAddrV4::new(self.addresses[index], container.healthcheck.port)
    }

    /// How it ended, if it has: what is off its network is as good as dead.
    async fn death(&self, index: usize, id: &str) -> Option<String> {
        match self.tools.engine.inspect(id).await {
            Ok(Some(facts)) if facts.condition == Condition::Running && !facts.is_at(self.addresses[index]) => {
                Some(format!("was taken off its network: it is not at {} any more", self.addresses[index]))
            }
            Ok(Some(ContainerFacts { condition: Condition::Running, .. })) | Err(_) => None,
            Ok(Some(ContainerFacts { condition: Condition::Exited { exit_code, out_of_memory }, .. })) => {
                let memory = if out_of_memory { " for memory" } else { "" };
                Some(format!("exited with code {exit_code}{memory}"))
            }
            Ok(Some(ContainerFacts { condition: Condition::Created, .. })) => Some("was never started".to_owned()),
            Ok(None) => Some("was removed".to_owned()),
        }
    }
}

fn restart_pause(deaths_in_a_row: u32) -> Duration {
    match deaths_in_a_row {
        0 | 1 => Duration::ZERO,
        more => RESTART_PAUSE_FIRST.saturating_mul(1 << (more - 2).min(16)).min(RESTART_PAUSE_LONGEST),
    }
}

fn worst(states: &[Health]) -> Health {
    let rank = |health: &Health| match health {
        Health::Healthy => 0,
        Health::Starting => 1,
        Health::Unhealthy(_) => 2,
        Health::Dead(_) => 3,
    };
    states.iter().max_by_key(|health| rank(health)).cloned().unwrap_or(Health::Starting)
}

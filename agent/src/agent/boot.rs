//! From nothing to serving: the journal, the switch, the served containers, nginx, and only then the link.

use super::layout::SWEEP_EVERY;
use super::ready::{Heard, Word, forget_earlier_boots};
use super::{Agent, Happening};
use crate::docker::EngineError;
use crate::executor::job::Turns;
use crate::executor::{Edge, Tools, vacate};
use crate::hand::{self, Answer, Asked, Exit, Request};
use crate::journal::{Journal, JournalError};
use crate::nginx::{Proxy, Readiness};
use crate::retired::Clocks;
use crate::session::{self, Versions};
use crate::state::{HostState, StateError, Written};
use crate::world::{Settings, World};
use cutover::Incarnation;
use cutover::ids::ServiceName;
use cutover::message::Slot;
use cutover::participant::Participant;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long nginx waits for the served containers after a reboot. Longer would keep a load balancer's
/// check waiting for a service that does not come.
const SERVED_WITHIN: Duration = Duration::from_secs(15);

/// People who may ask at once; the others wait at the socket.
const HANDS: usize = 8;

/// Pause before Docker's events are asked for again.
const EVENTS_AGAIN: Duration = Duration::from_secs(1);

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its content cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal is new, and the switch is not: guessing could serve what was never committed, so a person decides.
    #[error(
        "the journal {journal} is gone, and the switch serves {served}. The host goes on serving what nginx serves now. \
         Put the journal back if you have it; to start over as a new host, whose users are refused until it has caught \
         up, move the directory `switch` beside it away and restart the agent"
    )]
    JournalGone {
        /// Where it should be.
        journal: String,
        /// What the switch says.
        served: String,
    },
    /// The subnet was changed in the config while services stand in the old one.
    #[error(
        "the journal has addresses in {journal}, the config says subnet {config}: put the old one back, or remove this host's services first"
    )]
    Subnet {
        /// Of the journal.
        journal: String,
        /// Of the config.
        config: String,
    },
}

/// Runs the agent until `shutdown`. Containers and nginx go on without it. `restored` is called once, when
/// traffic is as it was before the agent stopped, with a controller or without one.
pub async fn run(
    settings: Settings,
    world: World,
    restored: impl FnOnce(),
    shutdown: CancellationToken,
) -> Result<(), BootError> {
    let (agent, happenings) = open(&settings, world).await?;
    restored();
    let asked = listen(settings.socket.clone(), agent.events.clone());
    let (link, mut from_link) = mpsc::channel(64);
    let linked = session::keep_linked(settings, agent.world.clone(), link, shutdown.clone());
    let events = agent.events.clone();
    let forwarded = async {
        while let Some(message) = from_link.recv().await {
            drop(events.send(Happening::Link(message)));
        }
    };
    let watched = watch_docker(agent.tools.clone(), agent.events.clone());
    let (stop, done) = (shutdown.clone(), shutdown);
    tokio::join!(agent.run(happenings, stop), async {
        tokio::select! {
            ((), ()) = async { tokio::join!(linked, forwarded) } => {}
            () = asked => {}
            () = watched => {}
            () = done.cancelled() => {}
        }
    });
    Ok(())
}

/// Does one thing that somebody on the host wants, without the agent that would run there otherwise, and stops.
/// What runs goes on; what does not run and should is started first.
pub async fn by_hand(settings: Settings, world: World, request: Request, uid: u32) -> Result<Answer, BootError> {
    let (agent, happenings) = open(&settings, world).await?;
    let (events, shutdown) = (agent.events.clone(), CancellationToken::new());
    let (answer, answered) = oneshot::channel();
    drop(events.send(Happening::Hand(Asked { request, uid, at: Instant::now(), answer })));
    let stop = shutdown.clone();
    let (_, answer) = tokio::join!(agent.run(happenings, shutdown), async move {
        let answer = answered.await;
        stop.cancel();
        answer
    });
    Ok(answer.unwrap_or_else(|_| Answer::refused("it was not looked at")))
}

/// What the journal says, where no agent runs: nothing is started or looked at.
pub async fn on_paper(settings: &Settings, world: &World) -> Result<Answer, BootError> {
    let (_, written) = Journal::open::<Written>(&*world.disk, &settings.journal).await?;
    let state = written.map(HostState::try_from).transpose()?;
    let text = state.map_or_else(|| "nothing was ever deployed here".to_owned(), |state| state.in_words());
    let text = format!("no agent runs on this host (systemctl start bgctl-agent); its journal says:\n{text}");
    Ok(Answer { exit: Exit::Unproven, text })
}

async fn open(settings: &Settings, world: World) -> Result<(Agent, mpsc::UnboundedReceiver<Happening>), BootError> {
    forget_earlier_boots(&*world.proxy, &settings.boot).await;
    let (mut agent, happenings) = Agent::open(settings, world).await?;
    agent.recall_readiness(&settings.boot).await;
    agent.restore().await;
    agent.prove_the_switch_made_before().await;
    Ok((agent, happenings))
}

/// Listens to people on the host. Never ends.
async fn listen(socket: Option<PathBuf>, events: mpsc::UnboundedSender<Happening>) {
    let listener = socket.as_deref().map(hand::listen).transpose();
    let listener = listener.unwrap_or_else(|error| {
        tracing::error!(%error, "`bgctl-agent switch` and `status` will not work on this host");
        None
    });
    let Some(listener) = listener else { return std::future::pending().await };
    let (sender, mut asked) = mpsc::channel(HANDS);
    let passed_on = async {
        while let Some(asked) = asked.recv().await {
            drop(events.send(Happening::Hand(asked)));
        }
    };
    tokio::join!(hand::serve(listener, sender), passed_on);
}

/// Passes on what Docker says, as long as there is someone to tell.
async fn watch_docker(tools: Tools, events: mpsc::UnboundedSender<Happening>) {
    loop {
        match tools.engine.events(&tools.host).await {
            Ok(mut stream) => {
                while let Some(event) = stream.next().await {
                    if events.send(Happening::Docker(event)).is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "no events from Docker"),
        }
        tokio::time::sleep(EVENTS_AGAIN).await;
    }
}

/// The services that a switch from before leads somewhere, if there are any.
async fn served_without_a_journal(proxy: &dyn Proxy) -> Option<String> {
    let flags = proxy.on_disk().await.ok().flatten()?;
    let served: Vec<_> =
        flags.services.iter().filter(|(_, flag)| flag.is_some()).map(|(name, _)| name.to_string()).collect();
    (!served.is_empty()).then(|| served.join(", "))
}

impl Agent {
    async fn open(settings: &Settings, world: World) -> Result<(Self, mpsc::UnboundedReceiver<Happening>), BootError> {
        let (journal, written) = Journal::open::<Written>(&*world.disk, &settings.journal).await?;
        let subnet = settings.network.subnet;
        let mut state = match written {
            Some(written) => HostState::try_from(written)?,
            None if let Some(served) = served_without_a_journal(&*world.proxy).await => {
                let journal = settings.journal.display().to_string();
                return Err(BootError::JournalGone { journal, served });
            }
            None => HostState::new(Incarnation(world.ambient.random()), subnet),
        };
        if state.addresses.subnet() != subnet {
            let (journal, config) = (state.addresses.subnet().to_string(), subnet.to_string());
            return Err(BootError::Subnet { journal, config });
        }
        let (events, happenings) = mpsc::unbounded_channel();
        let tools = Tools {
            host: settings.host.clone(),
            engine: Arc::clone(&world.engine),
            prober: Arc::clone(&world.prober),
            traffic: Arc::clone(&world.traffic),
            clocks: Clocks::new(Arc::clone(&world.ambient), &settings.boot),
            network: settings.network.name.clone(),
            turns: Turns::default(),
        };
        let served = served(&world, &state).await;
        let participant = Participant::recover(state.record.clone(), &served);
        state.forget_unpromised(&participant.needed_slots());
        let serving = state.record.served();
        let routes = super::layout::routes(&state, participant.switching().unwrap_or(&serving));
        let edge = Edge::new(Arc::clone(&world.proxy), routes.clone());
        let mut agent = Self {
            serving,
            led: routes,
            world,
            tools,
            network: settings.network.clone(),
            edge,
            participant,
            state,
            journal,
            releases: BTreeMap::new(),
            jobs: BTreeMap::new(),
            kept: BTreeMap::new(),
            outbox: None,
            controller: None,
            versions: Versions::default(),
            state_heard: Instant::now(),
            following: None,
            estrangement: String::new(),
            is_memory_news: false,
            machine: settings.machine.clone(),
            last_switch: None,
            log_tails: BTreeMap::new(),
            docker_trouble: String::new(),
            docker_warnings: Vec::new(),
            docker_settings_from: Instant::now(),
            nginx_trouble: String::new(),
            edge_trouble: None,
            has_switch_failed: false,
            tried_again_for: String::new(),
            word: Word::none(false),
            heard: Heard::default(),
            told_ready: Readiness::default(),
            is_readiness_told: false,
            readiness_trouble: String::new(),
            moving: None,
            waiting: Vec::new(),
            journal_trouble: String::new(),
            alarms: Vec::new(),
            told_health: None,
            is_looking: false,
            look_from: Instant::now(),
            sweep_from: Instant::now() + SWEEP_EVERY,
            asked: BTreeMap::new(),
            events,
        };
        // A first write proves that the journal can be written before anything is promised. It also
        // fixes the incarnation.
        agent.persist().await;
        if let Err(error) = agent.world.engine.ensure_network(&agent.network).await {
            tracing::error!(%error, "Docker's network is not there; containers cannot be started until it is");
            agent.docker_trouble = error.to_string();
        }
        agent.versions = agent.find_versions().await;
        Ok((agent, happenings))
    }

    async fn find_versions(&self) -> Versions {
        let docker = self.world.engine.version().await.unwrap_or_else(|error: EngineError| error.to_string());
        let nginx = self.world.proxy.version().await.unwrap_or_else(|error| error.to_string());
        Versions { docker, nginx }
    }

    /// Before the link: traffic must be as it was.
    async fn restore(&mut self) {
        let releases = self.state.standing().map(|(_, standing)| standing.release.clone()).collect();
        self.learn(releases);
        self.keep_places();
        self.wait_for_served().await;
        self.edge.want(self.shape());
        if let Err(error) = self.edge.recover().await {
            tracing::error!(%error, "nginx could not be brought to what it should serve");
            self.nginx_trouble = error.to_string();
        }
        for (place, standing) in std::mem::take(&mut self.state.leaving) {
            self.clear_away(&place, standing);
        }
    }

    /// Waits until what is served runs, or has been tried.
    async fn wait_for_served(&mut self) {
        let served = self.participant.switching().cloned().unwrap_or_else(|| self.state.record.served());
        let mooring = |(name, slot): (ServiceName, Slot)| Some((name.clone(), self.state.berth(&name, &slot)?));
        let served: Vec<crate::state::Mooring> = served.into_iter().filter_map(mooring).collect();
        let deadline = Instant::now() + SERVED_WITHIN;
        while Instant::now() < deadline {
            let all = self.world.engine.list(&self.tools.host).await.unwrap_or_default();
            let runs = |mooring: &&crate::state::Mooring| {
                all.iter().any(|facts| {
                    (&facts.labels.service, facts.labels.berth) == (&mooring.0, mooring.1)
                        && facts.condition == crate::docker::Condition::Running
                })
            };
            let others = served.iter().filter(|mooring| !runs(mooring));
            // Docker may have lost track of what serves.
            let answer = futures_util::future::join_all(others.map(|mooring| self.answers(mooring))).await;
            if answer.iter().all(|answers| *answers) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tracing::warn!("some served containers do not run yet; nginx starts all the same");
    }

    /// Nobody knocks where nobody is: see [`vacate::strays`].
    async fn answers(&self, mooring: &crate::state::Mooring) -> bool {
        let Some((_, standing)) = self.state.moored(mooring) else { return false };
        let Some(addresses) = self.known_addresses(standing) else { return false };
        let strays = vacate::strays(&self.tools, &addresses).await.unwrap_or_default();
        let each = standing.release.containers.iter().zip(&addresses).map(|(container, address)| async {
            let check = &container.healthcheck;
            let is_there = strays.iter().any(|stray| stray.address == *address);
            is_there && self.tools.prober.probe(SocketAddrV4::new(*address, check.port), check).await.is_ok()
        });
        futures_util::future::join_all(each).await.into_iter().all(|answers| answers)
    }

    /// A switch on disk that the journal does not know of stands, and is applied once nginx was seen following: it
    /// may have been stuck when the agent died.
    async fn prove_the_switch_made_before(&mut self) {
        if self.participant.switching().is_none() {
            return;
        }
        tracing::info!("a switch was made just before the last stop; it stands");
        let outcome = self.edge.switch(self.led.clone()).await;
        self.switched(outcome).await;
    }
}

/// What the switch on disk serves: the flag says where and since when, the journal what stands there.
async fn served(world: &World, state: &HostState) -> BTreeMap<ServiceName, Slot> {
    match world.proxy.on_disk().await {
        Ok(Some(flags)) => {
            let services = flags.services.into_iter();
            services.filter_map(|(name, flag)| Some((name.clone(), state.slot_behind(&name, flag?)?))).collect()
        }
        Ok(None) => BTreeMap::new(),
        Err(error) => {
            tracing::error!(%error, "the switch on disk cannot be read; it is restored from the journal");
            BTreeMap::new()
        }
    }
}

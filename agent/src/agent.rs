//! The host's one loop: everything that can happen comes in as one event, the protocol decides, and what
//! it decided is carried out in order.

mod boot;
mod allegiance;
mod effects;
mod hand;
mod health;
mod layout;
mod ready;

use hand::Moving;
use ready::{Heard, Word};

pub use boot::{BootError, by_hand, on_paper, run};

use crate::docker::{ContainerFacts, Engine, EngineError, EngineEvent, Network};
use crate::executor::edge::Routes;
use crate::executor::job::Step;
use crate::executor::keep::Health;
use crate::executor::{Edge, Failure, Tools, images};
use crate::hand::Asked;
use crate::journal::Journal;
use crate::nginx::{ProxyError, Readiness, SwitchTimes};
use crate::release::Release;
use crate::session::{FromLink, Outbox, Told, Versions};
use crate::state::{HostState, Mooring, Place, Standing};
use crate::world::World;
use bgctl_proto::crashpoint;
use bgctl_proto::session as wire;
use cutover::history::Chronicle;
use cutover::ids::{ReleaseDigest, ServiceName};
use cutover::message::Slot;
use cutover::participant::{Event, Participant, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the agent looks at nginx, at its own places, and tells what changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause after a look at nginx that found trouble nothing could be done about: each try may run `nginx -t`,
/// and the log says it each time.
const LOOK_AGAIN_AFTER_TROUBLE: Duration = Duration::from_secs(5);

/// Pause before leftovers are looked for again that could not be: a Docker that is started again takes a second or two.
const SWEEP_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How often Docker is asked how it is set: it counts all its containers and images for the answer.
const DOCKER_SETTINGS_EVERY: Duration = Duration::from_secs(60);

/// Said while a restart of Docker would end what serves.
const ENDS_WITH_DOCKER: &str = "Docker has live-restore off: its restart ends every container, and users are lost until \
                                they run again; put \"live-restore\": true into /etc/docker/daemon.json and run \
                                `systemctl reload docker`";

/// Everything that can wake the loop.
enum Happening {
    Link(FromLink),
    /// A job is this far.
    Step(Work, Step),
    /// A job ended.
    JobEnded(Work, Result<(), Failure>),
    /// nginx was switched, or was not.
    Switched(Result<SwitchTimes, ProxyError>),
    /// What a keeper says of the release it keeps there.
    Kept(Mooring, ReleaseDigest, Health),
    /// What Docker says unasked.
    Docker(EngineEvent),
    /// The look at nginx is done: what is wrong, and whether it serves what it should all the same.
    Edge(Result<(), ProxyError>, Result<(), ProxyError>),
    /// Somebody on the host wants something.
    Hand(Asked),
    /// Docker was asked whether it is there.
    DockerIs(Result<DockerIs, String>),
    /// What stood there is gone.
    Left(Standing),
    /// All containers of this host.
    Listed(Vec<ContainerFacts>),
    /// Something could not be cleared away, or looked for: Docker did not answer.
    NotCleared,
    RetryNow,
    Look,
}

/// A Docker that answers.
struct DockerIs {
    version: String,
    /// What a person should know of how it is set. None: it was not asked this time.
    warnings: Option<Vec<String>>,
}

/// What is known of a berth beyond what stands there.
struct Kept {
    task: AbortHandle,
    wake: Arc<Notify>,
    health: Health,
}

/// A job that runs, or has made something ready that is not promised yet.
struct RunningJob {
    task: AbortHandle,
    asked: Instant,
    places: BTreeSet<Place>,
    has_ended: bool,
    /// It ended well: what it made has just been seen healthy.
    is_ready: bool,
}

/// The host.
struct Agent {
    world: World,
    tools: Tools,
    network: Network,
    edge: Edge,
    participant: Participant,
    /// What nginx was last proven to serve.
    serving: BTreeMap<ServiceName, Slot>,
    /// Where the newest switch leads, proven or not.
    led: Routes,
    state: HostState,
    journal: Journal,
    /// What the digests in messages stand for.
    releases: BTreeMap<ReleaseDigest, Release>,
    jobs: BTreeMap<Work, RunningJob>,
    kept: BTreeMap<Mooring, Kept>,
    outbox: Option<Outbox>,
    /// Whose stream that is.
    controller: Option<String>,
    versions: Versions,
    state_heard: Instant,
    /// The store whose controller this host obeys, while it is linked to one.
    following: Option<Chronicle>,
    /// Why it obeys none; empty: it does, or there is none.
    estrangement: String,
    /// Something was heard that is not in the journal yet.
    is_memory_news: bool,
    machine: String,
    last_switch: Option<(Instant, SwitchTimes)>,
    log_tails: BTreeMap<Work, Vec<String>>,
    docker_trouble: String,
    docker_warnings: Vec<String>,
    /// Docker is not asked how it is set before.
    docker_settings_from: Instant,
    nginx_trouble: String,
    /// Why nginx does not serve what it should.
    edge_trouble: Option<String>,
    /// The switch that is wanted was tried in vain, and is tried again.
    has_switch_failed: bool,
    /// Why something is tried again, as it was said last.
    tried_again_for: String,
    /// What is known of the store and its leader, and what load balancers were told of it.
    word: Word,
    heard: Heard,
    told_ready: Readiness,
    is_readiness_told: bool,
    /// Why load balancers still hear what was told before; empty: they do not.
    readiness_trouble: String,
    /// What somebody on the host wants: under way, and not yet begun.
    moving: Option<Moving>,
    waiting: Vec<Asked>,
    journal_trouble: String,
    alarms: Vec<String>,
    told_health: Option<wire::Health>,
    is_looking: bool,
    /// Not before.
    look_from: Instant,
    /// Leftovers are not looked for before.
    sweep_from: Instant,
    /// Rollback prepares skip gates: remembered from the message to the job.
    asked: BTreeMap<Work, (Instant, bool)>,
    events: mpsc::UnboundedSender<Happening>,
}

impl Agent {
    async fn run(mut self, mut happenings: mpsc::UnboundedReceiver<Happening>, shutdown: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let happening = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(happening) = happenings.recv() => happening,
                _ = look.tick() => Happening::Look,
            };
            self.take(happening).await;
            self.tell_readiness().await;
        }
        tracing::info!("the agent stops; containers and nginx go on");
    }

    async fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Link(FromLink::Up { address, outbox }) => {
                tracing::info!(controller = %address, "linked");
                self.outbox = Some(outbox);
                self.following = None;
                self.controller = Some(address);
                self.told_health = None;
                self.step(Event::LinkUp).await;
                self.tell_health();
            }
            Happening::Link(FromLink::Told(told)) => self.told(told).await,
            Happening::Link(FromLink::Down(reason)) => {
                self.controller = None;
                self.link_went_down();
                if self.outbox.take().is_some() {
                    tracing::warn!(%reason, "the link is down; serving what is applied");
                } else {
                    tracing::debug!(%reason, "no link yet");
                }
            }
            Happening::Step(work, step) => self.tell_progress(&work, &step),
            Happening::JobEnded(work, outcome) => self.job_ended(work, outcome).await,
            Happening::Switched(outcome) => self.switched(outcome).await,
            Happening::Kept(mooring, release, health) => self.kept_is(mooring, release, health).await,
            Happening::Docker(EngineEvent::Died { labels, exit_code, .. }) => {
                tracing::debug!(service = %labels.service, colour = %labels.colour, exit_code, "a container died");
                if let Some(kept) = self.kept.get(&(labels.service, labels.berth)) {
                    kept.wake.notify_waiters();
                }
            }
            Happening::Edge(outcome, serves) => {
                self.is_looking = false;
                self.edge_trouble = serves.err().map(|error| error.to_string());
                if outcome.is_err() {
                    self.look_from = Instant::now() + LOOK_AGAIN_AFTER_TROUBLE;
                }
                self.nginx_trouble = outcome.err().map(|error| error.to_string()).unwrap_or_default();
                self.tell_health();
            }
            Happening::DockerIs(Ok(DockerIs { version, warnings })) => {
                self.versions.docker = version;
                if let Some(warnings) = warnings {
                    self.docker_settings_from = Instant::now() + DOCKER_SETTINGS_EVERY;
                    self.docker_warnings = warnings;
                }
                self.docker_trouble.clear();
                self.tell_health();
            }
            Happening::DockerIs(Err(trouble)) => {
                // The one that comes back may be set differently.
                self.docker_settings_from = Instant::now();
                self.docker_trouble = trouble;
                self.tell_health();
            }
            Happening::Left(gone) => self.left(&gone),
            Happening::Listed(there) => self.sweep(there),
            Happening::NotCleared => self.sweep_from = self.sweep_from.min(Instant::now() + SWEEP_AGAIN_AFTER),
            Happening::Hand(asked) => self.asked(asked).await,
            Happening::RetryNow => self.step(Event::RetryNow).await,
            Happening::Look => self.look().await,
        }
    }

    async fn told(&mut self, told: Told) {
        match told {
            Told::Chronicle(chronicle) => self.hear_chronicle(chronicle).await,
            Told::Prepare { .. } | Told::State { .. } if !self.obeys() => {}
            Told::Prepare { message, releases, is_rollback, at } => {
                tracing::info!(deployment = %message.deployment, generation = %message.generation, "asked to prepare");
                self.remember(message.revision);
                self.learn(releases);
                self.asked.insert(Work::Deployment(message.deployment.clone()), (at, is_rollback));
                self.step(Event::Prepare(message)).await;
            }
            Told::State { message, releases, at } => {
                self.remember(message.revision);
                self.learn(releases);
                self.state_heard = at;
                self.step(Event::State(message)).await;
                self.word_came();
            }
            Told::FindImages(request) => {
                let Some(outbox) = self.outbox.clone() else { return };
                let engine = Arc::clone(&self.world.engine);
                tokio::spawn(async move { outbox.images(images::find(&*engine, request).await) });
            }
        }
    }

    fn learn(&mut self, releases: Vec<Release>) {
        self.releases.extend(releases.into_iter().map(|release| (release.digest, release)));
    }

    async fn job_ended(&mut self, work: Work, outcome: Result<(), Failure>) {
        let Some(job) = self.jobs.get_mut(&work) else { return };
        job.has_ended = true;
        job.is_ready = outcome.is_ok();
        // Kept before the vote: from the promise on, a death must be noticed.
        self.keep_places();
        match outcome {
            Ok(()) => {
                tracing::info!(?work, "ready");
                self.step(Event::Ready(work)).await;
            }
            Err(Failure { reason, log_tail }) => {
                tracing::warn!(?work, %reason, "not ready");
                self.undo(&work, &BTreeMap::new());
                self.log_tails.insert(work.clone(), log_tail);
                self.step(Event::NotReady(work, reason)).await;
            }
        }
    }

    async fn switched(&mut self, outcome: Result<SwitchTimes, ProxyError>) {
        match outcome {
            Ok(times) => {
                self.last_switch = times.renamed_at.map(|_| (self.state_heard, times));
                crashpoint!("before_retire_mark");
                self.retire_and_promote();
                crashpoint!("after_retire_mark");
                self.has_switch_failed = false;
                self.edge_trouble = None;
                self.step(Event::Switched).await;
                self.keep_places();
                self.answer_by_hand(Ok(()));
            }
            Err(error) => {
                let trouble = error.to_string();
                if self.tried_again_for != trouble {
                    tracing::error!(%error, "the switch is not proven");
                }
                self.nginx_trouble.clone_from(&trouble);
                self.has_switch_failed = true;
                self.step(Event::SwitchFailed(trouble.clone())).await;
                self.answer_by_hand(Err(&trouble));
            }
        }
        self.tell_health();
    }

    async fn kept_is(&mut self, mooring: Mooring, release: ReleaseDigest, health: Health) {
        let moored = self.state.moored(&mooring).filter(|(_, standing)| standing.release.digest == release);
        let Some((place, standing)) = moored else { return };
        // What was displaced is no longer what the place stands for.
        let speaks_for = self.state.places.get(place).is_some_and(|current| current.berth == standing.berth);
        let (service, colour) = place.clone();
        let Some(kept) = self.kept.get_mut(&mooring) else { return };
        kept.health = health.clone();
        if let Health::Dead(reason) | Health::Unhealthy(reason) = &health {
            tracing::warn!(%service, %colour, %reason, "not well");
        }
        self.tell_health();
        self.ask_again().await;
        if let Health::Dead(reason) | Health::Unhealthy(reason) = health
            && speaks_for
        {
            self.step(Event::SlotDied(service, colour, reason)).await;
        }
    }

    /// Once a second: are nginx and Docker there as they should be; what has had its time; what is new.
    async fn look(&mut self) {
        self.keep_memory().await;
        self.retire_cold_places().await;
        self.look_for_leftovers();
        self.forget_releases();
        self.keep_places();
        self.edge.want(self.shape());
        self.ask_again().await;
        // Somebody may have taken it away.
        self.is_readiness_told = false;
        if !self.is_looking && Instant::now() >= self.look_from {
            self.is_looking = true;
            let (edge, events) = (self.edge.clone(), self.events.clone());
            let (engine, network) = (Arc::clone(&self.world.engine), self.network.clone());
            let asks_settings = Instant::now() >= self.docker_settings_from;
            tokio::spawn(async move {
                let outcome = edge.look_after().await;
                let serves = if outcome.is_ok() { Ok(()) } else { edge.serves_what_it_should().await };
                // The network too: it was not made if Docker came after the agent, and a prune takes it away.
                let docker = match engine.ensure_network(&network).await {
                    Ok(()) => docker_is(&*engine, &network, asks_settings).await,
                    Err(error) => Err(error),
                };
                drop(events.send(Happening::DockerIs(docker.map_err(|error| error.to_string()))));
                drop(events.send(Happening::Edge(outcome, serves)));
            });
        }
        self.tell_health();
    }
}

async fn docker_is(engine: &dyn Engine, network: &Network, asks_settings: bool) -> Result<DockerIs, EngineError> {
    let version = engine.version().await?;
    let warnings = if asks_settings { Some(docker_warnings(engine, network).await?) } else { None };
    Ok(DockerIs { version, warnings })
}

async fn docker_warnings(engine: &dyn Engine, network: &Network) -> Result<Vec<String>, EngineError> {
    let ends = (!engine.spares_containers().await?).then(|| ENDS_WITH_DOCKER.to_owned());
    // Asked of nobody in particular: whether there is anything to see.
    let blind = engine.occupants(&network.name, &[]).await.err().map(|error| error.to_string());
    Ok(ends.into_iter().chain(blind).collect())
}

#[cfg(test)]
mod tests;

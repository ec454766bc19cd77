//! The host's side: make ready, promise, and follow what the store says.
//!
//! The promise becomes speech only in answer to [`Event::Stored`]; an acknowledgement only after
//! [`Event::Switched`] was stored. There is no clock here: a promise never times out.

mod promise;
mod durable;
mod follow;
mod hand;

use crate::ids::{Colour, DeploymentId, Epoch, Generation, Incarnation, Revision, ServiceName};
use crate::message::{Applied, Hello, Lost, Prepare, Slot, State, Verdict, Vote};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why nothing is promised while a record waits to be written.
const UNWRITTEN: &str = "the journal of this host cannot be written just now";

/// What a host must not forget, whatever dies: written whole, before the message that depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// This life of the host's state.
    pub incarnation: Incarnation,
    /// The newest leader heard of. Quiets stale leaders; safety does not rest on it.
    pub max_epoch: Epoch,
    /// What was committed and takes traffic, or would if nothing were held.
    pub applied: BTreeMap<ServiceName, Slot>,
    /// What was promised and is not known to be decided.
    pub prepared: BTreeMap<DeploymentId, Prepared>,
    /// What takes traffic in the place of what is applied, because somebody on the host said so. It was
    /// committed once. It ends with the next generation, or by hand.
    pub held: BTreeMap<ServiceName, Slot>,
}

/// A promise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prepared {
    /// The deployment's generation.
    pub generation: Generation,
    /// The store revision the leader had read when it asked: older news cannot revoke the promise.
    pub revision: Revision,
    /// What stands ready, and where.
    pub services: BTreeMap<ServiceName, Slot>,
}

impl Record {
    /// A host that has never served anything.
    pub fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            max_epoch: Epoch(0),
            applied: BTreeMap::new(),
            prepared: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Promises of what is served by now, or of less.
    fn forget_kept_promises(&mut self) {
        let Self { applied, prepared, .. } = self;
        prepared.retain(|_, prepared| !is_at(applied, &prepared.services, prepared.generation));
    }

    /// What takes traffic: what is applied, and over it what is held.
    pub fn served(&self) -> BTreeMap<ServiceName, Slot> {
        served(&self.applied, &self.held)
    }
}

/// Whether all of these services are at that generation or past it.
fn is_at(
    applied: &BTreeMap<ServiceName, Slot>,
    services: &BTreeMap<ServiceName, Slot>,
    generation: Generation,
) -> bool {
    services.keys().all(|name| applied.get(name).is_some_and(|slot| slot.generation >= generation))
}

fn served(applied: &BTreeMap<ServiceName, Slot>, held: &BTreeMap<ServiceName, Slot>) -> BTreeMap<ServiceName, Slot> {
    applied.iter().chain(held).map(|(name, slot)| (name.clone(), *slot)).collect()
}

/// Why something is being made ready.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// To vote on a deployment.
    Deployment(DeploymentId),
    /// To reach what was committed without this host, or what it lost since its promise.
    CatchUp(Generation),
}

/// Everything that can happen to a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// A stream to a leader is up.
    LinkUp,
    /// The leader asks.
    Prepare(Prepare),
    /// The leader tells what the store says.
    State(State),
    /// The work is done: everything runs, is healthy, and nothing is left that could fail at the switch.
    Ready(Work),
    /// The work failed; nothing of it is left running.
    NotReady(Work, String),
    /// The record last handed out is on disk.
    Stored,
    /// The record could not be written.
    StoreFailed(String),
    /// nginx was seen serving the slots last handed out.
    Switched,
    /// It was not, for this reason.
    SwitchFailed(String),
    /// A slot that is ready or promised died and does not come back by itself.
    SlotDied(ServiceName, Colour, String),
    /// The time asked for by [`Effect::RetryLater`] is over.
    RetryNow,
    /// Somebody on the host wants its traffic there. It was applied here once, runs and is healthy.
    Hold(ServiceName, Slot),
    /// Somebody on the host wants the service to serve what is applied again.
    Resume(ServiceName),
}

/// What the shell has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start and check these, beside what is served. Answer with `Ready` or `NotReady`.
    MakeReady {
        /// To be named in the answer.
        work: Work,
        /// What, and where.
        services: BTreeMap<ServiceName, Slot>,
    },
    /// Stop this work if it still goes on, or discard what it made. No answer is wanted.
    Discard {
        /// The work.
        work: Work,
        /// What it was making, or had made.
        services: BTreeMap<ServiceName, Slot>,
    },
    /// Write the record to disk, durably, and with it what stands in which place. Answer with `Stored` or
    /// `StoreFailed`. The same record comes again before a switch to what was caught up: its place is news.
    Store(Record),
    /// Say hello.
    SendHello(Hello),
    /// Answer a `Prepare`.
    SendVote(Vote),
    /// Take back a promise.
    SendLost(Lost),
    /// Acknowledge.
    SendApplied(Applied),
    /// Move the host's traffic to these slots in one act. Answer with `Switched` or `SwitchFailed`.
    Switch {
        /// Every service of the host, also those that do not change.
        services: BTreeMap<ServiceName, Slot>,
    },
    /// Answer with `RetryNow` after a while.
    RetryLater {
        /// What failed, for the log.
        reason: String,
    },
    /// The same generation names two contents: never follow, tell a person.
    Alarm(String),
    /// What was asked by hand is not done, and nothing changed.
    Refuse {
        /// What it was asked for.
        service: ServiceName,
        /// For who asked.
        reason: String,
    },
}

/// What is being made ready, or is ready and not promised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Making {
    generation: Generation,
    revision: Revision,
    services: BTreeMap<ServiceName, Slot>,
    ready: bool,
    /// A record was written since it was ready, and with it what stands where.
    written: bool,
}

/// What the answer to the record being written will allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Then {
    Vote(DeploymentId),
    Acknowledge,
    /// What was said by hand of this service is written down and may be done.
    MoveByHand(ServiceName),
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Writing {
    record: Record,
    then: Then,
}

/// A switch that was begun and is not proven. Until it is, nobody knows which place takes the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Switching {
    services: BTreeMap<ServiceName, Slot>,
    /// Those of them that change.
    moving: BTreeSet<ServiceName>,
    /// What took traffic before.
    before: BTreeMap<ServiceName, Slot>,
    /// What is applied once it is proven.
    applied: BTreeMap<ServiceName, Slot>,
    /// What is held then.
    held: BTreeMap<ServiceName, Slot>,
    /// Tried again after the next `RetryNow`.
    has_failed: bool,
}

impl Switching {
    /// What the switch on disk says beyond the record.
    fn made_before(record: &Record, news: BTreeMap<ServiceName, Slot>) -> Self {
        let Record { mut applied, mut held, .. } = record.clone();
        held.retain(|name, _| !news.contains_key(name));
        let moving = news.keys().cloned().collect();
        applied.extend(news);
        let services = served(&applied, &held);
        Self { services, moving, before: record.served(), applied, held, has_failed: false }
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Participant {
    record: Record,
    making: BTreeMap<Work, Making>,
    /// Promised or ready slots that died since.
    dead: BTreeSet<(ServiceName, Colour)>,
    state: Option<State>,
    switching: Option<Switching>,
    /// Where a switch that is not tried again, because something died, may have led: no other leads back from there.
    given_up: BTreeMap<ServiceName, Generation>,
    writing: Option<Writing>,
    /// An acknowledgement or release that could not be written and will be tried again.
    unwritten: Option<Writing>,
    /// Generations whose making ready failed: tried again after the next `RetryNow`, not before.
    resting: BTreeSet<Generation>,
    /// What came while a record was being written.
    later: VecDeque<Event>,
}

impl Participant {
    /// A host as its record left it. `served` is what the switch on disk says takes traffic, with what stands
    /// there: a switch that had been made before the crash stands, because only a commit can have made it. It is
    /// applied once nginx was seen following: until the shell answers with [`Event::Switched`] or
    /// [`Event::SwitchFailed`], as to an [`Effect::Switch`], the host is [`switching`](Self::switching).
    pub fn recover(record: Record, served: &BTreeMap<ServiceName, Slot>) -> Self {
        let is_news = |(name, slot): &(&ServiceName, &Slot)| {
            record.applied.get(*name).is_none_or(|applied| applied.generation < slot.generation)
        };
        let news: BTreeMap<_, _> = served.iter().filter(is_news).map(|(name, slot)| (name.clone(), *slot)).collect();
        let switching = (!news.is_empty()).then(|| Switching::made_before(&record, news));
        Self {
            record,
            making: BTreeMap::new(),
            dead: BTreeSet::new(),
            state: None,
            switching,
            given_up: BTreeMap::new(),
            writing: None,
            unwritten: None,
            resting: BTreeSet::new(),
            later: VecDeque::new(),
        }
    }

    /// What is on disk.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The newest news from a leader.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The slots traffic is being moved to, until the switch is proven.
    pub fn switching(&self) -> Option<&BTreeMap<ServiceName, Slot>> {
        self.switching.as_ref().map(|switching| &switching.services)
    }

    /// Every slot that must be kept running: applied, held, promised, or being made ready. What takes traffic
    /// and is not yet written down so is applied.
    pub fn needed(&self) -> BTreeSet<(ServiceName, Colour)> {
        self.needed_slots().into_iter().map(|(name, slot)| (name, slot.colour)).collect()
    }

    /// The same, with what stands there. Two of one service may share a colour: what is held, and what was
    /// promised in its place.
    pub fn needed_slots(&self) -> BTreeSet<(ServiceName, Slot)> {
        let applied = self.record.applied.iter().chain(&self.record.held);
        let prepared = self.record.prepared.values().flat_map(|prepared| &prepared.services);
        let making = self.making.values().flat_map(|making| &making.services);
        let switching = self.switching.iter().flat_map(|switching| switching.services.iter().chain(&switching.before));
        let written = self.writing.iter().chain(&self.unwritten).map(|writing| &writing.record);
        let switched = written.flat_map(|record| record.applied.iter().chain(&record.held));
        let all = applied.chain(prepared).chain(making).chain(switching).chain(switched);
        all.map(|(name, slot)| (name.clone(), *slot)).collect()
    }

    /// Takes one event, returns what must be done about it.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut next = Some(event);
        while let Some(event) = next {
            let answers_write = matches!(event, Event::Stored | Event::StoreFailed(_));
            if self.writing.is_some() && !answers_write {
                self.later.push_back(event);
                break;
            }
            effects.extend(self.take(event));
            next = if self.writing.is_none() { self.later.pop_front() } else { None };
        }
        effects
    }

    fn take(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::LinkUp => vec![Effect::SendHello(self.hello())],
            Event::Prepare(prepare) => self.prepare(prepare),
            Event::State(state) => self.heard(state),
            Event::Ready(work) => self.ready(work),
            Event::NotReady(work, reason) => self.not_ready(work, reason),
            Event::Stored => self.stored(),
            Event::StoreFailed(reason) => self.store_failed(reason),
            Event::Switched => self.switched(),
            Event::SwitchFailed(reason) => self.switch_failed(reason),
            Event::SlotDied(service, colour, reason) => self.slot_died(service, colour, reason),
            Event::RetryNow => self.retry(),
            Event::Hold(service, slot) => self.hold(service, slot),
            Event::Resume(service) => self.resume(service),
        }
    }

    fn hello(&self) -> Hello {
        let prepared =
            self.record.prepared.iter().map(|(deployment, prepared)| (deployment.clone(), prepared.generation));
        Hello {
            incarnation: self.record.incarnation,
            applied: self.record.applied.clone(),
            prepared: prepared.collect(),
        }
    }

    fn vote(&self, deployment: DeploymentId, verdict: Verdict) -> Effect {
        Effect::SendVote(Vote { deployment, incarnation: self.record.incarnation, verdict })
    }
}

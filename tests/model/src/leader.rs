//! A leader: obeys its coordinators, remembers what it has read of the store, and may be deposed without knowing.

use crate::names;
use crate::network::{Decision, Packet, Write};
use crate::sabotage::Sabotage;
use crate::store::{Answered, Opening, Store};
use cutover::coordinator::{Answer, Coordinator, Effect, Event, Opened, Phase};
use cutover::ids::{DeploymentId, Epoch, Generation, HostId, Incarnation, Revision, ServiceName};
use cutover::message::{Committed, Participants, Prepare, ServiceState, State};
use std::collections::{BTreeMap, VecDeque};

/// The memory of a controller that was elected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Its election.
    pub epoch: Epoch,
    /// Of the store, as of its last answer.
    pub truth: Truth,
    /// What it drives.
    pub running: BTreeMap<DeploymentId, Coordinator>,
    /// What it waits for the store's word on.
    pub asked: BTreeMap<DeploymentId, Write>,
}

/// What a leader knows of the store: always as of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Truth {
    revision: Revision,
    /// The hosts, in their lives.
    pub members: Participants,
    members_revision: Revision,
    /// What stands committed.
    pub committed: BTreeMap<ServiceName, Committed>,
    pending: BTreeMap<ServiceName, (DeploymentId, Generation)>,
}

impl Truth {
    fn of(store: &Store) -> Self {
        Self {
            revision: store.revision,
            members: store.members.clone(),
            members_revision: store.members_revision,
            committed: store.committed.clone(),
            pending: store.pending.clone(),
        }
    }

    /// Whether nothing is open for any of these.
    pub fn is_free<'a>(&self, mut services: impl Iterator<Item = &'a ServiceName>) -> bool {
        services.all(|name| !self.pending.contains_key(name))
    }

    /// What hosts are told.
    fn state(&self, epoch: Epoch) -> State {
        let names = self.committed.keys().chain(self.pending.keys());
        let services = names.map(|name| {
            let pending = self.pending.get(name).map(|(deployment, _)| deployment.clone());
            (name.clone(), ServiceState { committed: self.committed.get(name).copied(), pending })
        });
        State { epoch, revision: self.revision, services: services.collect() }
    }
}

/// What came of something that happened to a leader.
#[derive(Debug, Default)]
pub struct Heard {
    /// None: it stood down.
    pub leader: Option<Leader>,
    /// What left it.
    pub sent: Vec<Packet>,
    /// It says that every participant serves these.
    pub all_applied: Vec<Opened>,
}

impl Leader {
    /// Elected: reads everything, drives what is open.
    pub fn elected(store: &Store, sabotage: Option<Sabotage>) -> Heard {
        let truth = Truth::of(store);
        let open: BTreeMap<_, _> = truth.pending.values().cloned().collect();
        let leader = Self { epoch: store.epoch, truth, running: BTreeMap::new(), asked: BTreeMap::new() };
        let mut turn = Turn::new(leader, sabotage);
        turn.tell();
        for deployment in open.keys() {
            turn.drive(deployment, &store.opened[deployment]);
        }
        turn.over()
    }

    /// Its deployment was opened.
    pub fn opened(&self, store: &Store, deployment: &DeploymentId, sabotage: Option<Sabotage>) -> Heard {
        let mut turn = Turn::new(Self { truth: Truth::of(store), ..self.clone() }, sabotage);
        turn.tell();
        turn.drive(deployment, &store.opened[deployment]);
        turn.over()
    }

    /// A host's stream is up, in a life that is registered now.
    pub fn registered(&self, store: &Store, host: &HostId, life: Incarnation, sabotage: Option<Sabotage>) -> Heard {
        let mut leader = self.clone();
        leader.truth.revision = store.revision;
        leader.truth.members_revision = store.revision;
        leader.truth.members.insert(host.clone(), life);
        let mut turn = Turn::new(leader, sabotage);
        turn.tell();
        for deployment in self.running.keys() {
            turn.take(deployment, Event::Connected { host: host.clone(), incarnation: life });
        }
        turn.over()
    }

    /// A message from a host arrives. None: it changes nothing.
    pub fn hears(&self, packet: &Packet, sabotage: Option<Sabotage>) -> Option<Heard> {
        let mut turn = Turn::new(self.clone(), sabotage);
        match packet {
            Packet::Vote { from, vote } => {
                let host = names::host(*from).clone();
                let mut incarnation = vote.incarnation;
                if sabotage == Some(Sabotage::CountOldLife) {
                    incarnation = *self.running.get(&vote.deployment)?.opened().participants.get(&host)?;
                }
                turn.take(&vote.deployment, Event::Voted { host, incarnation, verdict: vote.verdict.clone() });
            }
            Packet::Lost { from, lost } => {
                let (host, reason) = (names::host(*from).clone(), lost.reason.clone());
                turn.take(&lost.deployment, Event::Lost { host, incarnation: lost.incarnation, reason });
            }
            Packet::Applied { from, applied } => {
                for (deployment, coordinator) in &self.running {
                    let opened = coordinator.opened();
                    let there =
                        |name| applied.services.get(name).is_some_and(|slot| slot.generation >= opened.generation);
                    if opened.services.keys().all(there) {
                        turn.take(deployment, Event::Applied { host: names::host(*from).clone() });
                    }
                }
            }
            Packet::Prepare { .. } | Packet::State(_) | Packet::Write(_) => return None,
        }
        turn.changed_from(self)
    }

    /// The time to prepare is over.
    pub fn deadline(&self, deployment: &DeploymentId, sabotage: Option<Sabotage>) -> Option<Heard> {
        let mut turn = Turn::new(self.clone(), sabotage);
        turn.take(deployment, Event::DeadlinePassed);
        turn.changed_from(self)
    }

    /// A host's stream has been down for a while.
    pub fn misses(&self, deployment: &DeploymentId, host: &HostId, sabotage: Option<Sabotage>) -> Option<Heard> {
        let mut turn = Turn::new(self.clone(), sabotage);
        turn.take(deployment, Event::Away { host: host.clone() });
        turn.changed_from(self)
    }

    /// The store's word on a decision it was asked for.
    pub fn answered(&self, store: &Store, write: &Write, answered: Answered, sabotage: Option<Sabotage>) -> Heard {
        let mut leader = self.clone();
        leader.asked.remove(&write.deployment);
        match answered {
            Answered::Done | Answered::Landed(_) | Answered::MembersChanged => leader.truth = Truth::of(store),
            Answered::Deposed => {}
        }
        let answer = match answered {
            Answered::Done => Answer::Done,
            Answered::Landed(outcome) => Answer::AlreadyDecided(outcome),
            Answered::MembersChanged => Answer::MembersChanged(leader.truth.members.clone()),
            Answered::Deposed => Answer::Deposed,
        };
        let mut turn = Turn::new(leader, sabotage);
        turn.take(&write.deployment, Event::Stored(answer));
        turn.over()
    }
}

/// A leader at work on one thing.
struct Turn {
    leader: Leader,
    sabotage: Option<Sabotage>,
    stands_down: bool,
    sent: Vec<Packet>,
    all_applied: Vec<Opened>,
}

impl Turn {
    fn new(leader: Leader, sabotage: Option<Sabotage>) -> Self {
        Self { leader, sabotage, stands_down: false, sent: Vec::new(), all_applied: Vec::new() }
    }

    /// Whoever is linked hears what is known, at whatever moment.
    fn tell(&mut self) {
        self.sent.push(Packet::State(self.leader.truth.state(self.leader.epoch)));
    }

    fn drive(&mut self, deployment: &DeploymentId, opening: &Opening) {
        let Opening { generation, services, participants, may_be_missing } = opening.clone();
        let opened = Opened {
            epoch: self.leader.epoch,
            deployment: deployment.clone(),
            generation,
            revision: self.leader.truth.revision,
            services,
            participants,
            may_be_missing,
        };
        self.leader.running.insert(deployment.clone(), Coordinator::new(opened));
        self.take(deployment, Event::Begin);
    }

    fn take(&mut self, deployment: &DeploymentId, event: Event) {
        let Some(mut coordinator) = self.leader.running.remove(deployment) else { return };
        let mut effects = VecDeque::from(coordinator.step(event));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Prepare { host, message } => {
                    let host = names::index_of(&host).map_or(0, |index| 1 << index);
                    self.ask_to_prepare(host, message);
                }
                Effect::WriteCommit { participants } => {
                    let Truth { members, members_revision, .. } = &self.leader.truth;
                    let are_known = participants.iter().all(|(host, life)| members.get(host) == Some(life));
                    if are_known || self.sabotage == Some(Sabotage::CountOldLife) {
                        let decision = Decision::Commit { participants, members_revision: *members_revision };
                        self.ask(coordinator.opened(), decision);
                    } else {
                        let answer = Answer::MembersChanged(members.clone());
                        effects.extend(coordinator.step(Event::Stored(answer)));
                    }
                }
                Effect::WriteAbort { .. } => self.ask(coordinator.opened(), Decision::Abort),
                // For who watches.
                Effect::LeftOut { .. } | Effect::TakenIn { .. } => {}
                Effect::Announce | Effect::AnnounceTo { .. } => self.tell(),
                Effect::AllApplied => self.all_applied.push(coordinator.opened().clone()),
                Effect::StandDown => self.stands_down = true,
            }
        }
        self.leader.running.insert(deployment.clone(), coordinator);
    }

    /// One question to several hosts is one packet.
    fn ask_to_prepare(&mut self, host: u8, question: Prepare) {
        for packet in &mut self.sent {
            if let Packet::Prepare { to, message } = packet
                && *message == question
            {
                *to |= host;
                return;
            }
        }
        self.sent.push(Packet::Prepare { to: host, message: question });
    }

    fn ask(&mut self, opened: &Opened, decision: Decision) {
        let Opened { epoch, deployment, generation, services, .. } = opened.clone();
        if self.sabotage == Some(Sabotage::AnnounceBeforeStored) && decision != Decision::Abort {
            let mut early = self.leader.truth.state(epoch);
            early.revision.0 += 1;
            for (name, release) in services {
                early.services.entry(name).or_default().committed = Some(Committed { generation, release });
            }
            self.sent.push(Packet::State(early));
        }
        let write = Write { epoch, deployment: deployment.clone(), generation, decision };
        self.sent.push(Packet::Write(write.clone()));
        self.leader.asked.insert(deployment, write);
    }

    fn changed_from(self, before: &Leader) -> Option<Heard> {
        let changed = self.stands_down || self.leader != *before || !self.sent.is_empty();
        changed.then(|| self.over())
    }

    /// What is decided is driven no longer, unless its acknowledgements are awaited: see `Fleet`.
    fn over(self) -> Heard {
        let Self { leader, stands_down, sent, all_applied, sabotage: _ } = self;
        Heard { leader: (!stands_down).then_some(leader), sent, all_applied }
    }
}

impl Leader {
    /// Lets go of what is decided: what is left of it is to tell hosts what they may hear at any time.
    pub fn without_decided(mut self) -> Self {
        self.running.retain(|_, coordinator| !matches!(coordinator.phase(), Phase::Decided { .. }));
        self
    }
}

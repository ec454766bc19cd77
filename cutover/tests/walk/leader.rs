//! A leader of a walk: obeys the coordinators, and may be deposed without knowing.

use crate::fleet::{Dice, Packet, Sabotage, Tally, ToHost, ToLeader};
use crate::store::Store;
use cutover::coordinator::{Answer, Coordinator, Effect, Event, Opened};
use cutover::ids::{DeploymentId, Epoch, Generation, HostId, ReleaseDigest, Revision, ServiceName};
use cutover::invariant::{self, Violation};
use cutover::message::Participants;
use cutover::participant::Record;
use std::collections::BTreeMap;

/// What a leader works with.
pub struct Desk<'a> {
    pub store: &'a mut Store,
    pub network: &'a mut Vec<Packet>,
    pub disks: &'a BTreeMap<HostId, Record>,
    pub dice: &'a mut Dice,
    pub sabotage: Option<Sabotage>,
    pub tally: &'a mut Tally,
}

pub struct Leader {
    epoch: Epoch,
    /// As of the membership it last read.
    members_revision: u64,
    running: BTreeMap<DeploymentId, Coordinator>,
}

impl Leader {
    pub fn take_over(store: &mut Store, network: &mut Vec<Packet>) -> Self {
        let epoch = Epoch(store.next());
        store.epoch = epoch.0;
        store.next();
        let mut leader = Self { epoch, members_revision: store.members_revision, running: BTreeMap::new() };
        let open: BTreeMap<_, _> = store.pending.values().cloned().collect();
        for (deployment, generation) in open {
            leader.drive(store, network, deployment, generation);
        }
        leader
    }

    fn drive(&mut self, store: &Store, network: &mut Vec<Packet>, deployment: DeploymentId, generation: Generation) {
        let (services, participants) = store.deployments[&deployment].clone();
        let revision = Revision(store.revision);
        let opened = Opened {
            epoch: self.epoch,
            deployment: deployment.clone(),
            generation,
            revision,
            services,
            participants,
            may_be_missing: may_be_missing(generation),
        };
        let mut coordinator = Coordinator::new(opened);
        for effect in coordinator.step(Event::Begin) {
            if let Effect::Prepare { host, message } = effect {
                network.push(Packet::Down { host, message: ToHost::Prepare(message) });
            }
        }
        self.running.insert(deployment, coordinator);
    }

    pub fn open(
        &mut self,
        store: &mut Store,
        network: &mut Vec<Packet>,
        deployment: DeploymentId,
        services: &[ServiceName],
        content: u8,
        without: Option<HostId>,
    ) {
        if services.iter().any(|name| store.pending.contains_key(name)) || store.epoch != self.epoch.0 {
            return;
        }
        let generation = Generation(store.next());
        let mut participants: Participants = store.members.clone();
        if let Some(host) = without {
            participants.remove(&host);
        }
        let services: BTreeMap<_, _> =
            services.iter().map(|name| (name.clone(), ReleaseDigest([content; 32]))).collect();
        for name in services.keys() {
            store.pending.insert(name.clone(), (deployment.clone(), generation));
        }
        store.deployments.insert(deployment.clone(), (services, participants));
        self.drive(store, network, deployment, generation);
    }

    pub fn hear(&mut self, desk: &mut Desk<'_>, host: &HostId, message: &ToLeader) -> Result<(), Violation> {
        // A leader that knows of its fall says nothing; the guards must do without that.
        if let ToLeader::Hello(_) = message {
            let state = desk.store.state(self.epoch);
            desk.network.push(Packet::Down { host: host.clone(), message: ToHost::State(state) });
        }
        let deployments: Vec<_> = self.running.keys().cloned().collect();
        for deployment in deployments {
            let event = match message {
                ToLeader::Hello(hello) => Event::Connected { host: host.clone(), incarnation: hello.incarnation },
                ToLeader::Vote(vote) if vote.deployment == deployment => {
                    let counted = match desk.sabotage {
                        Some(Sabotage::CountOldIncarnation) => {
                            self.running[&deployment].opened().participants.get(host).copied()
                        }
                        _ => None,
                    };
                    let incarnation = counted.unwrap_or(vote.incarnation);
                    Event::Voted { host: host.clone(), incarnation, verdict: vote.verdict.clone() }
                }
                ToLeader::Lost(lost) if lost.deployment == deployment => {
                    Event::Lost { host: host.clone(), incarnation: lost.incarnation, reason: lost.reason.clone() }
                }
                ToLeader::Applied(applied) => {
                    let opened = self.running[&deployment].opened();
                    let there =
                        |name| applied.services.get(name).is_some_and(|slot| slot.generation >= opened.generation);
                    if !opened.services.keys().all(there) {
                        continue;
                    }
                    Event::Applied { host: host.clone() }
                }
                ToLeader::Vote(_) | ToLeader::Lost(_) => continue,
            };
            self.take(desk, &deployment, event)?;
        }
        Ok(())
    }

    pub fn deadline(&mut self, desk: &mut Desk<'_>) -> Result<(), Violation> {
        let deployments: Vec<_> = self.running.keys().cloned().collect();
        deployments.iter().try_for_each(|deployment| self.take(desk, deployment, Event::DeadlinePassed))
    }

    /// A host's stream has been down for a while, or so it looks from here.
    pub fn away(&mut self, desk: &mut Desk<'_>, host: &HostId) -> Result<(), Violation> {
        let deployments: Vec<_> = self.running.keys().cloned().collect();
        let away = || Event::Away { host: host.clone() };
        deployments.iter().try_for_each(|deployment| self.take(desk, deployment, away()))
    }

    fn take(&mut self, desk: &mut Desk<'_>, deployment: &DeploymentId, event: Event) -> Result<(), Violation> {
        let Some(coordinator) = self.running.get_mut(deployment) else { return Ok(()) };
        let mut effects = coordinator.step(event);
        while !effects.is_empty() {
            let effect = effects.remove(0);
            let opened = coordinator.opened().clone();
            match effect {
                Effect::Prepare { host, message } => {
                    desk.network.push(Packet::Down { host, message: ToHost::Prepare(message) });
                }
                Effect::WriteCommit { participants } => {
                    if desk.sabotage == Some(Sabotage::AnnounceBeforeStored) {
                        let mut early = desk.store.state(self.epoch);
                        for (name, release) in &opened.services {
                            let committed =
                                cutover::message::Committed { generation: opened.generation, release: *release };
                            early.services.entry(name.clone()).or_default().committed = Some(committed);
                        }
                        early.revision.0 += 1;
                        for host in participants.keys() {
                            let message = ToHost::State(early.clone());
                            desk.network.push(Packet::Down { host: host.clone(), message });
                        }
                        if desk.dice.one_in(2) {
                            return Ok(());
                        }
                    }
                    let answer = commit(self.epoch, &mut self.members_revision, desk, &opened, &participants)?;
                    effects.extend(coordinator.step(Event::Stored(answer)));
                }
                Effect::WriteAbort { .. } => {
                    let answer = abort(self.epoch, desk, &opened);
                    effects.extend(coordinator.step(Event::Stored(answer)));
                }
                Effect::Announce => {
                    for host in desk.store.members.keys() {
                        let message = ToHost::State(desk.store.state(self.epoch));
                        desk.network.push(Packet::Down { host: host.clone(), message });
                    }
                }
                Effect::AnnounceTo { host } => {
                    let message = ToHost::State(desk.store.state(self.epoch));
                    desk.network.push(Packet::Down { host, message });
                }
                Effect::LeftOut { .. } => desk.tally.left_out += 1,
                Effect::TakenIn { .. } => desk.tally.taken_in += 1,
                Effect::AllApplied | Effect::StandDown => {}
            }
        }
        Ok(())
    }
}

/// Every other deployment may miss one.
fn may_be_missing(generation: Generation) -> usize {
    usize::try_from(generation.0 % 2).expect("0 or 1")
}

fn commit(
    epoch: Epoch,
    members_revision: &mut u64,
    desk: &mut Desk<'_>,
    opened: &Opened,
    participants: &Participants,
) -> Result<Answer, Violation> {
    if desk.dice.one_in(6) && desk.dice.one_in(2) {
        return Ok(Answer::Unknown);
    }
    if desk.store.epoch != epoch.0 {
        return Ok(Answer::Deposed);
    }
    if !desk.store.is_pending(&opened.services, opened.generation) {
        return Ok(Answer::AlreadyDecided(desk.store.outcomes[&opened.deployment]));
    }
    // A deployment that is taken over brings the lives it opened with: they must be those of the membership
    // that the guard stands for.
    let are_known = participants.iter().all(|(host, life)| desk.store.members.get(host) == Some(life));
    let moved = desk.store.members_revision != *members_revision || !are_known;
    if moved && desk.sabotage != Some(Sabotage::CountOldIncarnation) {
        *members_revision = desk.store.members_revision;
        return Ok(Answer::MembersChanged(desk.store.members.clone()));
    }
    invariant::commit_has_every_promise(opened.generation, participants, desk.disks)?;
    let asked = desk.store.deployments[&opened.deployment].1.len();
    if participants.is_empty() || asked - participants.len() > may_be_missing(opened.generation) {
        let detail = format!("{} commits with {} of {asked} hosts", opened.deployment, participants.len());
        return Err(Violation { number: "S2", detail });
    }
    desk.store.commit(&opened.deployment, opened.generation);
    desk.tally.commits += 1;
    // The answer may be lost although it went through.
    if desk.dice.one_in(4) { Ok(Answer::Unknown) } else { Ok(Answer::Done) }
}

fn abort(epoch: Epoch, desk: &mut Desk<'_>, opened: &Opened) -> Answer {
    if desk.store.epoch != epoch.0 {
        return Answer::Deposed;
    }
    if !desk.store.is_pending(&opened.services, opened.generation) {
        return Answer::AlreadyDecided(desk.store.outcomes[&opened.deployment]);
    }
    desk.store.abort(&opened.deployment);
    desk.tally.aborts += 1;
    if desk.dice.one_in(4) { Answer::Unknown } else { Answer::Done }
}

//! A state of the world: the store, two controllers, the hosts, and everything ever said.

use crate::action::Action;
use crate::config::Config;
use crate::host::{After, Host, Mishap, Moment};
use crate::leader::{Heard, Leader};
use crate::memo::Memo;
use crate::names;
use crate::network::{Decision, Network, Packet, Write};
use crate::shared::{self, Shared};
use crate::store::{Answered, Opening, Store, first_life};
use cutover::coordinator::{Opened, Phase};
use cutover::ids::{Generation, Incarnation};
use cutover::invariant::{self, Violation};
use cutover::message::{Outcome, Verdict};
use cutover::participant::Record;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fleet {
    /// The store.
    pub store: Shared<Store>,
    /// The controllers that were elected and do not know better.
    pub controllers: [Option<Shared<Leader>>; 2],
    /// The hosts.
    pub hosts: Vec<Shared<Host>>,
    /// Everything ever said.
    pub network: Shared<Network>,
    /// The disks of hosts that were replaced, until the store knows of it. Nothing can guard against a disk
    /// that is lost in the moment of the commit; its promise counts as kept as long as it lived.
    pub lost: Vec<(usize, Shared<Record>)>,
    /// How much has happened of what is bounded.
    pub spent: Spent,
    /// The first invariant that does not hold: its number, and the detail.
    pub broken: Option<Shared<(&'static str, String)>>,
}

/// How much has happened of what is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    /// Deployments opened.
    pub opened: u8,
    /// Leaders elected.
    pub elected: u8,
    /// Hosts crashed.
    pub crashed: u8,
    /// Hosts replaced.
    pub replaced: u8,
    /// Hosts left out.
    pub excluded: u8,
    /// Things that failed.
    pub failed: u8,
    /// Containers that died.
    pub died: u8,
    /// Traffic moved by hand.
    pub moved: u8,
}

/// What was worked out once.
#[derive(Default)]
pub struct Memos {
    hosts: Memo<After>,
    leaders: Memo<Turned>,
}

/// What came of a leader's turn, with its parts shared.
struct Turned {
    /// None: it wrote nothing.
    store: Option<Shared<Store>>,
    leader: Option<Shared<Leader>>,
    sent: Vec<Shared<Packet>>,
    all_applied: Vec<Opened>,
}

impl Fleet {
    /// At rest, with one leader.
    pub fn new(config: &Config) -> Self {
        let mut store = Store::new(config.hosts, &config.committed);
        let hosts = (0..config.hosts).map(|index| {
            let host = Host::new(first_life(index), &store.committed);
            Shared::new(if config.moves_by_hand > 0 { host.with_operators() } else { host })
        });
        let hosts = hosts.collect();
        store.elect();
        let mut fleet = Self {
            controllers: [None, None],
            hosts,
            network: Shared::new(Network::default()),
            lost: Vec::new(),
            spent: Spent { elected: 1, ..Spent::default() },
            broken: None,
            store: Shared::new(store),
        };
        let first = Turned::new(config, None, Leader::elected(&fleet.store, config.sabotage));
        fleet.controllers[0] = first.leader;
        fleet.send(&first.sent);
        fleet
    }

    /// The next state. None: the action changes nothing here.
    pub fn next(&self, config: &Config, memos: &Memos, action: &Action) -> Option<Self> {
        match action {
            Action::Happens { host, moment, mishap } => self.happens(config, memos, *host, moment, *mishap),
            Action::WriteLands { packet } => {
                let Packet::Write(write) = &**packet else { return None };
                let is_done = self.store.would_answer(write, config.sabotage) == Answered::Done;
                is_done.then(|| self.decided(self.clone(), write, Shared::new(self.store.after(write))))
            }
            Action::IsReplaced { host } => Some(self.replaced(*host)),
            Action::Opens { controller, .. }
            | Action::IsElected { controller }
            | Action::Registers { controller, .. }
            | Action::Hears { controller, .. }
            | Action::DeadlinePasses { controller, .. }
            | Action::Misses { controller, .. }
            | Action::StoreAnswers { controller, .. } => self.led(config, memos, *controller, action),
        }
    }

    fn replaced(&self, host: usize) -> Self {
        let mut next = self.clone();
        next.spent.replaced += 1;
        let before = &self.hosts[host].disk;
        let life = Incarnation(before.incarnation.0 + 100);
        // If the life that ended was not registered yet, the store knows an earlier one.
        if self.store.members.get(names::host(host)) == Some(&before.incarnation) {
            next.lost.retain(|(of, _)| *of != host);
            next.lost.push((host, Shared::new(before.clone())));
        }
        next.hosts[host] = Shared::new(Host::new(life, &BTreeMap::new()));
        next
    }

    /// A controller does something, with the store or without.
    fn led(&self, config: &Config, memos: &Memos, controller: usize, action: &Action) -> Option<Self> {
        let before = self.controllers[controller].as_ref();
        let with_store =
            !matches!(action, Action::Hears { .. } | Action::DeadlinePasses { .. } | Action::Misses { .. });
        let store = with_store.then_some(&self.store);
        let lives: Vec<_> = match action {
            Action::Registers { host, .. } => vec![self.hosts[*host].disk.incarnation],
            Action::Opens { .. }
            | Action::IsElected { .. }
            | Action::Hears { .. }
            | Action::DeadlinePasses { .. }
            | Action::Misses { .. }
            | Action::StoreAnswers { .. }
            | Action::WriteLands { .. }
            | Action::Happens { .. }
            | Action::IsReplaced { .. } => Vec::new(),
        };
        let question = shared::hash_of(&(before, store, self.spent.opened, lives, action));
        let turned = memos.leaders.get(question, || self.turn(config, before, action))?;
        let mut next = self.clone();
        next.controllers[controller].clone_from(&turned.leader);
        if let Some(store) = &turned.store {
            let asked = match action {
                Action::StoreAnswers { deployment, .. } => before.and_then(|leader| leader.asked.get(deployment)),
                Action::Opens { .. }
                | Action::IsElected { .. }
                | Action::Registers { .. }
                | Action::Hears { .. }
                | Action::DeadlinePasses { .. }
                | Action::Misses { .. }
                | Action::WriteLands { .. }
                | Action::Happens { .. }
                | Action::IsReplaced { .. } => None,
            };
            next = match asked {
                Some(write) => self.decided(next, write, store.clone()),
                None => next.written(before, action, store.clone()),
            };
        }
        next.send(&turned.sent);
        next.all_applied(&turned.all_applied);
        (next != *self).then_some(next)
    }

    /// What a controller does, given what it knows and what stands in the store.
    fn turn(&self, config: &Config, before: Option<&Shared<Leader>>, action: &Action) -> Option<Turned> {
        let mut store = Store::clone(&self.store);
        let sabotage = config.sabotage;
        if let Action::IsElected { .. } = action {
            store.elect();
            let heard = Leader::elected(&store, sabotage);
            return Some(Turned::new(config, Some(store), heard));
        }
        let leader = before?;
        match action {
            Action::Opens { without, .. } => {
                let number = usize::from(self.spent.opened);
                let (deployment, services) = (names::deployment(number), &config.plan[number]);
                let mut participants = leader.truth.members.clone();
                without.map(|host| participants.remove(names::host(host)));
                let may_be_missing = config.may_be_missing;
                let generation = Generation::default();
                let opening = Opening { generation, services: services.clone(), participants, may_be_missing };
                if !store.open(leader.epoch, deployment, opening, &leader.truth.committed, sabotage) {
                    return Some(Turned::stood_down());
                }
                let heard = leader.opened(&store, deployment, sabotage);
                Some(Turned::new(config, Some(store), heard))
            }
            Action::Registers { host, .. } => {
                let (id, life) = (names::host(*host), self.hosts[*host].disk.incarnation);
                if !store.register(leader.epoch, id, life, sabotage) {
                    return Some(Turned::stood_down());
                }
                let heard = leader.registered(&store, id, life, sabotage);
                Some(Turned::new(config, Some(store), heard))
            }
            Action::StoreAnswers { deployment, .. } => {
                let write = leader.asked.get(deployment)?;
                let answered = store.would_answer(write, sabotage);
                let after = (answered == Answered::Done).then(|| store.after(write));
                let heard = leader.answered(after.as_ref().unwrap_or(&store), write, answered, sabotage);
                Some(Turned::new(config, after, heard))
            }
            Action::Hears { packet, .. } => {
                leader.hears(packet, sabotage).map(|heard| Turned::new(config, None, heard))
            }
            Action::DeadlinePasses { deployment, .. } => {
                leader.deadline(deployment, sabotage).map(|heard| Turned::new(config, None, heard))
            }
            Action::Misses { deployment, host, .. } => {
                let heard = leader.misses(deployment, names::host(*host), sabotage);
                heard.map(|heard| Turned::new(config, None, heard))
            }
            Action::IsElected { .. }
            | Action::WriteLands { .. }
            | Action::Happens { .. }
            | Action::IsReplaced { .. } => None,
        }
    }

    /// A write of a leader went through that is no decision.
    fn written(mut self, leader: Option<&Shared<Leader>>, action: &Action, store: Shared<Store>) -> Self {
        match action {
            Action::Opens { without, .. } => {
                self.spent.opened += 1;
                self.spent.excluded += u8::from(without.is_some());
            }
            Action::Registers { host, .. } => self.lost.retain(|(of, _)| of != host),
            Action::IsElected { .. } => self.spent.elected += 1,
            Action::Hears { .. }
            | Action::DeadlinePasses { .. }
            | Action::Misses { .. }
            | Action::StoreAnswers { .. }
            | Action::WriteLands { .. }
            | Action::Happens { .. }
            | Action::IsReplaced { .. } => {}
        }
        let is_election = matches!(action, Action::IsElected { .. });
        if let Some(leader) = leader
            && !is_election
        {
            self.note(invariant::only_the_leader_writes(leader.epoch, self.store.epoch));
        }
        self.store = store;
        self.note(self.groups());
        self
    }

    /// A decision went through, whoever waits for the answer.
    fn decided(&self, mut next: Self, write: &Write, store: Shared<Store>) -> Self {
        let outcome = match &write.decision {
            Decision::Commit { participants, .. } => {
                let disks = self.hosts.iter().enumerate();
                let mut disks: BTreeMap<_, _> =
                    disks.map(|(index, host)| (names::host(index).clone(), host.disk.clone())).collect();
                disks.extend(self.lost.iter().map(|(index, disk)| (names::host(*index).clone(), Record::clone(disk))));
                next.note(invariant::commit_has_every_promise(write.generation, participants, &disks));
                Outcome::Commit
            }
            Decision::Abort => Outcome::Abort,
        };
        next.note(invariant::only_the_leader_writes(write.epoch, self.store.epoch));
        let before = self.store.outcomes.get(&write.deployment).copied();
        next.note(invariant::decided_once(&write.deployment, before, outcome));
        next.store = store;
        next.note(next.groups());
        next
    }

    fn groups(&self) -> Result<(), Violation> {
        let open = self.store.pending.iter().map(|(name, (deployment, _))| (name.clone(), deployment.clone()));
        let open = open.collect();
        let mut opened = self.store.opened.iter();
        opened.try_for_each(|(deployment, opening)| invariant::groups_are_whole(deployment, &opening.services, &open))
    }

    /// A leader says that everyone applied these.
    fn all_applied(&mut self, deployments: &[Opened]) {
        for opened in deployments {
            for (index, host) in self.hosts.clone().iter().enumerate() {
                let id = names::host(index);
                if opened.participants.get(id) == Some(&host.disk.incarnation) {
                    let (services, generation) = (&opened.services, opened.generation);
                    self.note(invariant::what_was_acknowledged_is_served(id, &host.served, services, generation));
                }
            }
        }
    }

    /// What comes of a moment at a host. None: nothing.
    fn after(&self, config: &Config, memos: &Memos, at: usize, moment: &Moment, mishap: Mishap) -> Option<Arc<After>> {
        let host = &self.hosts[at];
        let question = shared::hash_of(&(at, host, moment, mishap));
        memos.hosts.get(question, || host.after(at, moment, mishap, config.sabotage))
    }

    /// How many acts a moment takes at a host.
    pub fn acts(&self, config: &Config, memos: &Memos, at: usize, moment: &Moment) -> u8 {
        self.after(config, memos, at, moment, Mishap::None).map_or(0, |after| after.acts)
    }

    fn happens(&self, config: &Config, memos: &Memos, at: usize, moment: &Moment, mishap: Mishap) -> Option<Self> {
        let host = &self.hosts[at];
        let after = self.after(config, memos, at, moment, mishap)?;
        let mut next = self.clone();
        match moment {
            Moment::Crashes => next.spent.crashed += 1,
            Moment::CouldNotMakeReady(_) | Moment::CannotSwitch | Moment::SwitchesUnseen => next.spent.failed += 1,
            Moment::LosesContainer(..) => next.spent.died += 1,
            Moment::IsMovedByHand(_) => next.spent.moved += 1,
            Moment::Hears(_) | Moment::MadeReady(_) | Moment::Switches | Moment::TriesAgain | Moment::IsReleased(_) => {
            }
        }
        match mishap {
            Mishap::None => {}
            Mishap::CrashAfter(_) => next.spent.crashed += 1,
            Mishap::DiskFull => next.spent.failed += 1,
        }
        let is_heard = |packet: &Shared<Packet>| config.acknowledgements || !matches!(**packet, Packet::Applied { .. });
        let said: Vec<_> = after.said.iter().filter(|packet| is_heard(packet)).cloned().collect();
        let has_news = next.send(&said);
        let has_changed = *host != after.host;
        next.hosts[at] = after.host.clone();
        next.note(after.violation.clone().map_or(Ok(()), Err));
        if has_changed {
            next.note(next.host_is_sound(at));
        }
        (has_news || has_changed || next.broken.is_some()).then_some(next)
    }

    /// What a host may not break, given the store and what it has said.
    fn host_is_sound(&self, at: usize) -> Result<(), Violation> {
        let (id, host, store) = (names::host(at), &self.hosts[at], &self.store);
        invariant::serves_only_committed(id, &host.disk, &store.history)?;
        invariant::routes_only_to_committed(id, &host.served, &store.history)?;
        invariant::never_ahead(id, &host.served, &store.committed)?;
        for packet in self.network.packets() {
            let Packet::Vote { from, vote } = &**packet else { continue };
            if *from != at || vote.verdict != Verdict::Yes || vote.incarnation != host.disk.incarnation {
                continue;
            }
            let opening = &store.opened[&vote.deployment];
            let generation = opening.generation;
            let is_open = |name| store.pending.get(name).is_some_and(|(open, _)| *open == vote.deployment);
            let stands = |name| store.committed.get(name).is_some_and(|truth| truth.generation == generation);
            if opening.services.keys().all(is_open) || opening.services.keys().all(stands) {
                invariant::promise_is_kept(id, &host.disk, &vote.deployment, generation, &opening.services)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, packets: &[Shared<Packet>]) -> bool {
        let Some(network) = self.network.with(packets) else { return false };
        self.network = Shared::new(network);
        true
    }

    fn note(&mut self, checked: Result<(), Violation>) {
        if let Err(violation) = checked {
            self.broken.get_or_insert_with(|| broken(violation));
        }
    }

    /// Everything is decided, and every host serves what the store says.
    pub fn is_converged(&self) -> bool {
        let rests = |(index, host): (usize, &Shared<Host>)| {
            let at_truth = invariant::converged(names::host(index), &host.disk, &self.store.committed).is_ok();
            at_truth && host.served == host.disk.served()
        };
        self.store.pending.is_empty() && self.hosts.iter().enumerate().all(rests)
    }

    /// What a controller drives that is not decided.
    pub fn undecided(&self, controller: usize) -> impl Iterator<Item = &cutover::DeploymentId> {
        let running = self.controllers[controller].iter().flat_map(|leader| &leader.running);
        running.filter(|(_, driven)| !matches!(driven.phase(), Phase::Decided { .. })).map(|(name, _)| name)
    }
}

fn broken(violation: Violation) -> Shared<(&'static str, String)> {
    Shared::new((violation.number, violation.detail))
}

impl Turned {
    fn new(config: &Config, store: Option<Store>, heard: Heard) -> Self {
        let Heard { leader, sent, all_applied } = heard;
        let leader = if config.acknowledgements { leader } else { leader.map(Leader::without_decided) };
        let sent = sent.into_iter().map(Shared::new).collect();
        Self { store: store.map(Shared::new), leader: leader.map(Shared::new), sent, all_applied }
    }

    fn stood_down() -> Self {
        Self { store: None, leader: None, sent: Vec::new(), all_applied: Vec::new() }
    }
}

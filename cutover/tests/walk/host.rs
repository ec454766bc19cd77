//! A host of a walk: does what its participant says, one act at a time, and may crash between any two.

use crate::fleet::{Sabotage, ToHost, ToLeader};
use cutover::ids::{Colour, Generation, HostId, Incarnation, ReleaseDigest, ServiceName};
use cutover::invariant::Violation;
use cutover::message::Slot;
use cutover::participant::{Effect, Event, Participant, Record, Work};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Places = BTreeMap<(ServiceName, Colour), ReleaseDigest>;

pub struct Host {
    participant: Participant,
    pub disk: Record,
    /// What the switch says: survives everything but the disk.
    pub served: BTreeMap<ServiceName, Slot>,
    /// What stands where, and as it was when a record was last written.
    places: Places,
    disk_places: Places,
    todo: VecDeque<Effect>,
    pub outbox: Vec<ToLeader>,
    pub sabotage: Option<Sabotage>,
    pub switches: u32,
    pub catch_ups: u32,
    pub holds: u32,
    /// Every change of the disk: before, after.
    pub written: Vec<[Record; 2]>,
    /// Places whose container died: nothing there takes traffic, whatever the switch says.
    lost: BTreeSet<(ServiceName, Colour)>,
    /// What was made ready, and what took traffic then.
    pub made: Vec<[BTreeMap<ServiceName, Slot>; 2]>,
    /// Services that the switch leads where an operator wanted.
    by_hand: BTreeSet<ServiceName>,
    /// What was applied before, of each service: what an operator may go back to.
    before: BTreeMap<ServiceName, Slot>,
}

impl Host {
    pub fn new(incarnation: u128) -> Self {
        let record = Record::new(Incarnation(incarnation));
        let participant = Participant::recover(record.clone(), &BTreeMap::new());
        Self {
            participant,
            disk: record,
            served: BTreeMap::new(),
            places: Places::new(),
            disk_places: Places::new(),
            todo: VecDeque::new(),
            outbox: Vec::new(),
            sabotage: None,
            switches: 0,
            catch_ups: 0,
            holds: 0,
            written: Vec::new(),
            lost: BTreeSet::new(),
            made: Vec::new(),
            by_hand: BTreeSet::new(),
            before: BTreeMap::new(),
        }
    }

    fn take(&mut self, event: Event) {
        let effects = self.participant.step(event);
        if self.sabotage == Some(Sabotage::VoteBeforeFsync) {
            for effect in &effects {
                if let Effect::Store(record) = effect {
                    for deployment in record.prepared.keys() {
                        self.outbox.push(ToLeader::Vote(cutover::message::Vote {
                            deployment: deployment.clone(),
                            incarnation: record.incarnation,
                            verdict: cutover::message::Verdict::Yes,
                        }));
                    }
                }
            }
        }
        self.todo.extend(effects);
    }

    pub fn hear(&mut self, message: ToHost) {
        match message {
            ToHost::Prepare(prepare) => self.take(Event::Prepare(prepare)),
            ToHost::State(state) => self.take(Event::State(state)),
        }
    }

    pub fn link_up(&mut self) {
        self.take(Event::LinkUp);
    }

    pub fn retry(&mut self) {
        self.take(Event::RetryNow);
    }

    pub fn lose_a_slot(&mut self) {
        let promised = self.disk.prepared.values().flat_map(|prepared| &prepared.services).next();
        if let Some((name, slot)) = promised {
            self.lost.insert((name.clone(), slot.colour));
            let event = Event::SlotDied(name.clone(), slot.colour, "died".to_owned());
            self.take(event);
        }
    }

    /// An operator on the host goes back to what was served before, or to what is applied.
    pub fn by_hand(&mut self, resume: bool) {
        let Some((name, slot)) = self.before.iter().next_back().map(|(name, slot)| (name.clone(), *slot)) else {
            return;
        };
        self.take(if resume { Event::Resume(name) } else { Event::Hold(name, slot) });
    }

    /// Carries out the oldest thing to do.
    pub fn act(&mut self, fails: bool) {
        let Some(effect) = self.todo.pop_front() else { return };
        match effect {
            Effect::MakeReady { work, services } => {
                let mut serving = self.served.clone();
                serving.retain(|name, slot| !self.lost.contains(&(name.clone(), slot.colour)));
                if !fails {
                    self.lost.retain(|(name, colour)| services.get(name).is_none_or(|slot| slot.colour != *colour));
                }
                self.made.push([services.clone(), serving]);
                let made = services.into_iter().map(|(name, slot)| ((name, slot.colour), slot.release));
                self.places.extend(made);
                if matches!(work, Work::CatchUp(_)) {
                    self.catch_ups += 1;
                }
                let event = if fails { Event::NotReady(work, "planned".to_owned()) } else { Event::Ready(work) };
                self.take(event);
            }
            Effect::Store(record) => {
                if fails {
                    self.take(Event::StoreFailed("planned".to_owned()));
                } else {
                    for (name, slot) in &self.disk.applied {
                        if record.applied.get(name) != Some(slot) {
                            self.before.insert(name.clone(), *slot);
                        }
                    }
                    if record.held.len() > self.disk.held.len() {
                        self.holds += 1;
                    }
                    self.written.push([self.disk.clone(), record.clone()]);
                    if self.sabotage != Some(Sabotage::ForgetPlaces) || self.disk != record {
                        self.disk_places.clone_from(&self.places);
                    }
                    self.disk = record;
                    self.take(Event::Stored);
                }
            }
            Effect::Switch { services } => {
                self.lead_to(services);
                self.switches += 1;
                let event = if fails { Event::SwitchFailed("planned".to_owned()) } else { Event::Switched };
                self.take(event);
            }
            Effect::SendHello(hello) => self.outbox.push(ToLeader::Hello(hello)),
            Effect::SendVote(vote) => self.outbox.push(ToLeader::Vote(vote)),
            Effect::SendLost(lost) => self.outbox.push(ToLeader::Lost(lost)),
            Effect::SendApplied(applied) => self.outbox.push(ToLeader::Applied(applied)),
            Effect::Alarm(alarm) => panic!("alarm: {alarm}"),
            Effect::Discard { .. } | Effect::RetryLater { .. } | Effect::Refuse { .. } => {}
        }
    }

    pub fn crash(&mut self, forget_promises: bool) {
        if forget_promises {
            self.disk.prepared.clear();
        }
        let served = self.served.iter().filter_map(|(name, slot)| {
            let release = *self.disk_places.get(&(name.clone(), slot.colour))?;
            Some((name.clone(), Slot { release, ..*slot }))
        });
        self.participant = Participant::recover(self.disk.clone(), &served.collect());
        self.places.clone_from(&self.disk_places);
        // Before anything else the switch is brought to what is known to be served, and one that is not in the record
        // is there to be proven.
        let made = self.participant.switching().cloned();
        self.todo = made.iter().map(|services| Effect::Switch { services: services.clone() }).collect();
        self.lead_to(made.unwrap_or_else(|| self.disk.served()));
        self.outbox.clear();
    }

    fn lead_to(&mut self, services: BTreeMap<ServiceName, Slot>) {
        let held = self.disk.held.iter().filter(|(name, slot)| services.get(*name) == Some(*slot));
        self.by_hand = held.map(|(name, _)| name.clone()).collect();
        self.served = services;
    }

    /// Everything the host knows it must keep running.
    pub fn needed(&self) -> BTreeSet<(ServiceName, Colour)> {
        self.participant.needed()
    }

    /// What the switch says, with what it would say without operators.
    pub fn served_by_the_store(&self) -> BTreeMap<ServiceName, Slot> {
        let of_the_store = |(name, slot): (&ServiceName, &Slot)| {
            let applied = self.disk.applied.get(name).filter(|_| self.by_hand.contains(name));
            (name.clone(), *applied.unwrap_or(slot))
        };
        self.served.iter().map(of_the_store).collect()
    }

    /// S4 for what users see, which is the switch and not the record.
    pub fn serves_what_it_may(
        &self,
        host: &HostId,
        history: &BTreeMap<(ServiceName, Generation), ReleaseDigest>,
    ) -> Result<(), Violation> {
        for (name, slot) in &self.served {
            if history.get(&(name.clone(), slot.generation)) != Some(&slot.release) {
                let detail = format!("{host} routes {name} to generation {}, never committed so", slot.generation);
                return Err(Violation { number: "S4", detail });
            }
        }
        Ok(())
    }
}

//! A host: does what its participant says, one act after the other, and may crash between any two.
//!
//! What it does about one event is one transition, because nobody else can tell when within it an act was done:
//! what is sent may be late anyway, and the disk is looked at only when the host is asked, when it restarts, and
//! by the invariants at a commit. A crash between two acts is a transition of its own, for every such place.

use crate::names;
use crate::network::Packet;
use crate::sabotage::Sabotage;
use crate::shared::Shared;
use cutover::ids::{Colour, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName};
use cutover::invariant::{self, Violation};
use cutover::message::{Applied, Committed, Lost, Slot, Verdict, Vote};
use cutover::participant::{Effect, Event, Participant, Record, Work};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What stands in each place.
type Places = BTreeMap<(ServiceName, Colour), ReleaseDigest>;

/// One host, and what of it survives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// Lost in a crash.
    pub participant: Participant,
    /// What is on its disk. It survives everything but the host.
    pub disk: Record,
    /// Where the switch points: what users see. It is apart from the record.
    pub served: BTreeMap<ServiceName, Slot>,
    /// What was made ready where, of what is needed. Lost in a crash.
    pub places: Places,
    /// The same as of the last write to the disk: what a switch found after a crash leads to.
    pub written_places: Places,
    /// What is being made ready. Lost in a crash.
    pub jobs: BTreeSet<Work>,
    /// A switch that was asked for and not made. Lost in a crash.
    pub switching: bool,
    /// Something will be tried again. Lost in a crash.
    pub retries: bool,
    /// What was applied before, where moves by hand are modelled: what an operator may go back to.
    pub before: Option<BTreeMap<ServiceName, Slot>>,
    /// For the account of what was seen.
    pub past: Past,
}

/// Whether a host was in doubt when it crashed, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Past {
    /// It was not.
    Uneventful,
    /// It was, and is.
    CrashedInDoubt,
    /// It was, and went where the store said.
    Followed,
}

/// What can happen to a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Moment {
    /// A message arrives.
    Hears(Shared<Packet>),
    /// Work is done.
    MadeReady(Work),
    /// Work failed.
    CouldNotMakeReady(Work),
    /// The rename, then the probe.
    Switches,
    /// The rename was refused.
    CannotSwitch,
    /// The rename was made, and nginx did not answer the probe.
    SwitchesUnseen,
    /// The pause before another try is over.
    TriesAgain,
    /// A promised container dies for good.
    LosesContainer(ServiceName, Colour),
    /// An operator on the host goes back to what was applied before.
    IsMovedByHand(ServiceName),
    /// An operator on the host returns to what is applied.
    IsReleased(ServiceName),
    /// It crashes and comes back.
    Crashes,
}

/// What goes wrong within a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mishap {
    /// Nothing.
    None,
    /// The host crashes after that many acts and comes back.
    CrashAfter(u8),
    /// The disk takes no write.
    DiskFull,
}

/// What a host says, to a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Vote(Vote),
    Lost(Lost),
    Applied(Applied),
}

impl Said {
    fn packet(self, from: usize) -> Packet {
        match self {
            Self::Vote(vote) => Packet::Vote { from, vote },
            Self::Lost(lost) => Packet::Lost { from, lost },
            Self::Applied(applied) => Packet::Applied { from, applied },
        }
    }
}

/// What came of a moment.
#[derive(Debug)]
pub struct After {
    /// The host now.
    pub host: Shared<Host>,
    /// What left it.
    pub said: Vec<Shared<Packet>>,
    /// How many acts it took: a crash can fall between them.
    pub acts: u8,
    /// An invariant that needs nothing but the host.
    pub violation: Option<Violation>,
}

impl Host {
    /// A host that serves these, and is at rest.
    pub fn new(life: Incarnation, served: &BTreeMap<ServiceName, Committed>) -> Self {
        let slots = served.iter().map(|(name, committed)| {
            let Committed { generation, release } = *committed;
            (name.clone(), Slot { generation, release, colour: Colour::Blue })
        });
        let served: BTreeMap<_, _> = slots.collect();
        let disk = Record { applied: served.clone(), ..Record::new(life) };
        let places = served.iter().map(|(name, slot)| ((name.clone(), slot.colour), slot.release)).collect();
        Self::started(disk, served, places)
    }

    /// The same, and operators may move its traffic by hand.
    pub fn with_operators(self) -> Self {
        Self { before: Some(BTreeMap::new()), ..self }
    }

    /// The agent's start: recover by what the switch leads to, as far as that is written down, and set the switch as
    /// that says. A switch that is not in the record is there to be proven.
    fn started(disk: Record, served: BTreeMap<ServiceName, Slot>, written_places: Places) -> Self {
        let known = served.into_iter().filter_map(|(name, slot)| {
            let release = *written_places.get(&(name.clone(), slot.colour))?;
            Some((name, Slot { release, ..slot }))
        });
        let participant = Participant::recover(disk.clone(), &known.collect());
        let mut host = Self {
            served: participant.switching().cloned().unwrap_or_else(|| disk.served()),
            switching: participant.switching().is_some(),
            participant,
            disk,
            places: written_places.clone(),
            written_places,
            jobs: BTreeSet::new(),
            retries: false,
            before: None,
            past: Past::Uneventful,
        };
        host.keep_what_is_needed();
        host
    }

    fn keep_what_is_needed(&mut self) {
        let needed = self.participant.needed();
        self.places.retain(|place, _| needed.contains(place));
    }

    /// Lets something happen. None: it cannot, or it changes nothing.
    pub fn after(&self, at: usize, moment: &Moment, mishap: Mishap, sabotage: Option<Sabotage>) -> Option<After> {
        let id = names::host(at);
        let mut host = self.clone();
        let mut run = Run::default();
        match mishap {
            Mishap::None => {}
            Mishap::CrashAfter(acts) => run.crash_after = Some(acts),
            Mishap::DiskFull => run.disk_full = true,
        }
        let event = match moment {
            Moment::Hears(packet) => Some(host.hears(packet, sabotage)?),
            Moment::MadeReady(work) => host.jobs.remove(work).then(|| Event::Ready(work.clone())),
            Moment::CouldNotMakeReady(work) => {
                host.jobs.remove(work).then(|| Event::NotReady(work.clone(), "planned".to_owned()))
            }
            Moment::Switches => {
                host.rename()?;
                (run.acts, run.has_renamed) = (1, true);
                if host.past == Past::CrashedInDoubt {
                    host.past = Past::Followed;
                }
                Some(Event::Switched)
            }
            Moment::CannotSwitch => {
                host.switching.then_some(())?;
                host.switching = false;
                Some(Event::SwitchFailed("planned".to_owned()))
            }
            Moment::SwitchesUnseen => {
                host.rename()?;
                Some(Event::SwitchFailed("planned".to_owned()))
            }
            Moment::TriesAgain => {
                host.retries.then_some(())?;
                host.retries = false;
                Some(Event::RetryNow)
            }
            Moment::LosesContainer(service, colour) => {
                Some(Event::SlotDied(service.clone(), *colour, "planned".to_owned()))
            }
            Moment::IsMovedByHand(service) => {
                let slot = *host.before.as_ref()?.get(service)?;
                let place = (service.clone(), slot.colour);
                // The agent looks whether it still stands there.
                if host.participant.needed().contains(&place) {
                    return None;
                }
                host.places.insert(place, slot.release);
                Some(Event::Hold(service.clone(), slot))
            }
            Moment::IsReleased(service) => Some(Event::Resume(service.clone())),
            Moment::Crashes => None,
        };
        let is_crash = event.is_none() && *moment == Moment::Crashes;
        if let Some(event) = event {
            if !run.is_over() {
                run.todo = host.participant.step(event).into();
            }
            host.obey(id, &mut run, sabotage);
        } else if !is_crash {
            return None;
        }
        let crashed_within = matches!(mishap, Mishap::CrashAfter(_));
        if (crashed_within && !run.was_cut_short) || (run.disk_full && !run.failed) {
            return None;
        }
        if is_crash || crashed_within {
            let (at_crash, back) = (host.served.clone(), host.restarted(sabotage));
            let kept = back.keeps_serving(id, at_crash);
            run.violation = run.violation.take().or(kept.err());
            host = back;
        }
        host.keep_what_is_needed();
        let violation = run.violation.or_else(|| self.broken_by(id, &host));
        let changed = host != *self || !run.said.is_empty();
        let acts = run.acts;
        let said = run.said.into_iter().map(|said| Shared::new(said.packet(at)));
        changed.then(|| After { host: Shared::new(host), said: said.collect(), acts, violation })
    }

    fn restarted(self, sabotage: Option<Sabotage>) -> Self {
        let mut disk = self.disk;
        if sabotage == Some(Sabotage::ForgetPromises) {
            disk.prepared.clear();
        }
        let past = if disk.prepared.is_empty() { self.past } else { Past::CrashedInDoubt };
        let started = Self::started(disk, self.served, self.written_places);
        let mut host = Self { past, before: self.before, ..started };
        if sabotage == Some(Sabotage::NoGenerationGuard) {
            let mut blind = host.disk.clone();
            blind.applied.values_mut().for_each(|slot| slot.generation = Generation(0));
            host.participant = Participant::recover(blind, &BTreeMap::new());
            host.switching = false;
        }
        host
    }

    /// The event that a message is here.
    fn hears(&self, packet: &Packet, sabotage: Option<Sabotage>) -> Option<Event> {
        let newest = self.participant.record().max_epoch;
        let as_if_newest = |epoch: Epoch, check| if sabotage == Some(check) { epoch.max(newest) } else { epoch };
        match packet {
            Packet::Prepare { message, .. } => {
                let mut message = message.clone();
                message.epoch = as_if_newest(message.epoch, Sabotage::NoEpochCheckOnPrepare);
                if sabotage == Some(Sabotage::NoRevisionGuard) {
                    message.revision = Revision(0);
                }
                Some(Event::Prepare(message))
            }
            Packet::State(state) => {
                let mut state = state.clone();
                state.epoch = as_if_newest(state.epoch, Sabotage::NoEpochCheckOnState);
                Some(Event::State(state))
            }
            Packet::Vote { .. } | Packet::Lost { .. } | Packet::Applied { .. } | Packet::Write(_) => None,
        }
    }

    fn rename(&mut self) -> Option<()> {
        self.switching.then_some(())?;
        self.switching = false;
        self.served = self.participant.switching()?.clone();
        Some(())
    }

    /// Carries out effects in order, and stops where it crashes.
    fn obey(&mut self, id: &HostId, run: &mut Run, sabotage: Option<Sabotage>) {
        loop {
            if run.is_over() {
                run.was_cut_short = !run.todo.is_empty() || (run.has_renamed && run.acts == 1);
                return;
            }
            let Some(effect) = run.todo.pop_front() else { return };
            run.acts += 1;
            match effect {
                Effect::MakeReady { work, services } => {
                    let seen = invariant::makes_ready_beside_what_serves(id, &services, &self.served);
                    run.violation = run.violation.take().or(seen.err());
                    let made = services.into_iter().map(|(name, slot)| ((name, slot.colour), slot.release));
                    self.places.extend(made);
                    self.jobs.insert(work);
                }
                Effect::Discard { work, .. } => drop(self.jobs.remove(&work)),
                Effect::Store(record) => {
                    if sabotage == Some(Sabotage::VoteBeforeFsync) && run.speaks_early(&self.disk, &record) {
                        run.todo.push_front(Effect::Store(record));
                        continue;
                    }
                    let answer = if run.disk_full {
                        run.failed = true;
                        Event::StoreFailed("planned".to_owned())
                    } else {
                        self.keep_what_is_needed();
                        let is_news = (&self.disk.applied, &self.disk.prepared) != (&record.applied, &record.prepared);
                        if sabotage != Some(Sabotage::ForgetPlaces) || is_news {
                            self.written_places.clone_from(&self.places);
                        }
                        let sound = Self::disk_is_sound(id, &self.disk, &record);
                        run.violation = run.violation.take().or(sound.err());
                        if let Some(before) = &mut self.before {
                            let moved = self.disk.applied.iter();
                            let moved = moved.filter(|(name, slot)| record.applied.get(*name) != Some(*slot));
                            before.extend(moved.map(|(name, slot)| (name.clone(), *slot)));
                        }
                        self.disk = record;
                        Event::Stored
                    };
                    run.todo.extend(self.participant.step(answer));
                }
                Effect::SendHello(_) => {}
                Effect::SendVote(vote) => run.said.push(Said::Vote(vote)),
                Effect::SendLost(lost) => run.said.push(Said::Lost(lost)),
                Effect::SendApplied(applied) => self.acknowledges(applied, run),
                Effect::Switch { services } => {
                    self.switching = true;
                    if sabotage == Some(Sabotage::AcknowledgeBeforeProbe) {
                        self.acknowledges(Applied { incarnation: self.disk.incarnation, services }, run);
                    }
                }
                Effect::Refuse { .. } => {}
                Effect::RetryLater { .. } => self.retries = true,
                Effect::Alarm(detail) => {
                    run.violation.get_or_insert(Violation { number: "S5", detail });
                }
            }
        }
    }

    fn acknowledges(&self, applied: Applied, run: &mut Run) {
        let mut claimed = applied.clone();
        claimed.services.retain(|name, _| !self.disk.held.contains_key(name));
        let honest = invariant::acknowledges_only_what_it_serves(&claimed, &self.served);
        run.violation = run.violation.take().or(honest.err());
        run.said.push(Said::Applied(applied));
    }

    fn disk_is_sound(id: &HostId, before: &Record, after: &Record) -> Result<(), Violation> {
        invariant::generation_never_falls(id, before, after)?;
        invariant::one_content_per_generation(id, before, after)?;
        invariant::a_hold_ends_with_the_next_generation(id, before, after)
    }

    /// What users see goes back by hand only.
    fn keeps_serving(&self, id: &HostId, mut before: BTreeMap<ServiceName, Slot>) -> Result<(), Violation> {
        before.retain(|name, _| !self.disk.held.contains_key(name));
        invariant::served_never_goes_back(id, &before, &self.served)
    }

    /// What a step of one host can break by itself.
    fn broken_by(&self, id: &HostId, after: &Self) -> Option<Violation> {
        Self::disk_is_sound(id, &self.disk, &after.disk)
            .and_then(|()| after.keeps_serving(id, self.served.clone()))
            .and_then(|()| invariant::served_is_kept(id, &after.served, &after.participant.needed()))
            .err()
    }
}

/// The effects of one moment, and how far they got.
#[derive(Default)]
struct Run {
    todo: VecDeque<Effect>,
    acts: u8,
    has_renamed: bool,
    crash_after: Option<u8>,
    was_cut_short: bool,
    disk_full: bool,
    failed: bool,
    said: Vec<Said>,
    violation: Option<Violation>,
}

impl Run {
    fn is_over(&self) -> bool {
        self.crash_after == Some(self.acts)
    }

    /// The vote for a promise in this record leaves now, once.
    fn speaks_early(&mut self, before: &Record, record: &Record) -> bool {
        let news = record.prepared.keys().filter(|deployment| !before.prepared.contains_key(*deployment));
        let votes = news.map(|deployment| Vote {
            deployment: deployment.clone(),
            incarnation: record.incarnation,
            verdict: Verdict::Yes,
        });
        let votes: Vec<_> = votes.map(Said::Vote).filter(|vote| !self.said.contains(vote)).collect();
        let speaks = !votes.is_empty();
        self.said.extend(votes);
        speaks
    }
}

//! Carries out what the protocol decided, in order.

use super::{Agent, Happening, RunningJob};
use crate::executor::job::Step;
use crate::executor::keep::Health;
use crate::executor::{Failure, Job, JobService};
use crate::retired::Retired;
use crate::state::{Mooring, Place, Standing, Written};
use bgctl_proto::crashpoint;
use bgctl_proto::session as wire;
use cutover::ids::ServiceName;
use cutover::message::Slot;
use cutover::participant::{Effect, Event, Record, Work};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Pause before something that failed on this host alone is tried again: catching up, acknowledging.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Agent {
    /// Hands one event to the protocol and obeys until it wants nothing more.
    pub(super) async fn step(&mut self, event: Event) {
        let mut effects: VecDeque<_> = self.participant.step(event).into();
        while let Some(effect) = effects.pop_front() {
            if let Some(answer) = self.obey(effect).await {
                effects.extend(self.participant.step(answer));
            }
        }
    }

    /// Carries out one effect. Writing the journal is answered at once; all other answers come as happenings.
    async fn obey(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::MakeReady { work, services } => self.make_ready(work, services),
            Effect::Discard { work, services } => {
                tracing::info!(?work, "discarded");
                self.undo(&work, &services);
                self.keep_places();
            }
            Effect::Store(record) => return Some(self.store(record).await),
            Effect::SendHello(hello) => {
                let introduction = self.introduce().await;
                let versions = self.versions.clone();
                self.send(|outbox| outbox.hello(hello, &versions, introduction));
            }
            Effect::SendVote(vote) => {
                let work = Work::Deployment(vote.deployment.clone());
                let log_tail = self.log_tails.remove(&work).unwrap_or_default();
                self.asked.remove(&work);
                tracing::info!(deployment = %vote.deployment, verdict = ?vote.verdict, "vote");
                crashpoint!("before_vote_sent");
                self.send(|outbox| outbox.vote(vote, log_tail));
                crashpoint!("after_vote_sent", sent);
                self.keep_places();
            }
            Effect::SendLost(lost) => {
                tracing::warn!(deployment = %lost.deployment, reason = %lost.reason, "what was promised is lost");
                self.send(|outbox| outbox.lost(lost));
            }
            Effect::SendApplied(applied) => {
                let switch = self.last_switch.take();
                crashpoint!("before_ack");
                self.send(|outbox| outbox.applied(applied, switch));
                crashpoint!("after_ack", sent);
                self.tell_health();
            }
            Effect::Switch { services } => match self.not_seen_healthy(&services) {
                Some(reason) => {
                    self.has_switch_failed = true;
                    return Some(Event::SwitchFailed(reason));
                }
                None => {
                    self.has_switch_failed = false;
                    self.switch(&services);
                }
            },
            Effect::RetryLater { reason } => {
                // Tried every few seconds, and said once.
                if self.tried_again_for != reason {
                    tracing::warn!(%reason, "will be tried again");
                    self.tried_again_for = reason;
                }
                let events = self.events.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(RETRY_AFTER).await;
                    drop(events.send(Happening::RetryNow));
                });
            }
            Effect::Alarm(alarm) => {
                tracing::error!(%alarm, "never follow this: a person must look");
                if !self.alarms.contains(&alarm) {
                    self.alarms.push(alarm);
                }
                self.tell_health();
            }
            Effect::Refuse { service, reason } => self.refuse_by_hand(&service, &reason),
        }
        None
    }

    fn send(&self, say: impl FnOnce(&crate::session::Outbox)) {
        if let Some(outbox) = &self.outbox {
            say(outbox);
        }
    }

    fn make_ready(&mut self, work: Work, services: BTreeMap<ServiceName, Slot>) {
        let (asked, is_rollback) = self.asked.remove(&work).unwrap_or((Instant::now(), false));
        let places = services.iter().map(|(service, slot)| (service.clone(), slot.colour)).collect();
        let parts: Result<Vec<_>, Failure> =
            services.iter().map(|(service, slot)| self.move_in(service, slot)).collect();
        let after = self.routes(&services);
        let (tools, edge, events) = (self.tools.clone(), self.edge.clone(), self.events.clone());
        self.edge.want(self.shape_with(&services));
        let name = work.clone();
        let task = tokio::spawn(async move {
            let step = |step: Step| drop(events.send(Happening::Step(name.clone(), step)));
            let outcome = match parts {
                Ok(services) => Job { services, after, is_rollback }.run(&tools, &edge, &step).await,
                Err(failure) => Err(failure),
            };
            drop(events.send(Happening::JobEnded(name.clone(), outcome)));
        });
        self.jobs
            .insert(work, RunningJob { task: task.abort_handle(), asked, places, has_ended: false, is_ready: false });
    }

    /// Gives a release its place. What stands there and is the same release is adopted, and stays the way
    /// back until it is served again; anything else that is warm is displaced, and whole until the switch.
    fn move_in(&mut self, service: &ServiceName, slot: &Slot) -> Result<JobService, Failure> {
        let place = (service.clone(), slot.colour);
        let release = self.releases.get(&slot.release).cloned().ok_or_else(|| Failure {
            reason: format!("release {} of {service} was never sent to this host", slot.release.short()),
            log_tail: Vec::new(),
        })?;
        let before = self.state.places.get(&place);
        let is_adopted = before.is_some_and(|before| before.release.digest == release.digest);
        if !is_adopted {
            self.displace(&place);
            let berth = self.state.free_berth(service).ok_or_else(|| Failure {
                reason: format!(
                    "three releases of {service} stand on this host, one of them served by hand: \
                     `bgctl-agent switch {service} --resume` there makes room"
                ),
                log_tail: Vec::new(),
            })?;
            let standing = Standing { release: release.clone(), berth, generation: slot.generation, retired: None };
            // The same once more, after it was taken back and could not be cleared: it stays now.
            self.left(&standing);
            self.state.places.insert(place.clone(), standing);
        }
        let berth = self.state.places[&place].berth;
        let mooring = (service.clone(), berth);
        let is_warm = is_adopted && self.kept.get(&mooring).is_some_and(|kept| kept.health == Health::Healthy);
        if !is_warm {
            self.stop_keeping(&mooring);
        }
        let addresses = self.addresses(&release, berth)?;
        let (generation, colour) = (slot.generation, slot.colour);
        Ok(JobService { release, generation, colour, addresses, berth, is_adopted, is_warm })
    }

    /// Makes room in a place. Only what was once served is worth keeping.
    fn displace(&mut self, place: &Place) {
        let Some(before) = self.state.places.remove(place) else { return };
        let mooring = (place.0.clone(), before.berth);
        let is_worth_it = before.retired.is_some() || self.is_wanted(&mooring, &before);
        if is_worth_it && !self.state.displaced.contains_key(place) {
            self.state.displaced.insert(place.clone(), before);
        } else {
            self.clear_away(place, before);
        }
    }

    /// Takes back what a job did, in this process or in one before. What it had adopted stays warm.
    pub(super) fn undo(&mut self, work: &Work, services: &BTreeMap<ServiceName, Slot>) {
        let mut places: BTreeSet<_> = services.iter().map(|(name, slot)| (name.clone(), slot.colour)).collect();
        if let Some(job) = self.jobs.remove(work) {
            job.task.abort();
            places.extend(job.places);
        }
        for place in places {
            let stands = self.state.places.get(&place);
            let is_served = stands.is_some_and(|stands| self.is_wanted(&(place.0.clone(), stands.berth), stands));
            let is_way_back = stands.is_some_and(|standing| standing.retired.is_some());
            if is_served || is_way_back {
                continue;
            }
            if let Some(standing) = self.state.places.remove(&place) {
                self.clear_away(&place, standing);
            }
            if let Some(before) = self.state.displaced.remove(&place) {
                self.state.places.insert(place, before);
            }
        }
        self.edge.want(self.shape());
    }

    /// After a restart, what was promised or written down may still be starting: traffic waits until it has been
    /// seen healthy, and is tried again after that.
    fn not_seen_healthy(&self, services: &BTreeMap<ServiceName, Slot>) -> Option<String> {
        let moves = |(name, slot): &(&ServiceName, &Slot)| self.state.record.served().get(*name) != Some(*slot);
        let is_starting = |(name, slot): &(&ServiceName, &Slot)| {
            let berth = self.state.berth(name, slot);
            let kept = berth.and_then(|berth| self.kept.get(&((*name).clone(), berth)));
            kept.is_some_and(|kept| kept.health == Health::Starting)
        };
        let (name, slot) = services.iter().filter(moves).find(is_starting)?;
        Some(format!("{name} in {} has not been seen healthy since this agent started", slot.colour))
    }

    /// Whether this is what is applied or held, or where a switch leads that was not proven and is given up.
    fn is_wanted(&self, mooring: &Mooring, standing: &Standing) -> bool {
        if self.is_led_to(mooring) {
            return true;
        }
        let Record { applied, held, .. } = &self.state.record;
        let slots = [applied, held].into_iter().filter_map(|slots| slots.get(&mooring.0));
        let mut same = slots.filter(|slot| slot.release == standing.release.digest);
        same.any(|slot| self.state.berth(&mooring.0, slot).is_none_or(|berth| berth == mooring.1))
    }

    /// Whether users are led there, as far as anybody knows.
    pub(super) fn is_led_to(&self, mooring: &Mooring) -> bool {
        self.led.get(&mooring.0).is_some_and(|led| led.berth == mooring.1)
    }

    fn switch(&mut self, services: &BTreeMap<ServiceName, Slot>) {
        let to = self.routes(services);
        self.led.clone_from(&to);
        let (edge, events) = (self.edge.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = edge.switch(to).await;
            drop(events.send(Happening::Switched(outcome)));
        });
    }

    async fn store(&mut self, record: Record) -> Event {
        let mut next = crate::state::HostState { record, ..self.state.clone() };
        next.hands.retain(|service, _| next.record.held.contains_key(service));
        let is_promise = next.record.prepared.len() > self.state.record.prepared.len();
        let is_switch = next.record.applied != self.state.record.applied;
        if is_promise {
            crashpoint!("before_prepared_fsync");
        }
        if is_switch {
            crashpoint!("before_applied_fsync");
        }
        let written = self.write(&next).await;
        if is_promise {
            crashpoint!("after_prepared_fsync");
        }
        if is_switch {
            crashpoint!("after_applied_fsync");
        }
        match written {
            Ok(()) => {
                self.state = next;
                self.tried_again_for.clear();
                Event::Stored
            }
            Err(error) => Event::StoreFailed(error),
        }
    }

    /// Keeps what changed beside the protocol: places and addresses.
    pub(super) async fn persist(&mut self) {
        let state = self.state.clone();
        if let Err(error) = self.write(&state).await {
            tracing::error!(%error, "the journal was not written");
        }
    }

    /// Writes the journal, and remembers for `status` whether that went well.
    async fn write(&mut self, state: &crate::state::HostState) -> Result<(), String> {
        let outcome = self.journal.write(&Written::from(state)).await.map_err(|error| error.to_string());
        self.journal_trouble = outcome.as_ref().err().cloned().unwrap_or_default();
        outcome
    }

    /// After a proven switch: what takes traffic now is no longer retired, what did until now is.
    pub(super) fn retire_and_promote(&mut self) {
        let Some(services) = self.participant.switching().cloned() else { return };
        for (service, slot) in &services {
            self.promote(service, slot);
        }
        let state = &self.state;
        let is_served = |place: &Place| {
            let berth = services.get(&place.0).and_then(|slot| state.berth(&place.0, slot));
            berth.is_some() && state.places.get(place).map(|standing| standing.berth) == berth
        };
        self.jobs.retain(|_, job| !job.places.iter().all(is_served));
        self.serving = services;
    }

    /// Of one service: this slot takes its traffic now. What is held stays retired: it has served its time, and
    /// what is applied waits to serve again.
    pub(super) fn promote(&mut self, service: &ServiceName, slot: &Slot) {
        let Some((place, standing)) = self.state.behind(service, slot) else { return };
        let (place, berth, release) = (place.clone(), standing.berth, standing.release.clone());
        let is_held = self.state.record.held.get(service) == Some(slot);
        let applied = self.state.record.applied.get(service).filter(|_| !is_held);
        let before = [self.serving.get(service), applied].into_iter().flatten();
        let before: Vec<_> = before.filter_map(|slot| self.state.berth(service, slot)).collect();
        let stays = self.state.record.applied.get(service).filter(|_| is_held);
        let stays = stays.and_then(|slot| self.state.berth(service, slot));
        let retired = Retired::at(self.tools.clocks.now(), &release);
        for old in before.into_iter().filter(|old| *old != berth && Some(*old) != stays) {
            if let Some(standing) = self.state.moored_mut(&(service.clone(), old)) {
                standing.retired = Some(retired);
            }
        }
        if is_held {
            return;
        }
        if let Some(standing) = self.state.moored_mut(&(service.clone(), berth)) {
            standing.retired = None;
        }
        let is_in_place = self.state.places.get(&place).is_some_and(|standing| standing.berth == berth);
        if is_in_place && let Some(displaced) = self.state.displaced.remove(&place) {
            self.clear_away(&place, displaced);
        }
    }

    pub(super) fn tell_progress(&mut self, work: &Work, step: &Step) {
        let (Some(job), Work::Deployment(deployment)) = (self.jobs.get(work), work) else { return };
        let (phase, detail) = match step {
            Step::Pulling(detail) => (wire::Phase::Pulling, detail.clone()),
            Step::Starting(detail) => (wire::Phase::Starting, detail.clone()),
            Step::Probing(detail) => (wire::Phase::Probing, detail.clone()),
            Step::Ready => (wire::Phase::Ready, String::new()),
        };
        let elapsed = u64::try_from(job.asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        let progress =
            wire::Progress { deployment: deployment.to_string(), phase: phase.into(), detail, elapsed_micros: elapsed };
        self.send(|outbox| outbox.progress(progress));
    }
}

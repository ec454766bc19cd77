//! Writing the record, and what its answer allows; losing what was promised.

use super::{Effect, Participant, Record, Switching, Then, Work, Writing};
use crate::ids::{Colour, DeploymentId, ServiceName};
use crate::message::{Applied, Lost, Slot, Verdict};
use std::collections::{BTreeMap, BTreeSet};

impl Participant {
    pub(super) fn write(&mut self, record: Record, then: Then) -> Vec<Effect> {
        self.writing = Some(Writing { record: record.clone(), then });
        vec![Effect::Store(record)]
    }

    pub(super) fn stored(&mut self) -> Vec<Effect> {
        let Some(Writing { record, then }) = self.writing.take() else { return Vec::new() };
        let before = std::mem::replace(&mut self.record, record).served();
        // Nothing becomes ready while a record is being written.
        self.making.values_mut().for_each(|making| making.written = making.ready);
        let mut effects = Vec::new();
        match then {
            Then::Vote(deployment) => {
                self.making.remove(&Work::Deployment(deployment.clone()));
                effects.push(self.vote(deployment, Verdict::Yes));
            }
            Then::Acknowledge => effects.push(self.acknowledgement()),
            Then::MoveByHand(service) => {
                let (applied, held) = (self.record.applied.clone(), self.record.held.clone());
                effects.push(self.move_to(before, applied, held, BTreeSet::from([service])));
            }
            Then::Nothing => {}
        }
        effects.extend(self.follow());
        effects
    }

    pub(super) fn acknowledgement(&self) -> Effect {
        Effect::SendApplied(Applied { incarnation: self.record.incarnation, services: self.record.applied.clone() })
    }

    pub(super) fn store_failed(&mut self, reason: String) -> Vec<Effect> {
        let Some(writing) = self.writing.take() else { return Vec::new() };
        let reason = format!("cannot write the journal: {reason}");
        match &writing.then {
            Then::Vote(deployment) => self.cannot_promise(deployment.clone(), reason),
            Then::MoveByHand(service) => vec![Effect::Refuse { service: service.clone(), reason }],
            Then::Acknowledge | Then::Nothing => {
                self.unwritten = Some(writing);
                vec![Effect::RetryLater { reason }]
            }
        }
    }

    /// Without the promise on disk there is no promise.
    pub(super) fn cannot_promise(&mut self, deployment: DeploymentId, reason: String) -> Vec<Effect> {
        let work = Work::Deployment(deployment.clone());
        let mut effects = Vec::new();
        if let Some(making) = self.making.remove(&work) {
            effects.push(Effect::Discard { work, services: making.services });
        }
        effects.push(self.vote(deployment, Verdict::No(reason)));
        effects
    }

    pub(super) fn retry(&mut self) -> Vec<Effect> {
        self.resting.clear();
        if let Some(Writing { mut record, then }) = self.unwritten.take() {
            record.max_epoch = self.record.max_epoch;
            return self.write(record, then);
        }
        let went_dead =
            |(name, slot): (&ServiceName, &Slot)| self.moving_to(name).is_some() && self.is_dead(name, slot.colour);
        // What is moved to by hand was served before: no promise, and not what is known to be dead.
        let is_by_hand = |switching: &Switching| switching.applied == self.record.applied;
        let switching = self.switching.as_ref().filter(|switching| !is_by_hand(switching));
        let has_dead = switching.is_some_and(|switching| switching.services.iter().any(went_dead));
        // With nobody who says what to make ready instead, there is nothing better than where it leads.
        let is_given_up = has_dead && self.state.is_some();
        match &mut self.switching {
            Some(switching) if switching.has_failed && !is_given_up => {
                switching.has_failed = false;
                vec![Effect::Switch { services: switching.services.clone() }]
            }
            // There is nothing left in that place to be careful of.
            Some(Switching { services, moving, has_failed: true, .. }) => {
                let led = moving.iter().filter_map(|name| Some((name.clone(), services.get(name)?.generation)));
                self.given_up = led.collect();
                self.switching = None;
                self.follow()
            }
            Some(_) | None => self.follow(),
        }
    }

    pub(super) fn slot_died(&mut self, service: ServiceName, colour: Colour, reason: String) -> Vec<Effect> {
        let holds =
            |services: &BTreeMap<ServiceName, Slot>| services.get(&service).is_some_and(|slot| slot.colour == colour);
        let mut effects = Vec::new();
        let promised: Vec<_> = self.record.prepared.iter().filter(|(_, prepared)| holds(&prepared.services)).collect();
        for (deployment, _) in &promised {
            effects.push(self.lost((*deployment).clone(), reason.clone()));
        }
        let ready = self.making.values().any(|making| making.ready && holds(&making.services));
        if !promised.is_empty() || ready {
            self.dead.insert((service, colour));
        }
        effects
    }

    pub(super) fn lost(&self, deployment: DeploymentId, reason: String) -> Effect {
        Effect::SendLost(Lost { deployment, incarnation: self.record.incarnation, reason })
    }
}

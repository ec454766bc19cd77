//! Comparing what the store says with what is here, and acting on the difference.

use super::{Effect, Participant, Prepared, Record, Switching, Then, Work, is_at, served};
use crate::ids::{DeploymentId, Generation, ReleaseDigest, Revision, ServiceName};
use crate::message::{ServiceState, Slot, State};
use std::collections::{BTreeMap, BTreeSet};

impl Participant {
    pub(super) fn heard(&mut self, state: State) -> Vec<Effect> {
        let older = |known: &State| (state.epoch, state.revision) < (known.epoch, known.revision);
        if state.epoch < self.record.max_epoch || self.state.as_ref().is_some_and(older) {
            return Vec::new();
        }
        self.record.max_epoch = state.epoch;
        self.state = Some(state);
        self.follow()
    }

    /// Compares what the store says with what is here, and acts on the difference.
    pub(super) fn follow(&mut self) -> Vec<Effect> {
        if self.switching.is_some() || self.writing.is_some() || self.unwritten.is_some() {
            return Vec::new();
        }
        let Some(state) = self.state.clone() else { return Vec::new() };
        // What the store does not place here any more, or has gone back from, may lead anywhere. Old news say nothing.
        self.given_up.retain(|name, led| {
            let is_there = |service: &ServiceState| {
                service.pending.is_some() || service.committed.is_some_and(|committed| committed.generation >= *led)
            };
            state.revision.0 < led.0 || state.services.get(name).is_some_and(is_there)
        });
        let mut effects = self.stop_revoked_work(&state);
        let kept = self.without_revoked_promises(&state, &mut effects);
        if kept != self.record {
            effects.extend(self.write(kept, Then::Nothing));
            return effects;
        }
        effects.extend(self.advance(&state));
        effects
    }

    /// Whether this state says that the deployment of that generation is over and was not committed,
    /// or was overtaken. Older news than the promise itself say nothing.
    pub(super) fn revoked(
        state: &State,
        deployment: Option<&DeploymentId>,
        generation: Generation,
        revision: Revision,
        services: &BTreeMap<ServiceName, Slot>,
    ) -> bool {
        state.revision >= revision
            && services.keys().any(|name| {
                let service = state.services.get(name);
                let committed = service.and_then(|service| service.committed);
                let pending = service.and_then(|service| service.pending.as_ref());
                let is_committed = committed.is_some_and(|committed| committed.generation == generation);
                let is_pending = deployment.is_some() && pending == deployment;
                !is_committed && !is_pending
            })
    }

    pub(super) fn stop_revoked_work(&mut self, state: &State) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.making.retain(|work, making| {
            let deployment = match work {
                Work::Deployment(deployment) => Some(deployment),
                Work::CatchUp(_) => None,
            };
            let revoked = Self::revoked(state, deployment, making.generation, making.revision, &making.services);
            if revoked {
                effects.push(Effect::Discard { work: work.clone(), services: making.services.clone() });
            }
            !revoked
        });
        effects
    }

    pub(super) fn without_revoked_promises(&self, state: &State, effects: &mut Vec<Effect>) -> Record {
        let mut record = self.record.clone();
        record.prepared.retain(|deployment, prepared| {
            let Prepared { generation, revision, services } = &*prepared;
            let revoked = Self::revoked(state, Some(deployment), *generation, *revision, services);
            if revoked {
                let work = Work::Deployment(deployment.clone());
                effects.push(Effect::Discard { work, services: services.clone() });
            }
            !revoked
        });
        record
    }

    /// Switches to what is committed and ready here; makes ready what is committed and is not.
    pub(super) fn advance(&mut self, state: &State) -> Vec<Effect> {
        let mut behind: BTreeMap<Generation, BTreeMap<ServiceName, ReleaseDigest>> = BTreeMap::new();
        let mut effects = Vec::new();
        for (name, service) in &state.services {
            let Some(committed) = service.committed else { continue };
            let applied = self.record.applied.get(name);
            if applied.is_none_or(|slot| slot.generation < committed.generation) {
                behind.entry(committed.generation).or_default().insert(name.clone(), committed.release);
            } else if let Some(slot) = applied
                && slot.generation == committed.generation
                && slot.release != committed.release
            {
                effects.push(Effect::Alarm(format!(
                    "{name} at generation {} is release {} here and {} in the store",
                    slot.generation,
                    slot.release.short(),
                    committed.release.short()
                )));
            }
        }
        let mut next = self.record.applied.clone();
        let mut has_unwritten = false;
        for (generation, services) in behind {
            match self.slots_at(generation, &services) {
                Standing::Ready(slots) => next.extend(slots),
                Standing::Unwritten => has_unwritten = true,
                Standing::OnTheWay => {}
                Standing::OtherContent(reason) => effects.push(Effect::Alarm(reason)),
                Standing::Missing if self.resting.contains(&generation) || self.occupied(generation, &services) => {}
                Standing::Missing => effects.extend(self.catch_up(state, generation, services)),
            }
        }
        if has_unwritten {
            // A crash after the switch must find what stands in the place that takes the traffic.
            effects.extend(self.write(self.record.clone(), Then::Nothing));
        } else if next != self.record.applied && self.leads_on(&next) {
            // What is newer ends a hold: it was committed with everything known that led to it.
            let is_as_before = |name: &ServiceName| next.get(name) == self.record.applied.get(name);
            let held = self.record.held.iter().filter(|(name, _)| is_as_before(name));
            let held = held.map(|(name, slot)| (name.clone(), *slot)).collect();
            let moving = next.keys().filter(|name| !is_as_before(name)).cloned().collect();
            let before = self.record.served();
            effects.push(self.move_to(before, next, held, moving));
        }
        effects
    }

    /// Whether nothing goes back from where a switch that was given up may have led.
    fn leads_on(&self, next: &BTreeMap<ServiceName, Slot>) -> bool {
        let mut given_up = self.given_up.iter();
        given_up.all(|(name, generation)| next.get(name).is_some_and(|slot| slot.generation >= *generation))
    }

    /// Moves traffic to where it belongs with this applied and that held.
    pub(super) fn move_to(
        &mut self,
        before: BTreeMap<ServiceName, Slot>,
        applied: BTreeMap<ServiceName, Slot>,
        held: BTreeMap<ServiceName, Slot>,
        moving: BTreeSet<ServiceName>,
    ) -> Effect {
        let services = served(&applied, &held);
        let switching = Switching { services, moving, before, applied, held, has_failed: false };
        let effect = Effect::Switch { services: switching.services.clone() };
        self.switching = Some(switching);
        effect
    }

    fn slots_at(&self, generation: Generation, services: &BTreeMap<ServiceName, ReleaseDigest>) -> Standing {
        let promised = self.record.prepared.values().find(|prepared| prepared.generation == generation);
        let made = self.making.values().find(|making| making.generation == generation);
        // A repair in progress counts before the promise whose container died.
        let (slots, ready, written) = match (made, promised) {
            (Some(making), _) => (&making.services, making.ready, making.written),
            (None, Some(prepared)) => (&prepared.services, true, true),
            (None, None) => return Standing::Missing,
        };
        let mut found = BTreeMap::new();
        for (name, release) in services {
            let Some(slot) = slots.get(name) else { return Standing::Missing };
            if slot.release != *release {
                return Standing::OtherContent(format!(
                    "{name} at generation {generation} is release {} here and {} in the store",
                    slot.release.short(),
                    release.short()
                ));
            }
            if ready && self.is_dead(name, slot.colour) {
                return Standing::Missing;
            }
            found.insert(name.clone(), *slot);
        }
        match (ready, written) {
            (false, _) => Standing::OnTheWay,
            (true, false) => Standing::Unwritten,
            (true, true) => Standing::Ready(found),
        }
    }

    /// Whether the place where this would be made ready is taken by a promise or by other work.
    pub(super) fn occupied(&self, generation: Generation, services: &BTreeMap<ServiceName, ReleaseDigest>) -> bool {
        let promised = self.record.prepared.values().map(|prepared| (prepared.generation, &prepared.services));
        let made = self.making.values().map(|making| (making.generation, &making.services));
        promised
            .chain(made)
            .any(|(other, slots)| other != generation && services.keys().any(|name| slots.contains_key(name)))
    }

    pub(super) fn catch_up(
        &mut self,
        state: &State,
        generation: Generation,
        services: BTreeMap<ServiceName, ReleaseDigest>,
    ) -> Vec<Effect> {
        let slots = services.into_iter().map(|(name, release)| {
            let colour = self.standby(&name);
            (name, Slot { generation, release, colour })
        });
        let slots: BTreeMap<_, _> = slots.collect();
        self.make(Work::CatchUp(generation), generation, state.revision, slots)
    }

    pub(super) fn switched(&mut self) -> Vec<Effect> {
        let Some(Switching { services: _, moving: _, before: _, applied, held, has_failed: _ }) = self.switching.take()
        else {
            return Vec::new();
        };
        self.given_up.clear();
        let mut record = self.record.clone();
        self.making.retain(|_, making| !is_at(&applied, &making.services, making.generation));
        record.applied = applied;
        record.held = held;
        record.forget_kept_promises();
        self.write(record, Then::Acknowledge)
    }

    /// It may have been made all the same: what it led to is kept, and no other begins before it is proven.
    pub(super) fn switch_failed(&mut self, reason: String) -> Vec<Effect> {
        let Some(switching) = &mut self.switching else { return Vec::new() };
        switching.has_failed = true;
        vec![Effect::RetryLater { reason }]
    }
}

/// How far this host is with a committed generation.
enum Standing {
    /// Everything can be switched to.
    Ready(BTreeMap<ServiceName, Slot>),
    /// The same, once a record is written.
    Unwritten,
    /// It is being made ready.
    OnTheWay,
    /// The generation names something else here.
    OtherContent(String),
    /// Nothing is here, or what was here died.
    Missing,
}

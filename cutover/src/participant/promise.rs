//! Asked to prepare: refuse, or make ready and promise.

use super::{Effect, Making, Participant, Prepared, Then, UNWRITTEN, Work};
use crate::ids::{Colour, Generation, ReleaseDigest, Revision, ServiceName};
use crate::message::{Prepare, Slot, Verdict};
use std::collections::BTreeMap;

impl Participant {
    pub(super) fn prepare(&mut self, prepare: Prepare) -> Vec<Effect> {
        let Prepare { epoch, deployment, generation, revision, services } = prepare;
        if epoch < self.record.max_epoch {
            return Vec::new();
        }
        self.record.max_epoch = epoch;
        if let Some(prepared) = self.record.prepared.get(&deployment) {
            let dead = prepared.services.iter().find(|(name, slot)| self.is_dead(name, slot.colour));
            return match dead {
                Some((name, _)) => vec![self.lost(deployment.clone(), format!("{name} died after it was ready"))],
                None => vec![self.vote(deployment, Verdict::Yes)],
            };
        }
        let work = Work::Deployment(deployment.clone());
        if self.making.contains_key(&work) {
            return Vec::new();
        }
        if let Some(reason) = self.refusal(generation, &services) {
            return vec![self.vote(deployment, Verdict::No(reason))];
        }
        let slots = services.into_iter().map(|(name, release)| {
            let colour = self.standby(&name);
            (name, Slot { generation, release, colour })
        });
        let slots: BTreeMap<_, _> = slots.collect();
        let mut effects = self.give_way(&slots);
        effects.extend(self.make(work, generation, revision, slots));
        effects
    }

    /// A deployment replaces catching up: it brings what is newer.
    pub(super) fn give_way(&mut self, slots: &BTreeMap<ServiceName, Slot>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.making.retain(|work, making| {
            let stays = !making.services.keys().any(|name| slots.contains_key(name));
            if !stays {
                effects.push(Effect::Discard { work: work.clone(), services: making.services.clone() });
            }
            stays
        });
        effects
    }

    pub(super) fn refusal(
        &self,
        generation: Generation,
        services: &BTreeMap<ServiceName, ReleaseDigest>,
    ) -> Option<String> {
        for name in services.keys() {
            if let Some(slot) = self.record.applied.get(name)
                && generation <= slot.generation
            {
                return Some(format!("{name} is at generation {} already, asked for {generation}", slot.generation));
            }
            let promised = self.record.prepared.iter().find(|(_, prepared)| prepared.services.contains_key(name));
            if let Some((other, _)) = promised {
                return Some(format!("{name} is promised to deployment {other}, whose end is not known here yet"));
            }
            if let Some(slot) = self.moving_to(name) {
                return Some(format!(
                    "{name} is being switched to generation {}, which is not proven yet",
                    slot.generation
                ));
            }
            let made = self.making.iter().find(|(_, making)| making.services.contains_key(name));
            if let Some((Work::Deployment(other), _)) = made {
                return Some(format!("{name} is being made ready for deployment {other}"));
            }
        }
        if let Some((other, generation)) = self.given_up.iter().find(|(name, _)| !services.contains_key(*name)) {
            return Some(waits_for(other, *generation));
        }
        // What is served is not what the record says: the standby could be the place that takes traffic.
        self.unwritten.is_some().then(|| UNWRITTEN.to_owned())
    }

    /// Why nothing is switched here before something is ready again, if that is so.
    pub fn waits(&self) -> Option<String> {
        self.given_up.iter().next().map(|(name, generation)| waits_for(name, *generation))
    }

    /// The place that does not take the service's traffic.
    pub(super) fn standby(&self, service: &ServiceName) -> Colour {
        self.serving(service).map_or(Colour::Blue, |slot| slot.colour.other())
    }

    /// What takes the service's traffic, as far as it is written down.
    pub(super) fn serving(&self, service: &ServiceName) -> Option<&Slot> {
        self.record.held.get(service).or_else(|| self.record.applied.get(service))
    }

    /// Where a switch in progress moves this service, if it does.
    pub(super) fn moving_to(&self, service: &ServiceName) -> Option<&Slot> {
        let switching = self.switching.as_ref().filter(|switching| switching.moving.contains(service))?;
        switching.services.get(service)
    }

    pub(super) fn is_dead(&self, service: &ServiceName, colour: Colour) -> bool {
        self.dead.contains(&(service.clone(), colour))
    }

    pub(super) fn make(
        &mut self,
        work: Work,
        generation: Generation,
        revision: Revision,
        services: BTreeMap<ServiceName, Slot>,
    ) -> Vec<Effect> {
        let making = Making { generation, revision, services: services.clone(), ready: false, written: false };
        self.making.insert(work.clone(), making);
        vec![Effect::MakeReady { work, services }]
    }

    pub(super) fn ready(&mut self, work: Work) -> Vec<Effect> {
        let Some(making) = self.making.get_mut(&work) else { return Vec::new() };
        making.ready = true;
        for (name, slot) in &making.services {
            self.dead.remove(&(name.clone(), slot.colour));
        }
        match work {
            Work::CatchUp(_) => self.follow(),
            // A record that comes to disk later would not have the promise in it.
            Work::Deployment(deployment) if self.unwritten.is_some() => {
                self.cannot_promise(deployment, UNWRITTEN.to_owned())
            }
            Work::Deployment(deployment) => {
                let mut record = self.record.clone();
                let Making { generation, revision, services, ready: _, written: _ } = making.clone();
                record.prepared.insert(deployment.clone(), Prepared { generation, revision, services });
                self.write(record, Then::Vote(deployment))
            }
        }
    }

    pub(super) fn not_ready(&mut self, work: Work, reason: String) -> Vec<Effect> {
        let Some(making) = self.making.remove(&work) else { return Vec::new() };
        match work {
            Work::Deployment(deployment) => {
                let mut effects = vec![self.vote(deployment, Verdict::No(reason))];
                effects.extend(self.follow());
                effects
            }
            Work::CatchUp(generation) => {
                // It may have been a repair: a promise does not stand ready any more.
                self.dead.extend(making.services.into_iter().map(|(name, slot)| (name, slot.colour)));
                self.resting.insert(generation);
                vec![Effect::RetryLater { reason }]
            }
        }
    }
}

fn waits_for(name: &ServiceName, generation: Generation) -> String {
    format!(
        "{name} of this host may serve generation {generation}, whose container died before nginx was seen following; \
         nothing else is switched before it is ready again"
    )
}

//! What the host tells of itself, on change.

use super::Agent;
use crate::executor::keep::Health;
use crate::state::Standing;
use bgctl_proto::session as wire;
use cutover::ids::ServiceName;
use cutover::participant::Record;

impl Agent {
    pub(super) fn tell_health(&mut self) {
        let health = self.health();
        if self.outbox.is_some() && self.told_health.as_ref() != Some(&health) {
            if let Some(outbox) = &self.outbox {
                outbox.health(health.clone());
            }
            self.told_health = Some(health);
        }
    }

    fn health(&self) -> wire::Health {
        let serving = |service: &ServiceName| {
            let Record { applied, held, .. } = &self.state.record;
            let slot = held.get(service).or(applied.get(service))?;
            Some((self.state.berth(service, slot)?, *slot))
        };
        let is_served = |service: &ServiceName, standing: &Standing| {
            serving(service).is_some_and(|(berth, _)| berth == standing.berth)
        };
        // What was displaced speaks for nothing, unless it serves by hand.
        let displaced = self.state.displaced.iter().filter(|(place, standing)| is_served(&place.0, standing));
        let slots = self.state.places.iter().chain(displaced).map(|((service, colour), standing)| {
            let health =
                self.kept.get(&(service.clone(), standing.berth)).map_or(&Health::Starting, |kept| &kept.health);
            let (condition, detail) = match health {
                Health::Starting => (wire::SlotCondition::Starting, String::new()),
                Health::Healthy => (wire::SlotCondition::Healthy, String::new()),
                Health::Unhealthy(detail) => (wire::SlotCondition::Unhealthy, detail.clone()),
                Health::Dead(detail) => (wire::SlotCondition::Dead, detail.clone()),
            };
            let active = serving(service).filter(|(berth, _)| *berth == standing.berth).map(|(_, slot)| slot);
            wire::SlotHealth {
                service: service.to_string(),
                colour: wire::Colour::from(*colour).into(),
                // What was adopted stands since an earlier generation than the one it serves.
                generation: active.map_or(standing.generation, |slot| slot.generation).0,
                release: standing.release.digest.0.to_vec(),
                condition: condition.into(),
                detail,
                active: active.is_some(),
            }
        });
        let held = self.state.record.held.iter().map(|(service, slot)| {
            let hand = self.state.hands.get(service);
            let standing = self.state.behind(service, slot).map(|(_, standing)| standing);
            wire::Held {
                service: service.to_string(),
                slot: Some((*slot).into()),
                at_unix_millis: hand.map_or(0, |hand| hand.at_unix_millis),
                uid: hand.map_or(0, |hand| hand.uid),
                version: standing.map(|standing| standing.release.version.clone()).unwrap_or_default(),
            }
        });
        let waits = self.participant.waits().unwrap_or_default();
        let alarms = self.alarms.iter().chain([&self.estrangement, &self.readiness_trouble, &waits]);
        let not_ready = self.told_ready.services.iter().filter(|(_, answer)| !answer.is_ready);
        let not_ready = not_ready.map(|(service, answer)| (service.to_string(), answer.line.clone()));
        wire::Health {
            slots: slots.collect(),
            docker_trouble: self.docker_trouble.clone(),
            nginx_trouble: self.nginx_trouble.clone(),
            journal_trouble: self.journal_trouble.clone(),
            alarms: alarms.filter(|told| !told.is_empty()).cloned().collect(),
            warnings: self.docker_warnings.clone(),
            held: held.collect(),
            not_ready: not_ready.collect(),
        }
    }
}

//! Moving traffic by hand: what an operator on the host may do when nobody else can.
//!
//! It is written down before it is done, so that a restart leads to where the operator wanted to be. What is
//! applied keeps its generation: to the store, this host is where it was.

use super::{Effect, Participant, Then, UNWRITTEN};
use crate::ids::ServiceName;
use crate::message::Slot;

impl Participant {
    pub(super) fn hold(&mut self, service: ServiceName, slot: Slot) -> Vec<Effect> {
        let Some(applied) = self.record.applied.get(&service) else {
            return refuse(service, "nothing is applied here, so there is nothing to hold in its place");
        };
        if *applied == slot {
            return self.resume(service);
        }
        if self.record.held.get(&service) == Some(&slot) {
            return Vec::new();
        }
        if slot.generation >= applied.generation {
            // Of a deployment that is not decided: S4 is not for an operator to give up.
            return refuse(service, "it was never committed");
        }
        self.by_hand(service, Some(slot))
    }

    pub(super) fn resume(&mut self, service: ServiceName) -> Vec<Effect> {
        if !self.record.held.contains_key(&service) {
            return Vec::new();
        }
        self.by_hand(service, None)
    }

    fn by_hand(&mut self, service: ServiceName, slot: Option<Slot>) -> Vec<Effect> {
        if self.switching.is_some() {
            return refuse(service, "a switch of this host is under way and not proven yet; try again");
        }
        if let Some((other, generation)) = self.given_up.iter().find(|(other, _)| **other != service) {
            let reason = format!(
                "{other} may be led to generation {generation}, whose container died, and nothing else is moved before \
                 it is ready again; an agent that is restarted takes {other} as it is led"
            );
            return refuse(service, &reason);
        }
        if self.unwritten.is_some() {
            return refuse(service, UNWRITTEN);
        }
        let mut record = self.record.clone();
        match slot {
            Some(slot) => drop(record.held.insert(service.clone(), slot)),
            None => drop(record.held.remove(&service)),
        }
        self.write(record, Then::MoveByHand(service))
    }
}

fn refuse(service: ServiceName, reason: &str) -> Vec<Effect> {
    vec![Effect::Refuse { service, reason: reason.to_owned() }]
}

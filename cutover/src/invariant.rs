//! What must hold, numbered as in the failure matrix. Each is written once and called by the unit
//! walk, the model, the simulation and the end-to-end tests.

use crate::ids::{Colour, DeploymentId, Epoch, Generation, HostId, ReleaseDigest, ServiceName};
use crate::message::{Applied, Committed, Outcome, Participants, Slot};
use crate::participant::Record;
use std::collections::{BTreeMap, BTreeSet};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{number}: {detail}")]
pub struct Violation {
    /// `S2`, `S4`, ...
    pub number: &'static str,
    /// Who and what.
    pub detail: String,
}

fn require(number: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { number, detail: detail() }) }
}

/// S1: what was decided once stays decided so.
pub fn decided_once(deployment: &DeploymentId, before: Option<Outcome>, after: Outcome) -> Result<(), Violation> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Commit => "commit",
        Outcome::Abort => "abort",
    };
    before.iter().try_for_each(|before| {
        let detail = || format!("{deployment} was decided to {} and then to {}", word(before), word(&after));
        require("S1", *before == after, detail)
    })
}

/// S2: at the moment of a commit, every participant's disk holds its promise, in the life it was counted for.
pub fn commit_has_every_promise(
    generation: Generation,
    participants: &Participants,
    disks: &BTreeMap<HostId, Record>,
) -> Result<(), Violation> {
    participants.iter().try_for_each(|(host, incarnation)| {
        let promised = disks.get(host).is_some_and(|record| {
            record.incarnation == *incarnation
                && record.prepared.values().any(|prepared| prepared.generation == generation)
        });
        require("S2", promised, || format!("generation {generation} committed without the promise of {host}"))
    })
}

/// S3: from its yes until it knows the outcome, a host stays able to apply. To be asked of the life that said
/// yes, for a deployment that is pending, or that is what its services stand committed at.
pub fn promise_is_kept(
    host: &HostId,
    record: &Record,
    deployment: &DeploymentId,
    generation: Generation,
    services: &BTreeMap<ServiceName, ReleaseDigest>,
) -> Result<(), Violation> {
    let promised = record.prepared.get(deployment).is_some_and(|prepared| prepared.generation == generation);
    let reached = |name| record.applied.get(name).is_some_and(|slot| slot.generation >= generation);
    require("S3", promised || services.keys().all(reached), || {
        format!("{host} said yes to {deployment} and could not apply it")
    })
}

/// S4: a host serves only what was committed at the generation it serves, also by hand.
pub fn serves_only_committed(
    host: &HostId,
    record: &Record,
    history: &BTreeMap<(ServiceName, Generation), ReleaseDigest>,
) -> Result<(), Violation> {
    record.applied.iter().chain(&record.held).try_for_each(|(name, slot)| {
        let committed = history.get(&(name.clone(), slot.generation)) == Some(&slot.release);
        require("S4", committed, || format!("{host} serves {name} generation {}, never committed so", slot.generation))
    })
}

/// S4, for what users see: the switch points only at what was committed, and not at what is not committed yet.
pub fn routes_only_to_committed(
    host: &HostId,
    served: &BTreeMap<ServiceName, Slot>,
    history: &BTreeMap<(ServiceName, Generation), ReleaseDigest>,
) -> Result<(), Violation> {
    served.iter().try_for_each(|(name, slot)| {
        let committed = history.get(&(name.clone(), slot.generation)) == Some(&slot.release);
        require("S4", committed, || {
            format!("{host} routes {name} to generation {}, never committed so", slot.generation)
        })
    })
}

/// S4, second half: no host is ahead of the store.
pub fn never_ahead(
    host: &HostId,
    served: &BTreeMap<ServiceName, Slot>,
    committed: &BTreeMap<ServiceName, Committed>,
) -> Result<(), Violation> {
    served.iter().try_for_each(|(name, slot)| {
        let behind = committed.get(name).is_some_and(|truth| slot.generation <= truth.generation);
        require("S4", behind, || format!("{host} is ahead of the store with {name} generation {}", slot.generation))
    })
}

/// S5: a host's generation of a service never falls.
pub fn generation_never_falls(host: &HostId, before: &Record, after: &Record) -> Result<(), Violation> {
    served_never_goes_back(host, &before.applied, &after.applied)
}

/// S5 for what users see, which is the switch on disk and not the record.
pub fn served_never_goes_back(
    host: &HostId,
    before: &BTreeMap<ServiceName, Slot>,
    after: &BTreeMap<ServiceName, Slot>,
) -> Result<(), Violation> {
    before.iter().try_for_each(|(name, slot)| {
        let kept = after.get(name).is_some_and(|next| next.generation >= slot.generation);
        require("S5", kept, || format!("{host} went back from {name} generation {}", slot.generation))
    })
}

/// S7 and S8: what the switch on disk serves is among what the host knows it must keep.
pub fn served_is_kept(
    host: &HostId,
    served: &BTreeMap<ServiceName, Slot>,
    needed: &BTreeSet<(ServiceName, Colour)>,
) -> Result<(), Violation> {
    served.iter().try_for_each(|(name, slot)| {
        let kept = needed.contains(&(name.clone(), slot.colour));
        require("S8", kept, || format!("{host} serves {name} from {}, which it would let go", slot.colour))
    })
}

/// S5, second part: one generation has one content on a host.
pub fn one_content_per_generation(host: &HostId, before: &Record, after: &Record) -> Result<(), Violation> {
    before.applied.iter().try_for_each(|(name, slot)| {
        let other = after
            .applied
            .get(name)
            .is_some_and(|next| next.generation == slot.generation && next.release != slot.release);
        require("S5", !other, || format!("{host} changed the content of {name} generation {}", slot.generation))
    })
}

/// S5, third part: what is held by hand ends with the next generation, and is never what is applied.
pub fn a_hold_ends_with_the_next_generation(host: &HostId, before: &Record, after: &Record) -> Result<(), Violation> {
    after.held.iter().try_for_each(|(name, slot)| {
        let is_older = after.applied.get(name).is_some_and(|applied| slot.generation < applied.generation);
        require("S5", is_older, || {
            format!("{host} holds {name} generation {}, not older than applied", slot.generation)
        })?;
        let generation = |record: &Record| record.applied.get(name).map(|applied| applied.generation);
        let ended = before.held.contains_key(name) && generation(before) != generation(after);
        require("S5", !ended, || format!("{host} holds {name} generation {} beyond its end", slot.generation))
    })
}

/// S7: what is made ready is made beside what takes traffic, never in its place. The same release in the same place
/// is adopted, not made: half of a group whose other half died is such a case.
pub fn makes_ready_beside_what_serves(
    host: &HostId,
    services: &BTreeMap<ServiceName, Slot>,
    served: &BTreeMap<ServiceName, Slot>,
) -> Result<(), Violation> {
    services.iter().try_for_each(|(name, slot)| {
        let is_other = |serving: &Slot| serving.colour != slot.colour || serving.release == slot.release;
        let beside = served.get(name).is_none_or(is_other);
        require("S7", beside, || format!("{host} makes {name} ready at {}, which takes its traffic", slot.colour))
    })
}

/// S6: only the leader of the present epoch changes the store.
pub fn only_the_leader_writes(writer: Epoch, leader: Epoch) -> Result<(), Violation> {
    require("S6", writer == leader, || format!("epoch {writer} wrote while epoch {leader} led"))
}

/// S9: a deployment that is open holds all its services, or none once it is over. `open`: for each service the
/// deployment that holds it.
pub fn groups_are_whole(
    deployment: &DeploymentId,
    services: &BTreeMap<ServiceName, ReleaseDigest>,
    open: &BTreeMap<ServiceName, DeploymentId>,
) -> Result<(), Violation> {
    let strays = open.iter().find(|(name, holder)| *holder == deployment && !services.contains_key(*name));
    strays.iter().try_for_each(|(name, _)| {
        require("S9", false, || format!("{deployment} holds {name}, which is not among its services"))
    })?;
    let held = services.keys().filter(|name| open.get(*name) == Some(deployment)).count();
    let whole = held == 0 || held == services.len();
    require("S9", whole, || format!("{deployment} holds {held} of its {} services", services.len()))
}

/// S10: a host says applied only of what takes its traffic. Not to be asked while something is held by hand.
pub fn acknowledges_only_what_it_serves(
    applied: &Applied,
    served: &BTreeMap<ServiceName, Slot>,
) -> Result<(), Violation> {
    applied.services.iter().try_for_each(|(name, slot)| {
        let serves = served.get(name).is_some_and(|there| there.generation >= slot.generation);
        require("S10", serves, || format!("{name} generation {} was acknowledged and is not served", slot.generation))
    })
}

/// S10, for a deployment: once its leader says that all applied it, every host that took part serves it or what
/// came after.
pub fn what_was_acknowledged_is_served(
    host: &HostId,
    served: &BTreeMap<ServiceName, Slot>,
    services: &BTreeMap<ServiceName, ReleaseDigest>,
    generation: Generation,
) -> Result<(), Violation> {
    services.keys().try_for_each(|name| {
        let serves = served.get(name).is_some_and(|slot| slot.generation >= generation);
        require("S10", serves, || format!("{host} counts as serving {name} generation {generation}, and does not"))
    })
}

/// L2, in a fleet at rest: every host serves what the store says.
pub fn converged(
    host: &HostId,
    record: &Record,
    committed: &BTreeMap<ServiceName, Committed>,
) -> Result<(), Violation> {
    committed.iter().try_for_each(|(name, truth)| {
        let there = record
            .applied
            .get(name)
            .is_some_and(|slot| slot.generation == truth.generation && slot.release == truth.release);
        require("L2", there, || format!("{host} does not serve {name} generation {}", truth.generation))
    })?;
    require("L3", record.prepared.is_empty(), || format!("{host} is still in doubt"))
}

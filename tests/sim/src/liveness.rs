//! What must come to hold once everything is healed, and by when.

use crate::check::Seen;
use crate::fleet::{DRAIN, Fleet, KEEP_STANDBY, PREPARE_TIMEOUT};
use cutover::invariant;
use std::collections::BTreeSet;
use std::time::Duration;

/// The lease of a leader, as the store's configuration has it.
const TTL: Duration = Duration::from_secs(5);

/// The simulated network never sends again what was lost in a partition: a connection that met one is dead until its
/// pings say so. Then it is dialled again, after a pause of up to ten seconds.
const LINK_WITHIN: Duration = Duration::from_secs(13 + 10);

/// L4: somebody leads.
pub const LEADER_WITHIN: Duration =
    TTL.saturating_mul(2).saturating_add(Duration::from_secs(3)).saturating_add(LINK_WITHIN);

/// L1 and L5: nothing is open.
pub const DECIDED_WITHIN: Duration =
    LEADER_WITHIN.saturating_add(PREPARE_TIMEOUT).saturating_add(Duration::from_secs(5));

/// L2 and L3: every host serves what is committed, and nobody is in doubt. A pull that stood still when the world was
/// healed is given up after four minutes only.
pub const CONVERGED_WITHIN: Duration = DECIDED_WITHIN.saturating_add(Duration::from_secs(4 * 60 + 30));

/// L6, after that: nothing stands that is not served.
pub const CLEAN_WITHIN: Duration = KEEP_STANDBY.saturating_add(DRAIN).saturating_add(Duration::from_secs(60));

/// How long each took, in milliseconds since the world was healed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reached {
    /// L4.
    pub leader: Option<u64>,
    /// L1, L5.
    pub decided: Option<u64>,
    /// L2, L3.
    pub converged: Option<u64>,
    /// L6.
    pub clean: Option<u64>,
}

impl Reached {
    /// Looks what holds now. True: everything does.
    pub fn look(&mut self, healed_for: Duration, fleet: &Fleet, off: &BTreeSet<String>) -> bool {
        let millis = u64::try_from(healed_for.as_millis()).unwrap_or(u64::MAX);
        let seen = fleet.checks.seen();
        let note = |slot: &mut Option<u64>, holds: bool| {
            if !holds {
                *slot = None;
            } else if slot.is_none() {
                *slot = Some(millis);
            }
        };
        note(&mut self.leader, seen.epoch > 0 && seen.taken_over == seen.epoch);
        note(&mut self.decided, self.leader.is_some() && seen.pending.is_empty());
        note(&mut self.converged, self.decided.is_some() && not_converged(&seen).is_none());
        let leftovers = self.converged.is_some() && left_over(&seen, off).is_none();
        note(&mut self.clean, leftovers);
        self.clean.is_some()
    }

    /// The bound that is broken by now, if one is.
    pub fn overdue(&self, healed_for: Duration, fleet: &Fleet, off: &BTreeSet<String>) -> Option<String> {
        let seen = fleet.checks.seen();
        let late = |slot: Option<u64>, within: Duration| slot.is_none() && healed_for > within;
        if late(self.leader, LEADER_WITHIN) {
            return Some(format!("L4: nobody leads {healed_for:?} after everything was healed"));
        }
        if late(self.decided, DECIDED_WITHIN) {
            return Some(format!("L1: {:?} still open {healed_for:?} after everything was healed", seen.pending));
        }
        if late(self.converged, CONVERGED_WITHIN) {
            let what = not_converged(&seen).unwrap_or_default();
            return Some(format!("{what}, {healed_for:?} after everything was healed"));
        }
        let converged = self.converged.map(Duration::from_millis)?;
        if late(self.clean, converged + CLEAN_WITHIN) {
            let what = left_over(&seen, off).unwrap_or_default();
            return Some(format!("L6: {what}, {healed_for:?} after everything was healed"));
        }
        None
    }
}

fn not_converged(seen: &Seen) -> Option<String> {
    let missing = seen.proxies.keys().find(|host| !seen.disks.contains_key(*host));
    if let Some(host) = missing {
        return Some(format!("L2: {host} has no journal"));
    }
    let records = seen.disks.iter().map(|(host, state)| invariant::converged(host, &state.record, &seen.committed));
    if let Some(violation) = records.filter_map(Result::err).next() {
        return Some(violation.to_string());
    }
    // And it is what users get.
    for (host, proxy) in &seen.proxies {
        let flags = proxy.users_get();
        for (service, truth) in &seen.committed {
            let flag = flags.as_ref().and_then(|flags| flags.services.get(service).copied().flatten());
            if flag.is_none_or(|flag| flag.generation != truth.generation) {
                return Some(format!("L2: users of {host} do not get {service} {}", truth.generation));
            }
        }
    }
    None
}

/// A container that is not served any more. On a machine whose clock was wrong the way back may be kept for that long.
fn left_over(seen: &Seen, off: &BTreeSet<String>) -> Option<String> {
    let hosts = seen.engines.iter().filter(|(host, _)| !off.contains(host.as_str()));
    for (host, engine) in hosts {
        let Some(state) = seen.disks.get(host) else { continue };
        // One that it lists has its keeper, which leaves it alone while it serves.
        let listed = engine.listed(host);
        if let Some(stray) = engine.lost_track().iter().find(|stray| listed.iter().all(|facts| facts.id != stray.id)) {
            return Some(format!("{host} still has {stray}, which its Docker does not know"));
        }
        for facts in listed {
            let labels = &facts.labels;
            let Some(slot) = state.record.applied.get(&labels.service) else { continue };
            if slot.release != labels.release || slot.colour != labels.colour {
                return Some(format!("{host} still has {} {} in {}", labels.service, labels.generation, labels.berth));
            }
        }
    }
    None
}

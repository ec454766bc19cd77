//! The numbers of a switch. Each host's moment is placed on the controller's clock without trusting the
//! host's: between when it was told plus its own time to the rename, and when it acknowledged minus its
//! own time since. The middle counts, half the gap is the error.

use super::{Run, micros};
use crate::report::{HostPhase, Summary};
use bgctl_proto::session as wire;
use cutover::coordinator::Event;
use cutover::ids::{HostId, ServiceName};
use cutover::message::Slot;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Measured {
    /// From the request to the last yes.
    pub prepared: Option<Duration>,
    /// To the store's word.
    pub decided: Option<Duration>,
    /// To the last acknowledgement.
    pub applied: Option<Duration>,
    moments: BTreeMap<HostId, Moment>,
}

#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    error: Duration,
}

impl Run {
    /// A host says what it serves. Counts if that is this deployment's generation or a later one.
    pub(super) fn applied(
        &mut self,
        host: HostId,
        slots: &BTreeMap<ServiceName, Slot>,
        times: Option<wire::SwitchTimes>,
        at: Instant,
    ) -> Option<Event> {
        let generation = self.opening.generation;
        let slot = slots.get(&self.service).filter(|slot| slot.generation >= generation)?;
        let moment = times.filter(|_| slot.generation == generation).and_then(|times| self.moment(&host, &times, at));
        let switched = self
            .asked
            .get(&host)
            .zip(moment)
            .map(|(asked, moment)| micros(moment.at.saturating_duration_since(*asked)));
        // A host that proves the same again later, or caught up, has not moved this deployment's traffic.
        let is_first = self.measured.applied.is_none() && !self.measured.moments.contains_key(&host);
        self.story.change_host(&host, |part| {
            part.phase = HostPhase::Switched;
            part.colour = slot.colour.to_string();
            part.detail.clear();
            if is_first && let (Some(switched), Some(times)) = (switched, times) {
                part.switched_micros = switched;
                part.rename_micros = times.rename_micros;
                part.proof_micros = times.rename_to_proof_micros;
            }
        });
        if let Some(moment) = moment.filter(|_| is_first) {
            self.measured.moments.insert(host.clone(), moment);
        }
        Some(Event::Applied { host })
    }

    fn moment(&self, host: &HostId, times: &wire::SwitchTimes, at: Instant) -> Option<Moment> {
        let told = self.leader.fleet.state_sent(host)?;
        let earliest = told + Duration::from_micros(times.state_to_rename_micros);
        let latest = at.checked_sub(Duration::from_micros(times.rename_to_sent_micros))?;
        let gap = latest.saturating_duration_since(earliest);
        Some(Moment { at: earliest + gap / 2, error: gap / 2 })
    }

    /// The summary, once something was switched.
    pub(super) fn summary(&self) -> Option<Summary> {
        let Measured { prepared, decided, applied, moments } = &self.measured;
        let first = moments.values().map(|moment| moment.at).min()?;
        let last = moments.values().map(|moment| moment.at).max()?;
        let error = moments.values().map(|moment| moment.error).max()?;
        let spent = |duration: &Option<Duration>| duration.map_or(0, micros);
        Some(Summary {
            skew_micros: micros(last.duration_since(first)),
            skew_error_micros: micros(error),
            prepared_micros: spent(prepared),
            decided_micros: spent(decided),
            applied_micros: spent(applied),
        })
    }
}

//! What must hold at every moment, checked where it could be broken: when etcd applies, when a disk has synced, when
//! a container is taken away, and after every step. The invariants are `cutover`'s own.

use crate::plan::Moment;
use crate::proxy::SimProxy;
use crate::timeline::Timeline;
use bgctl_agent::docker::fake::FakeEngine;
use bgctl_agent::docker::{Condition, ContainerFacts};
use bgctl_agent::nginx::Flags;
use bgctl_agent::state::{HostState, Written};
use bgctl_controller::records::{self, AuditRecord, DeploymentRecord, OutcomeRecord, ServiceRecord};
use cutover::ids::{DeploymentId, Generation, HostId, ReleaseDigest, ServiceName};
use cutover::invariant;
use cutover::message::{Committed, Participants, Slot};
use cutover::participant::Record;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::etcd::{Applied, Change};

/// What all keys of the store start with.
pub const PREFIX: &str = "/bg/v1/";

/// Everything that was seen. Clones are the same one.
#[derive(Clone)]
pub struct Checks {
    seen: Arc<Mutex<Seen>>,
    timeline: Timeline,
}

/// What is known of the fleet, from where it is true.
#[derive(Default)]
pub struct Seen {
    /// Every commit there ever was.
    pub history: BTreeMap<(ServiceName, Generation), ReleaseDigest>,
    /// The newest of each service.
    pub committed: BTreeMap<ServiceName, Committed>,
    /// What is open: deployment and generation.
    pub pending: BTreeMap<String, (String, u64)>,
    /// As they were opened.
    pub deployments: BTreeMap<String, DeploymentRecord>,
    /// The promises each commit rests on.
    rests_on: BTreeMap<String, Participants>,
    /// How they ended.
    pub outcomes: BTreeMap<String, String>,
    /// What each host's disk holds for good.
    pub disks: BTreeMap<HostId, HostState>,
    /// What stood on disks that were lost, until the store is told of the new life: nobody can know before.
    lost: BTreeMap<HostId, Record>,
    /// Every host's nginx.
    pub proxies: BTreeMap<HostId, SimProxy>,
    /// Every host's Docker.
    pub engines: BTreeMap<HostId, FakeEngine>,
    /// The create revision of the leader key; 0: nobody leads.
    pub epoch: u64,
    /// The newest epoch in which its leader has written. Where the store is full, that it leads is a removal.
    pub taken_over: u64,
    /// How often each moment came.
    moments: BTreeMap<Moment, u64>,
    /// Aborts without a record, for want of space.
    pub silent_aborts: usize,
    /// What users of each host got last.
    pub served: BTreeMap<HostId, BTreeMap<ServiceName, Slot>>,
    /// What does not hold.
    pub violations: Vec<String>,
}

impl Seen {
    /// How often this moment came so far.
    pub fn moments(&self, moment: Moment) -> u64 {
        self.moments.get(&moment).copied().unwrap_or_default()
    }

    fn came(&mut self, moment: Moment) {
        *self.moments.entry(moment).or_default() += 1;
    }

    /// What counts as promised.
    fn records(&self) -> BTreeMap<HostId, Record> {
        let mut records = self.disks.iter().map(|(host, state)| (host.clone(), state.record.clone())).collect();
        BTreeMap::append(&mut records, &mut self.lost.clone());
        records
    }
}

impl Checks {
    /// Nothing was seen yet.
    pub fn new(timeline: Timeline) -> Self {
        Self { seen: Arc::default(), timeline }
    }

    /// What was seen.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless somebody looks right now.
    pub fn try_seen(&self) -> Option<MutexGuard<'_, Seen>> {
        self.seen.try_lock().ok()
    }

    fn require(&self, seen: &mut Seen, outcome: Result<(), impl ToString>) {
        if let Err(violation) = outcome {
            let text = violation.to_string();
            if !seen.violations.contains(&text) {
                self.timeline.say("CHECK", format!("!! {text}"));
                seen.violations.push(text);
            }
        }
    }

    /// etcd has applied something.
    pub fn applied(&self, applied: &Applied) {
        let mut seen = self.seen();
        let keys: Vec<_> = applied.changes.iter().map(|change| change.key.trim_start_matches(PREFIX)).collect();
        let writes = |prefix: &str| keys.iter().any(|key| key.starts_with(prefix));
        let is_election = keys.iter().all(|key| *key == "leader");
        // That a controller exists is its own to say; nothing is decided by it.
        let is_presence = keys.iter().all(|key| key.starts_with("replica/"));
        let guard = applied.guards.iter().find(|(key, _)| key.trim_start_matches(PREFIX) == "leader");
        let epoch = i64::try_from(seen.epoch).unwrap_or(i64::MAX);
        let is_guarded = guard.is_some_and(|(_, created)| *created == Some(epoch)) && seen.epoch > 0;
        if is_guarded {
            seen.taken_over = seen.epoch;
        }
        if !is_election && !is_presence {
            let detail = || format!("S6: {} written at {} without the present epoch", keys.join(" "), applied.revision);
            self.require(&mut seen, is_guarded.then_some(()).ok_or_else(detail));
        }
        let is_change = ["spec/", "svc/", "deploy/", "outcome/", "agent/"].iter().any(|prefix| {
            let put =
                |change: &Change| change.value.is_some() && change.key.trim_start_matches(PREFIX).starts_with(prefix);
            applied.changes.iter().any(put)
        });
        let actors =
            applied.changes.iter().filter(|change| change.key.trim_start_matches(PREFIX).starts_with("audit/"));
        let has_actor = actors
            .filter_map(|change| change.value.as_deref())
            .any(|value| records::read::<AuditRecord>("audit", value).is_ok_and(|record| !record.actor.is_empty()));
        let detail = || format!("S12: {} written at {} without an actor", keys.join(" "), applied.revision);
        self.require(&mut seen, (!is_change || has_actor).then_some(()).ok_or_else(detail));
        if writes("pending/") && !writes("outcome/") && !writes("deploy/") {
            seen.silent_aborts += 1;
        }
        for change in &applied.changes {
            self.changed(&mut seen, applied.revision, change);
        }
    }

    fn changed(&self, seen: &mut Seen, revision: u64, change: &Change) {
        let key = change.key.trim_start_matches(PREFIX);
        let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
        match (kind, change.value.as_deref()) {
            ("leader", Some(value)) => {
                let detail = || format!("S6: two leaders at {revision}");
                let is_free = seen.epoch == 0;
                self.require(seen, is_free.then_some(()).ok_or_else(detail));
                seen.epoch = change.create_revision;
                self.timeline.say("etcd", format!("epoch {revision}: {}", String::from_utf8_lossy(value)));
            }
            ("leader", None) => {
                seen.epoch = 0;
                self.timeline.say("etcd", "nobody leads");
            }
            ("agent", _) => {
                if let Ok(host) = rest.parse::<HostId>() {
                    seen.lost.remove(&host);
                }
            }
            ("deploy", Some(value)) => match records::read::<DeploymentRecord>(key, value) {
                Ok(record) => drop(seen.deployments.insert(rest.to_owned(), record)),
                Err(error) => self.require(seen, Err(error)),
            },
            ("pending", Some(value)) => {
                let deployment = String::from_utf8_lossy(value).into_owned();
                let open = seen.pending.get(rest).cloned();
                let detail = || format!("S9: {rest} had {open:?} open when {deployment} was opened");
                self.require(seen, open.is_none().then_some(()).ok_or_else(detail));
                self.timeline.say("etcd", format!("{deployment} opened at generation {revision}"));
                seen.pending.insert(rest.to_owned(), (deployment, revision));
                seen.came(Moment::Opened);
            }
            ("pending", None) => drop(seen.pending.remove(rest)),
            ("outcome", Some(value)) => {
                let Ok(record) = records::read::<OutcomeRecord>(key, value) else {
                    return self.require(seen, Err(format!("S1: {key} cannot be read")));
                };
                let lives = record.participants.iter();
                let lives = lives.filter_map(|(host, life)| Some((host.parse().ok()?, life.parse().ok()?)));
                seen.rests_on.insert(rest.to_owned(), lives.collect());
                let outcome = record.outcome;
                let before = seen.outcomes.insert(rest.to_owned(), outcome.clone());
                let detail = || format!("S1: {rest} ended twice: {before:?} and {outcome}");
                self.require(seen, before.is_none().then_some(()).ok_or_else(detail));
                self.timeline.say("etcd", format!("{rest}: {outcome}"));
                seen.came(Moment::Decided);
            }
            ("svc", Some(value)) => match records::read::<ServiceRecord>(key, value) {
                Ok(record) => self.committed(seen, rest, &record),
                Err(error) => self.require(seen, Err(error)),
            },
            _ => {}
        }
    }

    fn committed(&self, seen: &mut Seen, service: &str, record: &ServiceRecord) {
        let generation = Generation(record.generation);
        let (Ok(service), Ok(release)) =
            (service.parse::<ServiceName>(), record.release.digest.parse::<ReleaseDigest>())
        else {
            return self.require(seen, Err(format!("S4: svc/{service} cannot be read")));
        };
        let before = seen.committed.insert(service.clone(), Committed { generation, release });
        let rises = before.is_none_or(|before| before.generation < generation);
        let detail = || format!("S5: {service} was committed at generation {generation}, which is not above what was");
        self.require(seen, rises.then_some(()).ok_or_else(detail));
        seen.history.insert((service, generation), release);
        let rests_on = seen.rests_on.get(&record.deployment).cloned().unwrap_or_default();
        let disks = seen.records();
        self.require(seen, invariant::commit_has_every_promise(generation, &rests_on, &disks));
        let frozen =
            seen.deployments.get(&record.deployment).map(|opened| (opened.participants(), opened.may_be_missing));
        match frozen {
            Some((Ok(participants), may_be_missing)) => {
                // A host that was replaced meanwhile promised in its new life.
                let missing = participants.keys().filter(|host| !rests_on.contains_key(*host)).count();
                let detail = || {
                    format!(
                        "S2: {} was committed without {missing}, {may_be_missing} may be missing",
                        record.deployment
                    )
                };
                self.require(seen, (missing <= may_be_missing).then_some(()).ok_or_else(detail));
            }
            Some((Err(error), _)) => self.require(seen, Err(error)),
            None => self.require(seen, Err(format!("S2: {} was committed and never opened", record.deployment))),
        }
    }

    /// A host's disk holds this for good now.
    pub fn synced(&self, host: &HostId, bytes: &[u8]) {
        let Some(body) = bytes.split(|byte| *byte == b'\n').nth(1) else { return };
        let state = serde_json::from_slice::<Written>(body).map_err(|error| error.to_string());
        let state = state.and_then(|written| HostState::try_from(written).map_err(|error| error.to_string()));
        let mut seen = self.seen();
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                return self.require(&mut seen, Err(format!("S3: {host} wrote what cannot be read: {error}")));
            }
        };
        let record = &state.record;
        let outcome = invariant::serves_only_committed(host, record, &seen.history);
        self.require(&mut seen, outcome);
        let before = seen.disks.get(host).map(|before| before.record.clone());
        if let Some(before) = before.filter(|before| before.incarnation == record.incarnation) {
            self.require(&mut seen, invariant::generation_never_falls(host, &before, record));
            self.require(&mut seen, invariant::one_content_per_generation(host, &before, record));
            for (deployment, prepared) in &before.prepared {
                let is_open = is_pending(&seen, deployment, prepared.generation);
                let detail = || format!("S3: {host} dropped its promise of {deployment}, which is not decided");
                let holds = record.prepared.contains_key(deployment) || !is_open;
                self.require(&mut seen, holds.then_some(()).ok_or_else(detail));
            }
            self.check_proven(&mut seen, host, &before, record);
        }
        for deployment in record.prepared.keys() {
            let is_new = seen.disks.get(host).is_none_or(|before| !before.record.prepared.contains_key(deployment));
            if is_new {
                seen.came(Moment::Promised);
                self.timeline.say(host.as_str(), format!("the promise of {deployment} is on the disk"));
            }
        }
        let applied = seen.disks.get(host).is_some_and(|before| before.record.applied != state.record.applied);
        if applied {
            seen.came(Moment::Applied);
        }
        seen.disks.insert(host.clone(), state);
    }

    /// S10: what is written as applied is what users get.
    fn check_proven(&self, seen: &mut Seen, host: &HostId, before: &Record, after: &Record) {
        let Some(Some(flags)) = seen.proxies.get(host).map(SimProxy::users_get) else { return };
        for (service, slot) in &after.applied {
            let is_news = before.applied.get(service).is_none_or(|before| before.generation != slot.generation);
            let served = flags.services.get(service).copied().flatten();
            let is_served = served.is_some_and(|flag| flag.generation == slot.generation);
            let detail = || {
                let served = served.map(|flag| flag.generation.0);
                format!("S10: {host} wrote {service} {} as applied, users get {served:?}", slot.generation)
            };
            self.require(seen, (!is_news || is_served).then_some(()).ok_or_else(detail));
        }
    }

    /// Another machine has this host's name.
    pub fn replaced(&self, host: &HostId) {
        let mut seen = self.seen();
        if let Some(state) = seen.disks.remove(host) {
            seen.lost.entry(host.clone()).or_insert(state.record);
        }
        seen.served.remove(host);
    }

    /// A host takes this container away.
    pub fn takes_away(&self, host: &HostId, facts: &ContainerFacts) {
        let running = match facts.condition {
            Condition::Running => true,
            Condition::Created | Condition::Exited { .. } => false,
        };
        if !running {
            return;
        }
        let mut seen = self.seen();
        let labels = &facts.labels;
        let served = seen.proxies.get(host).and_then(SimProxy::on_disk_now);
        let flag = served.and_then(|flags| flags.services.get(&labels.service).copied().flatten());
        let detail = || format!("S7: {host} takes away {} {} that takes traffic", labels.service, labels.berth);
        let routed = flag.is_some_and(|flag| flag.berth == labels.berth);
        self.require(&mut seen, (!routed).then_some(()).ok_or_else(detail));
        let promised = seen.disks.get(host).is_some_and(|state| {
            let mut all = state.record.prepared.iter();
            all.any(|(deployment, prepared)| {
                let slot = prepared.services.get(&labels.service);
                let stands = state.places.get(&(labels.service.clone(), labels.colour));
                slot.is_some_and(|slot| slot.colour == labels.colour && slot.release == labels.release)
                    && stands.is_some_and(|standing| standing.berth == labels.berth)
                    && is_pending(&seen, deployment, prepared.generation)
            })
        });
        let detail = || format!("S8: {host} takes away {} {} that is promised", labels.service, labels.berth);
        self.require(&mut seen, (!promised).then_some(()).ok_or_else(detail));
    }

    /// After every step: what users get, anywhere, was committed.
    pub fn step(&self) {
        let mut seen = self.seen();
        let all: Vec<_> = seen.proxies.iter().map(|(host, proxy)| (host.clone(), proxy.on_disk_now())).collect();
        for (host, flags) in all {
            let Some(flags) = flags else {
                // Somebody's hand, or a switch that is gone: what comes after starts anew.
                seen.served.remove(&host);
                continue;
            };
            let now = self.served(&mut seen, &host, &flags);
            if let Some(before) = seen.served.insert(host.clone(), now.clone())
                && before != now
            {
                self.require(&mut seen, invariant::served_never_goes_back(&host, &before, &now));
            }
        }
    }

    /// S4: what the flags lead to was committed, and is what runs there.
    fn served(&self, seen: &mut Seen, host: &HostId, flags: &Flags) -> BTreeMap<ServiceName, Slot> {
        let mut served = BTreeMap::new();
        for (service, flag) in &flags.services {
            let Some(flag) = flag else { continue };
            let Some(release) = seen.history.get(&(service.clone(), flag.generation)).copied() else {
                let detail = format!("S4: users of {host} get {service} {}, never committed", flag.generation);
                self.require(seen, Err(detail));
                continue;
            };
            let engine = seen.engines.get(host).cloned();
            let strays = engine.as_ref().map(FakeEngine::lost_track).unwrap_or_default();
            let engine = engine.map(|engine| engine.listed(host)).unwrap_or_default();
            let running = engine.into_iter().filter(|facts| facts.condition == Condition::Running);
            let there: Vec<_> =
                running.filter(|facts| (&facts.labels.service, facts.labels.berth) == (service, flag.berth)).collect();
            let is_shared =
                strays.iter().any(|stray| there.iter().any(|facts| facts.addresses.contains(&stray.address)));
            let detail = || format!("S7: {host} leads users of {service} to an address that two have");
            self.require(seen, (!is_shared).then_some(()).ok_or_else(detail));
            let other = there.iter().find(|facts| facts.labels.release != release);
            let detail = |labels: &bgctl_agent::docker::Labels| {
                format!("S4: {host} serves {service} {}, and {} runs there", flag.generation, labels.release.short())
            };
            self.require(seen, other.map_or(Ok(()), |facts| Err(detail(&facts.labels))));
            served.insert(service.clone(), Slot { generation: flag.generation, release, colour: flag.colour });
        }
        served
    }
}

fn is_pending(seen: &Seen, deployment: &DeploymentId, generation: Generation) -> bool {
    seen.pending.values().any(|(open, at)| open == deployment.as_str() && *at == generation.0)
}

//! What load balancers are told: the facts that the rule in `readiness` judges, and its word on nginx's doorstep.

use super::Agent;
use crate::executor::keep::Health;
use crate::nginx::{Answer, Proxy, Readiness};
use crate::readiness::{Contact, Facts, Verdict, judge};
use cutover::ids::{Generation, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::time::Instant;

/// What was heard of the store: kept on disk beside the answers, so that a host that heard of a commit it has not
/// followed does not forget it with a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The boot of the host in which this was last written; empty: unknown.
    boot: String,
    /// What is committed for each service that the store places here. None: no leader was ever heard.
    placed: Option<BTreeMap<ServiceName, Generation>>,
}

/// When a leader's word came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// The newest, or the agent's start.
    at: Instant,
    was_heard: bool,
    is_linked: bool,
    is_same_boot: bool,
}

impl Heard {
    fn read(text: &str) -> Self {
        let mut heard = Self::default();
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["boot", boot] => boot.clone_into(&mut heard.boot),
                ["placed"] => drop(heard.placed.get_or_insert_default()),
                ["placed", service, generation] => {
                    // What cannot be read was written by another version: it is as if it had not been heard.
                    if let (Ok(service), Ok(generation)) = (service.parse(), generation.parse()) {
                        heard.placed.get_or_insert_default().insert(service, Generation(generation));
                    }
                }
                _ => {}
            }
        }
        heard
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("boot {}", self.boot)];
        if let Some(placed) = &self.placed {
            lines.push("placed".to_owned());
            lines.extend(placed.iter().map(|(service, generation)| format!("placed {service} {generation}")));
        }
        lines.join("\n")
    }
}

impl Word {
    pub(super) fn none(is_same_boot: bool) -> Self {
        Self { at: Instant::now(), was_heard: false, is_linked: false, is_same_boot }
    }
}

/// Before anything else: what was told in an earlier boot of this host is not true of this one, also where the
/// agent cannot start.
pub(super) async fn forget_earlier_boots(proxy: &dyn Proxy, boot: &str) {
    let told = proxy.told_ready().await.unwrap_or_default();
    if told == Readiness::default() || (Heard::read(&told.memory).boot == boot && !boot.is_empty()) {
        return;
    }
    let line = "not ready: the host was rebooted and is not restored yet".to_owned();
    let host = Answer { line, ..Answer::default() };
    if let Err(error) = proxy.tell_ready(&Readiness { services: BTreeMap::new(), host, memory: told.memory }).await {
        tracing::error!(%error, "load balancers cannot be told that this host was rebooted");
    }
}

impl Agent {
    /// Before nginx starts: what was told in an earlier boot of this host is not true of this one.
    pub(super) async fn recall_readiness(&mut self, boot: &str) {
        let told = self.world.proxy.told_ready().await;
        let told = told.unwrap_or_else(|error| {
            tracing::warn!(%error, "what load balancers were told cannot be read; the host is not ready for now");
            Readiness::default()
        });
        let heard = Heard::read(&told.memory);
        let is_same_boot = heard.boot == boot && !boot.is_empty();
        self.word = Word::none(is_same_boot);
        self.heard = Heard { boot: boot.to_owned(), ..heard };
        self.told_ready = if is_same_boot { told } else { Readiness::default() };
        if !is_same_boot {
            self.tell_readiness().await;
        }
    }

    /// A leader said what the store holds.
    pub(super) fn word_came(&mut self) {
        self.word = Word { at: Instant::now(), was_heard: true, is_linked: true, ..self.word };
        let Some(state) = self.participant.state() else { return };
        let placed = state.services.iter().map(|(service, state)| {
            let committed = state.committed.map_or(Generation(0), |committed| committed.generation);
            (service.clone(), committed)
        });
        self.heard.placed = Some(placed.collect());
    }

    pub(super) fn link_went_down(&mut self) {
        if std::mem::take(&mut self.word.is_linked) {
            self.word.at = Instant::now();
        }
    }

    pub(super) fn contact(&self) -> Contact {
        let Word { at, was_heard, is_linked, is_same_boot } = self.word;
        let silence = if is_linked { Duration::ZERO } else { at.elapsed() };
        Contact { silence, was_heard, is_same_boot }
    }

    /// Tells load balancers what is true now. Cheap where it is what they know.
    pub(super) async fn tell_readiness(&mut self) {
        // Not between the rename and its acknowledgement: what is told is told when it is over.
        if self.participant.switching().is_some() && !self.has_switch_failed {
            return;
        }
        let readiness = self.readiness();
        for (service, answer) in &readiness.services {
            if self.told_ready.services.get(service).is_none_or(|told| told.is_ready != answer.is_ready) {
                tracing::info!(%service, ready = answer.is_ready, line = %answer.line, "readiness");
            }
        }
        let is_known = self.told_ready == readiness && self.is_readiness_told;
        if is_known {
            return;
        }
        let told = self.world.proxy.tell_ready(&readiness).await;
        self.is_readiness_told = told.is_ok();
        self.told_ready = readiness;
        let trouble =
            told.err().map(|error| format!("load balancers hear of this host what they heard before: {error}"));
        let trouble = trouble.unwrap_or_default();
        // Tried again and again: said once.
        if self.readiness_trouble != trouble {
            if !trouble.is_empty() {
                tracing::error!("{trouble}");
            }
            self.readiness_trouble = trouble;
            self.tell_health();
        }
    }

    fn readiness(&self) -> Readiness {
        let record = &self.state.record;
        let placed = self.heard.placed.as_ref();
        let names: BTreeSet<_> = record.applied.keys().chain(placed.into_iter().flat_map(BTreeMap::keys)).collect();
        let mut services = BTreeMap::new();
        for service in names {
            let is_placed = placed.map(|placed| placed.contains_key(service));
            services.insert(service.clone(), (is_placed, self.answer(service, is_placed)));
        }
        // What the store does not place here does not count for the host, nor what was never committed anywhere.
        let counts = |(service, (is_placed, _)): &(&ServiceName, &(Option<bool>, Answer))| {
            let is_committed = placed.and_then(|placed| placed.get(*service)).is_some_and(|committed| committed.0 > 0);
            *is_placed != Some(false) && (is_committed || record.applied.contains_key(*service))
        };
        let counted: Vec<_> = services.iter().filter(counts).map(|(_, (_, answer))| answer.clone()).collect();
        let host = whole(&counted);
        let services = services.into_iter().map(|(service, (_, answer))| (service, answer)).collect();
        Readiness { services, host, memory: self.heard.text() }
    }

    fn answer(&self, service: &ServiceName, is_placed: Option<bool>) -> Answer {
        let record = &self.state.record;
        let applied = record.applied.get(service);
        let serving = record.held.get(service).or(applied);
        let standing = serving.and_then(|slot| self.state.behind(service, slot)).map(|(_, standing)| standing);
        let kept = standing.and_then(|standing| self.kept.get(&(service.clone(), standing.berth)));
        let committed = self.heard.placed.as_ref().and_then(|placed| placed.get(service)).copied();
        let moving_to = self.participant.switching().and_then(|services| services.get(service));
        let grace = standing.and_then(|standing| standing.release.partition_grace);
        let facts = Facts {
            is_placed,
            committed,
            applied: applied.map(|slot| slot.generation),
            health: kept.map_or(&Health::Starting, |kept| &kept.health),
            is_moving: !self.has_switch_failed && moving_to.is_some_and(|slot| Some(slot.generation) == committed),
            edge: self.edge_trouble.as_deref(),
            contact: self.contact(),
            grace,
        };
        let version = standing.map_or("", |standing| standing.release.version.as_str());
        let before = self.told_ready.services.get(service);
        let (is_ready, why) = match judge(&facts) {
            Verdict::Ready => (true, None),
            Verdict::NotReady(why) => (false, Some(why)),
            Verdict::AsBefore => match before {
                // Also what runs out by itself: only a leader's word makes it last longer.
                Some(before) if !before.is_ready || grace.is_some() => return before.clone(),
                Some(_) => (true, None),
                None => (false, Some("its health is not known yet".to_owned())),
            },
        };
        let generation = applied.map_or(Generation(0), |slot| slot.generation);
        let line = match (why, record.held.contains_key(service)) {
            (Some(why), _) => format!("not ready: {service}: {why}"),
            (None, true) => format!("ready: {service} serves {version} by hand; generation {generation} is applied"),
            (None, false) => format!("ready: {service} serves {version}, generation {generation}"),
        };
        let tens = grace.filter(|_| is_ready).map(|grace| self.tens(grace));
        Answer { is_ready, line, tens }
    }

    /// From now until so long after the last word.
    fn tens(&self, grace: Duration) -> RangeInclusive<u64> {
        let now = self.world.ambient.since_1970();
        let left = grace.saturating_sub(self.contact().silence);
        now.as_secs() / 10..=(now + left).as_secs() / 10
    }
}

/// What is answered of the host.
fn whole(counted: &[Answer]) -> Answer {
    let none = || Answer { line: "not ready: nothing is deployed on this host".to_owned(), ..Answer::default() };
    if let Some(not) = counted.iter().find(|answer| !answer.is_ready) {
        return not.clone();
    }
    let lines: Vec<_> = counted.iter().map(|answer| answer.line.trim_start_matches("ready: ")).collect();
    let line = format!("ready: {}", lines.join("; "));
    let tens = counted.iter().filter_map(|answer| answer.tens.clone());
    let tens = tens.reduce(|a, b| *a.start().max(b.start())..=*a.end().min(b.end()));
    if counted.is_empty() { none() } else { Answer { is_ready: true, line, tens } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_read_back() {
        let placed = BTreeMap::from([("web".parse().expect("a name"), Generation(42))]);
        for placed in [None, Some(BTreeMap::new()), Some(placed)] {
            let heard = Heard { boot: "3f-2".to_owned(), placed };
            assert_eq!(Heard::read(&heard.text()), heard);
        }
        assert_eq!(Heard::read(""), Heard::default());
        assert_eq!(Heard::read("placed web x\nsomething else"), Heard::default());
    }

    #[test]
    fn a_host_is_as_ready_as_the_least_of_its_services() {
        let yes = |tens| Answer { is_ready: true, line: "ready: web serves v2".to_owned(), tens };
        let no = Answer { is_ready: false, line: "not ready: api".to_owned(), tens: None };
        assert!(!whole(&[]).is_ready);
        assert_eq!(whole(&[yes(None), no.clone()]), no);
        assert_eq!(whole(&[yes(None), yes(None)]).line, "ready: web serves v2; web serves v2");
        assert_eq!(whole(&[yes(Some(3..=9)), yes(None), yes(Some(2..=7))]).tens, Some(3..=7));
    }
}

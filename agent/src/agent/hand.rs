//! What somebody on the host wants: the agent's part of `bgctl-agent switch` and `status`.

use super::Agent;
use crate::executor::keep::Health;
use crate::hand::{Answer, Asked, Exit, Request, Target};
use crate::state::{ByHand, Mooring, Standing};
use cutover::ids::{Colour, ServiceName};
use cutover::message::Slot;
use cutover::participant::Event;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Right after the agent's start nobody knows how anything is. Longer than a few probes take.
const HEALTH_WITHIN: Duration = Duration::from_secs(10);

/// A switch by hand that is under way.
pub(super) struct Moving {
    service: ServiceName,
    /// What to say when nginx was seen serving it.
    done: String,
    answer: oneshot::Sender<Answer>,
}

impl Agent {
    pub(super) async fn asked(&mut self, asked: Asked) {
        if self.is_hasty(&asked.request) && asked.at.elapsed() < HEALTH_WITHIN {
            self.waiting.push(asked);
            return;
        }
        let Asked { request, uid, at: _, answer } = asked;
        match request {
            Request::Status => drop(answer.send(Answer::done(self.describe()))),
            Request::Switch(service, target) => match self.plan_by_hand(&service, target) {
                Err(told) => drop(answer.send(told)),
                Ok((event, done)) => {
                    tracing::warn!(%service, %target, uid, "moved by hand");
                    let hand = ByHand { at_unix_millis: self.world.ambient.unix_millis(), uid };
                    let before = self.state.hands.insert(service.clone(), hand);
                    self.moving = Some(Moving { service: service.clone(), done, answer });
                    self.step(event).await;
                    if self.moving.is_none() {
                        // It was refused: whoever moved it before is still who did.
                        match before {
                            Some(before) => drop(self.state.hands.insert(service, before)),
                            None => drop(self.state.hands.remove(&service)),
                        }
                    }
                }
            },
        }
    }

    /// Takes up again what had to wait.
    pub(super) async fn ask_again(&mut self) {
        for asked in std::mem::take(&mut self.waiting) {
            self.asked(asked).await;
        }
    }

    /// The protocol did not take it.
    pub(super) fn refuse_by_hand(&mut self, service: &ServiceName, reason: &str) {
        tracing::warn!(%service, reason, "not moved by hand");
        if let Some(moving) = self.moving.take_if(|moving| moving.service == *service) {
            drop(moving.answer.send(Answer::refused(format!("{service} was not moved: {reason}"))));
        }
    }

    /// A switch of this host was tried; what was asked by hand was part of it.
    pub(super) fn answer_by_hand(&mut self, outcome: Result<(), &str>) {
        let Some(Moving { service, done, answer }) = self.moving.take() else { return };
        let told = match outcome {
            Ok(()) => Answer::done(done),
            Err(trouble) => Answer {
                exit: Exit::Unproven,
                text: format!(
                    "it is written down that {service} moves, and not proven that it has: {trouble}; it is tried again \
                     until it is; what it serves meanwhile: bgctl-agent status"
                ),
            },
        };
        drop(answer.send(told));
    }

    /// What is to be done, and what to say then; or why nothing is.
    fn plan_by_hand(&self, service: &ServiceName, target: Target) -> Result<(Event, String), Answer> {
        let record = &self.state.record;
        if self.moving.is_some() {
            return Err(Answer::refused("another switch by hand is under way on this host; try again"));
        }
        let Some(applied) = record.applied.get(service) else {
            let served: Vec<_> = record.applied.keys().map(ServiceName::as_str).collect();
            let served = if served.is_empty() { "nothing".to_owned() } else { served.join(", ") };
            return Err(Answer::refused(format!("{service} is not served on this host, which serves {served}")));
        };
        let serving = record.held.get(service).unwrap_or(applied);
        let now = self.version(service, serving);
        let slot = match target {
            Target::Resume if serving == applied => {
                return Err(Answer::done(format!(
                    "{service} is not held by hand; it serves {now}, as the store wants"
                )));
            }
            Target::Colour(colour) if serving.colour == colour && self.other(service, Some(colour)).is_none() => {
                return Err(Answer::done(format!("{service} serves {now} already")));
            }
            Target::Resume => *applied,
            Target::Colour(colour) => self.other(service, Some(colour)).ok_or_else(|| {
                Answer::refused(format!("nothing that was ever served stands at {colour} of {service}: {NO_WAY_BACK}"))
            })?,
            Target::Previous => self.other(service, None).ok_or_else(|| {
                Answer::refused(format!("no release from before stands ready for {service}: {NO_WAY_BACK}"))
            })?,
        };
        let to = self.version(service, &slot);
        self.is_fit(service, &slot).map_err(|why| Answer::refused(format!("{service} stays on {now}: {to} {why}")))?;
        let host = &self.tools.host;
        if slot == *applied {
            let done = format!("{service} on {host} serves {to} again, as the store wants; it was {now} by hand");
            return Ok((Event::Resume(service.clone()), done));
        }
        let done = format!(
            "{service} on {host} serves {to} by hand; it was {now}. This ends with the next deployment or rollback of \
             {service}, or with: bgctl-agent switch {service} --resume"
        );
        Ok((Event::Hold(service.clone(), slot), done))
    }

    /// What was served before on this host and still stands, newest first; of a colour, if one is named. Nothing
    /// that was only promised: it may never be committed.
    fn other(&self, service: &ServiceName, colour: Option<Colour>) -> Option<Slot> {
        let record = &self.state.record;
        let known = [record.applied.get(service), record.held.get(service)];
        let known: Vec<_> = known.into_iter().flatten().map(|slot| (self.state.berth(service, slot), slot)).collect();
        let serving = record.held.get(service).or(record.applied.get(service))?;
        let serving = self.state.berth(service, serving);
        let all = self.state.standing().filter(|(place, standing)| {
            place.0 == *service && colour.is_none_or(|colour| place.1 == colour) && Some(standing.berth) != serving
        });
        let slots = all.filter_map(|(place, standing)| {
            let known = known.iter().find(|(berth, _)| *berth == Some(standing.berth)).map(|(_, slot)| **slot);
            let retired = standing.retired.map(|_| Slot {
                generation: standing.generation,
                release: standing.release.digest,
                colour: place.1,
            });
            known.or(retired)
        });
        slots.max_by_key(|slot| slot.generation)
    }

    fn is_fit(&self, service: &ServiceName, slot: &Slot) -> Result<(), String> {
        let kept = self.state.berth(service, slot).and_then(|berth| self.kept.get(&(service.clone(), berth)));
        match kept.map(|kept| &kept.health) {
            Some(Health::Healthy) => Ok(()),
            Some(Health::Starting) => Err("is not known to be healthy yet; try again".to_owned()),
            Some(Health::Unhealthy(why)) => Err(format!("is not healthy: {why}")),
            Some(Health::Dead(why)) => Err(format!("does not run: {why}")),
            None => Err("is not kept running here".to_owned()),
        }
    }

    /// Whether it is not known yet how that is to which traffic should go.
    fn is_hasty(&self, request: &Request) -> bool {
        let Request::Switch(service, target) = request else { return false };
        let slot = match target {
            Target::Resume => self.state.record.applied.get(service).copied(),
            Target::Colour(colour) => self.other(service, Some(*colour)),
            Target::Previous => self.other(service, None),
        };
        let berth = slot.and_then(|slot| self.state.berth(service, &slot));
        let kept = berth.and_then(|berth| self.kept.get(&(service.clone(), berth)));
        kept.is_some_and(|kept| kept.health == Health::Starting)
    }

    /// `v2 (green)`
    fn version(&self, service: &ServiceName, slot: &Slot) -> String {
        let version = self.state.behind(service, slot).map(|(_, standing)| standing.release.version.clone());
        format!("{} ({})", version.unwrap_or_else(|| slot.release.short()), slot.colour)
    }

    /// All there is to know, for a person.
    fn describe(&self) -> String {
        let mut text = format!("host {}  ", self.tools.host);
        let _ = match (&self.controller, self.contact().silence.as_secs()) {
            (Some(address), _) => writeln!(text, "linked to {address}"),
            (None, silence) => writeln!(text, "NO CONTROLLER for {silence} s; serving what is applied"),
        };
        let services: std::collections::BTreeSet<_> = self.state.standing().map(|(place, _)| &place.0).collect();
        for service in &services {
            let _ = writeln!(text, "{service}");
            for (place, standing) in self.state.standing().filter(|(place, _)| place.0 == **service) {
                let _ = writeln!(text, "  {}", self.describe_standing(place.1, standing, service));
            }
            if let (Some(slot), Some(hand)) = (self.state.record.held.get(service), self.state.hands.get(service)) {
                let _ = writeln!(text, "  held      {}, {}", self.version(service, slot), told(hand));
            }
            if let Some(answer) = self.told_ready.services.get(service) {
                let _ = writeln!(text, "  ready     {}", answer.line);
            }
        }
        if services.is_empty() {
            text.push_str("nothing is deployed here\n");
        }
        for (deployment, prepared) in &self.state.record.prepared {
            let _ = writeln!(text, "promised to deployment {deployment}, generation {}", prepared.generation);
        }
        let troubles = [&self.docker_trouble, &self.nginx_trouble, &self.journal_trouble];
        for trouble in troubles.into_iter().chain(&self.alarms).filter(|trouble| !trouble.is_empty()) {
            let _ = writeln!(text, "TROUBLE: {trouble}");
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn describe_standing(&self, colour: Colour, standing: &Standing, service: &ServiceName) -> String {
        let mooring: Mooring = (service.clone(), standing.berth);
        let stands =
            |slot: Option<&Slot>| slot.and_then(|slot| self.state.berth(service, slot)) == Some(standing.berth);
        let (applied, held) = (self.state.record.applied.get(service), self.state.record.held.get(service));
        let now = self.tools.clocks.now();
        let role = match standing.retired {
            _ if stands(held) => "serves",
            _ if stands(applied) && held.is_none() => "serves",
            _ if stands(applied) => "applied",
            Some(retired) if !retired.is_cold(now) => "warm",
            Some(_) => "cold",
            None => "coming",
        };
        let (condition, detail) = match self.kept.get(&mooring).map(|kept| &kept.health) {
            None | Some(Health::Starting) => ("starting", ""),
            Some(Health::Healthy) => ("healthy", ""),
            Some(Health::Unhealthy(why)) => ("UNHEALTHY", why.as_str()),
            Some(Health::Dead(why)) => ("DEAD", why.as_str()),
        };
        let applied = applied.filter(|_| stands(applied));
        let generation = applied.map_or(standing.generation, |slot| slot.generation);
        let line = format!(
            "{role:<9} {colour:<5}  {}  generation {generation}  {condition}  {detail}",
            standing.release.version
        );
        line.trim_end().to_owned()
    }
}

const NO_WAY_BACK: &str = "there is one after a deployment, for as long as its spec's `keep_standby` says";

/// `by hand at 2026-11-20T12:47:05Z by uid 0`
fn told(hand: &ByHand) -> String {
    // The formatter goes no further than the year 9999.
    let at = UNIX_EPOCH + Duration::from_millis(hand.at_unix_millis.min(253_402_300_799_000));
    format!("by hand at {} by uid {}", humantime::format_rfc3339_seconds(at), hand.uid)
}

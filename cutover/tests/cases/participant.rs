//! The host's side as a case writes it.

use crate::script::Machine;
use crate::words::{self, halves, parse, slots};
use cutover::ids::{Generation, Incarnation, ServiceName};
use cutover::message::{Slot, State, Verdict};
use cutover::participant::{Effect, Event, Participant, Prepared, Record, Work};
use std::collections::BTreeMap;

pub const EVENTS: [&str; 13] = [
    "link up",
    "prepare",
    "state",
    "ready",
    "not ready",
    "stored",
    "store failed",
    "switched",
    "switch failed",
    "slot died",
    "retry now",
    "hold",
    "resume",
];

#[derive(Clone)]
pub struct Host(Participant);

impl Machine for Host {
    /// `host LIFE [epoch N] [| applied SLOTS] [| held SLOTS] [| promised D@G rev N SLOTS] [| switch SLOTS]`
    fn start(line: &str) -> Result<(Self, Vec<String>), String> {
        let mut clauses = line.split(" | ");
        let first = clauses.next().and_then(|first| first.strip_prefix("host "));
        let first = first.ok_or("expected `host LIFE ...`")?;
        let (life, rest) = first.split_once(' ').unwrap_or((first, ""));
        let mut record = Record::new(Incarnation(parse(life)?));
        if !rest.is_empty() {
            record.max_epoch = words::epoch(rest)?.0;
        }
        let mut switch = None;
        for clause in clauses {
            match halves(clause, " ")? {
                ("applied", rest) => record.applied = words::map(rest, words::slot)?,
                ("held", rest) => record.held = words::map(rest, words::slot)?,
                ("promised", rest) => {
                    let (deployment, rest) = halves(rest, " ")?;
                    let (deployment, generation) = words::deployment(deployment)?;
                    let (revision, rest) = words::revision(rest)?;
                    let services = words::map(rest, words::slot)?;
                    record.prepared.insert(deployment, Prepared { generation, revision, services });
                }
                ("switch", rest) => switch = Some(on_disk(rest)?),
                (word, _) => return Err(format!("{word:?}: expected applied, held, promised or switch")),
            }
        }
        Ok((recover(record, switch), Vec::new()))
    }

    fn take(&mut self, line: &str) -> Result<(&'static str, Vec<String>), String> {
        if let Some(rest) = line.strip_prefix("crash") {
            let switch = rest.strip_prefix(" with switch ").map(on_disk).transpose()?;
            *self = recover(self.0.record().clone(), switch);
            return Ok(("crash", Vec::new()));
        }
        let event = event(line)?;
        let kind = kind(&event);
        Ok((kind, self.0.step(event).iter().map(effect).collect()))
    }

    fn standing(&self) -> Vec<String> {
        let Record { incarnation: _, max_epoch: _, applied, prepared, held } = self.0.record();
        let needed: Vec<_> = self.0.needed().iter().map(|(name, colour)| format!("{name}/{colour}")).collect();
        let mut lines = vec![format!("serves {}", slots(applied))];
        lines.push(if needed.is_empty() { "needs nothing".to_owned() } else { format!("needs {}", needed.join(" ")) });
        lines.push(if prepared.is_empty() { "promised nothing".to_owned() } else { promises(self.0.record()) });
        if !held.is_empty() {
            lines.push(format!("holds {}", slots(held)));
        }
        if let Some(services) = self.0.switching() {
            lines.push(format!("moving to {}", slots(services)));
        }
        lines.extend(self.0.waits().map(|reason| format!("waits: {reason}")));
        lines
    }

    fn situation(&self) -> Option<String> {
        None
    }
}

fn on_disk(text: &str) -> Result<BTreeMap<ServiceName, Slot>, String> {
    words::map(text, words::slot)
}

fn recover(record: Record, switch: Option<BTreeMap<ServiceName, Slot>>) -> Host {
    let switch = switch.unwrap_or_else(|| record.served());
    Host(Participant::recover(record, &switch))
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::LinkUp => EVENTS[0],
        Event::Prepare(_) => EVENTS[1],
        Event::State(_) => EVENTS[2],
        Event::Ready(_) => EVENTS[3],
        Event::NotReady(..) => EVENTS[4],
        Event::Stored => EVENTS[5],
        Event::StoreFailed(_) => EVENTS[6],
        Event::Switched => EVENTS[7],
        Event::SwitchFailed(_) => EVENTS[8],
        Event::SlotDied(..) => EVENTS[9],
        Event::RetryNow => EVENTS[10],
        Event::Hold(..) => EVENTS[11],
        Event::Resume(_) => EVENTS[12],
    }
}

fn event(line: &str) -> Result<Event, String> {
    let reason = |rest: &str| rest.strip_prefix(": ").map(str::to_owned).ok_or("expected `: REASON`".to_owned());
    if line == "link up" {
        Ok(Event::LinkUp)
    } else if let Some(rest) = line.strip_prefix("prepare ") {
        words::prepare(rest).map(Event::Prepare)
    } else if let Some(rest) = line.strip_prefix("state ") {
        let (epoch, revision, rest) = words::epoch_and_revision(rest)?;
        Ok(Event::State(State { epoch, revision, services: words::map(rest, words::service_state)? }))
    } else if let Some(rest) = line.strip_prefix("ready ") {
        work(rest).map(Event::Ready)
    } else if let Some(rest) = line.strip_prefix("not ready ") {
        let (name, reason) = halves(rest, ": ")?;
        Ok(Event::NotReady(work(name)?, reason.to_owned()))
    } else if line == "stored" {
        Ok(Event::Stored)
    } else if let Some(rest) = line.strip_prefix("store failed") {
        reason(rest).map(Event::StoreFailed)
    } else if line == "switched" {
        Ok(Event::Switched)
    } else if let Some(rest) = line.strip_prefix("switch failed") {
        reason(rest).map(Event::SwitchFailed)
    } else if let Some(rest) = line.strip_prefix("died ") {
        let (place, reason) = halves(rest, ": ")?;
        let (service, colour) = halves(place, "/")?;
        Ok(Event::SlotDied(parse(service)?, parse(colour)?, reason.to_owned()))
    } else if line == "retry" {
        Ok(Event::RetryNow)
    } else if let Some(rest) = line.strip_prefix("hold ") {
        let (service, slot) = halves(rest, "=")?;
        Ok(Event::Hold(parse(service)?, words::slot(slot)?))
    } else if let Some(rest) = line.strip_prefix("resume ") {
        parse(rest).map(Event::Resume)
    } else {
        Err("no such event".to_owned())
    }
}

/// `d2`, or `catch-up@20`.
fn work(text: &str) -> Result<Work, String> {
    match text.strip_prefix("catch-up@") {
        Some(generation) => parse(generation).map(|generation| Work::CatchUp(Generation(generation))),
        None => parse(text).map(Work::Deployment),
    }
}

fn show_work(work: &Work) -> String {
    match work {
        Work::Deployment(deployment) => deployment.to_string(),
        Work::CatchUp(generation) => format!("catch-up@{generation}"),
    }
}

fn promises(record: &Record) -> String {
    let promises = record.prepared.iter().map(|(deployment, prepared)| {
        let Prepared { generation, revision, services } = prepared;
        format!("promised {deployment}@{generation} rev {revision} {}", slots(services))
    });
    promises.collect::<Vec<_>>().join(", ")
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::MakeReady { work, services } => format!("make ready {}: {}", show_work(work), slots(services)),
        Effect::Discard { work, services } => format!("discard {}: {}", show_work(work), slots(services)),
        Effect::Store(record) => {
            let promises = if record.prepared.is_empty() { String::new() } else { format!(", {}", promises(record)) };
            let held = if record.held.is_empty() { String::new() } else { format!(", holds {}", slots(&record.held)) };
            format!("store: epoch {}, serves {}{held}{promises}", record.max_epoch, slots(&record.applied))
        }
        Effect::SendHello(hello) => {
            let promises = hello.prepared.iter().map(|(deployment, generation)| format!(", {deployment}@{generation}"));
            format!(
                "hello from life {}: {}{}",
                hello.incarnation.0,
                slots(&hello.applied),
                promises.collect::<String>()
            )
        }
        Effect::SendVote(vote) => match &vote.verdict {
            Verdict::Yes => format!("vote {}: yes, in life {}", vote.deployment, vote.incarnation.0),
            Verdict::No(reason) => format!("vote {}: no, {reason}", vote.deployment),
        },
        Effect::SendLost(lost) => format!("lost {} of life {}: {}", lost.deployment, lost.incarnation.0, lost.reason),
        Effect::SendApplied(applied) => {
            format!("applied in life {}: {}", applied.incarnation.0, slots(&applied.services))
        }
        Effect::Switch { services } => format!("switch to {}", slots(services)),
        Effect::RetryLater { reason } => format!("retry later: {reason}"),
        Effect::Alarm(alarm) => format!("alarm: {alarm}"),
        Effect::Refuse { service, reason } => format!("refuse {service}: {reason}"),
    }
}

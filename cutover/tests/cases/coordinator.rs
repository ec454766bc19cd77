//! The leader's side as a case writes it.

use crate::script::Machine;
use crate::words;
use cutover::coordinator::{Answer, Coordinator, Effect, Event, Opened, Phase};
use cutover::message::{Outcome, Prepare, Verdict};

pub const PHASES: [&str; 6] =
    ["collecting", "committing", "aborting", "decided to commit", "decided to abort", "deposed"];

pub const EVENTS: [&str; 13] = [
    "begin",
    "connected",
    "voted",
    "lost",
    "away",
    "deadline",
    "abort asked",
    "stored: done",
    "stored: already decided",
    "stored: members changed",
    "stored: deposed",
    "stored: unknown",
    "applied",
];

#[derive(Clone)]
pub struct Deployment(Coordinator);

impl Machine for Deployment {
    fn start(line: &str) -> Result<(Self, Vec<String>), String> {
        let make = match line.split_once(' ') {
            Some(("open", rest)) => (Coordinator::new as fn(Opened) -> Coordinator, rest),
            Some(("committed", rest)) => (Coordinator::committed as fn(Opened) -> Coordinator, rest),
            _ => return Err("expected `open DEPLOYMENT on HOSTS` or `committed DEPLOYMENT on HOSTS`".to_owned()),
        };
        let (new, rest) = make;
        let (prepare, hosts) = words::halves(rest, " on")?;
        let Prepare { epoch, deployment, generation, revision, services } = words::prepare(prepare)?;
        let (hosts, may_be_missing) = match hosts.split_once(", missing ") {
            Some((hosts, count)) => (hosts, words::parse(count)?),
            None => (hosts, 0),
        };
        let participants = words::lives(hosts)?;
        let opened = Opened { epoch, deployment, generation, revision, services, participants, may_be_missing };
        Ok((Self(new(opened)), Vec::new()))
    }

    fn take(&mut self, line: &str) -> Result<(&'static str, Vec<String>), String> {
        let event = event(line)?;
        let kind = kind(&event);
        Ok((kind, self.0.step(event).iter().map(effect).collect()))
    }

    fn standing(&self) -> Vec<String> {
        let participants = &self.0.opened().participants;
        let marked = |done: &std::collections::BTreeSet<_>, mark: &str| {
            let hosts = participants.iter().map(|(host, incarnation)| {
                let mark = if done.contains(host) { mark } else { "" };
                format!("{host}/{}{mark}", incarnation.0)
            });
            hosts.collect::<Vec<_>>().join(", ")
        };
        let detail = match self.0.phase() {
            Phase::Collecting { .. } if participants.is_empty() => ": nobody".to_owned(),
            Phase::Collecting { yes } => format!(": {}", marked(yes, " yes")),
            Phase::Aborting { reason } => format!(": {reason}"),
            Phase::Decided { outcome: Outcome::Commit, applied } => format!(": {}", marked(applied, " applied")),
            Phase::Committing { regret, is_late } => {
                let late = if *is_late { ", late" } else { "" };
                format!("{}{late}", regret.iter().map(|reason| format!(", regret: {reason}")).collect::<String>())
            }
            Phase::Decided { outcome: Outcome::Abort, .. } | Phase::Deposed => String::new(),
        };
        let mut lines = vec![format!("{}{detail}", phase(self.0.phase()))];
        if !self.0.left_out().is_empty() {
            lines.push(format!("without {}", words::show_lives(self.0.left_out())));
        }
        lines
    }

    fn situation(&self) -> Option<String> {
        Some(phase(self.0.phase()).to_owned())
    }
}

fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Collecting { .. } => PHASES[0],
        Phase::Committing { .. } => PHASES[1],
        Phase::Aborting { .. } => PHASES[2],
        Phase::Decided { outcome: Outcome::Commit, .. } => PHASES[3],
        Phase::Decided { outcome: Outcome::Abort, .. } => PHASES[4],
        Phase::Deposed => PHASES[5],
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Begin => EVENTS[0],
        Event::Connected { .. } => EVENTS[1],
        Event::Voted { .. } => EVENTS[2],
        Event::Lost { .. } => EVENTS[3],
        Event::Away { .. } => EVENTS[4],
        Event::DeadlinePassed => EVENTS[5],
        Event::AbortAsked { .. } => EVENTS[6],
        Event::Stored(Answer::Done) => EVENTS[7],
        Event::Stored(Answer::AlreadyDecided(_)) => EVENTS[8],
        Event::Stored(Answer::MembersChanged(_)) => EVENTS[9],
        Event::Stored(Answer::Deposed) => EVENTS[10],
        Event::Stored(Answer::Unknown) => EVENTS[11],
        Event::Applied { .. } => EVENTS[12],
    }
}

fn event(line: &str) -> Result<Event, String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "begin" => Ok(Event::Begin),
        "connected" => words::life(rest).map(|(host, incarnation)| Event::Connected { host, incarnation }),
        "vote" => {
            let (voter, verdict) = words::halves(rest, " ")?;
            let (host, incarnation) = words::life(voter)?;
            let verdict = match verdict.split_once(": ") {
                Some(("no", reason)) => Verdict::No(reason.to_owned()),
                None if verdict == "yes" => Verdict::Yes,
                Some(_) | None => return Err("expected `yes` or `no: REASON`".to_owned()),
            };
            Ok(Event::Voted { host, incarnation, verdict })
        }
        "lost" => {
            let (loser, reason) = words::halves(rest, ": ")?;
            let (host, incarnation) = words::life(loser)?;
            Ok(Event::Lost { host, incarnation, reason: reason.to_owned() })
        }
        "away" => words::parse(rest).map(|host| Event::Away { host }),
        "deadline" => Ok(Event::DeadlinePassed),
        "abort:" => Ok(Event::AbortAsked { reason: rest.to_owned() }),
        "stored" => answer(rest).map(Event::Stored),
        "applied" => words::parse(rest).map(|host| Event::Applied { host }),
        _ => Err("no such event".to_owned()),
    }
}

fn answer(text: &str) -> Result<Answer, String> {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("done", "") => Ok(Answer::Done),
        ("already", "committed") => Ok(Answer::AlreadyDecided(Outcome::Commit)),
        ("already", "aborted") => Ok(Answer::AlreadyDecided(Outcome::Abort)),
        ("members", lives) => words::lives(lives).map(Answer::MembersChanged),
        ("deposed", "") => Ok(Answer::Deposed),
        ("unknown", "") => Ok(Answer::Unknown),
        _ => Err(format!("{text:?}: no such answer of the store")),
    }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Prepare { host, message } => format!("prepare {host}: {}", words::show_prepare(message)),
        Effect::LeftOut { host } => format!("left out: {host}"),
        Effect::TakenIn { host } => format!("taken in: {host}"),
        Effect::WriteCommit { participants } => {
            format!("write commit, promised by {}", words::show_lives(participants))
        }
        Effect::WriteAbort { reason } => format!("write abort: {reason}"),
        Effect::Announce => "announce to all".to_owned(),
        Effect::AnnounceTo { host } => format!("announce to {host}"),
        Effect::AllApplied => "all applied".to_owned(),
        Effect::StandDown => "stand down".to_owned(),
    }
}

//! The leader's side of one deployment: collect votes, have one decision written, tell it.
//!
//! Time and the store are outside. The decision becomes speech only in answer to the store's word:
//! [`Effect::Announce`] comes out of [`Event::Stored`] and out of nothing else.

use crate::ids::{DeploymentId, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName};
use crate::message::{Outcome, Participants, Prepare, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// A deployment as its opening transaction wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opened {
    /// The leader that drives it; a new leader drives it with its own.
    pub epoch: Epoch,
    /// Its name.
    pub deployment: DeploymentId,
    /// The revision of its opening transaction.
    pub generation: Generation,
    /// The revision this leader has read; at least the generation.
    pub revision: Revision,
    /// What it brings.
    pub services: BTreeMap<ServiceName, ReleaseDigest>,
    /// The hosts that must all say yes, as far as none of them is left out.
    pub participants: Participants,
    /// How many of them may be left out because they do not answer. One that says no ends it all the same.
    pub may_be_missing: usize,
}

/// Where a deployment stands. Each phase holds what is true in it and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Undecided. These hosts have promised, in the life named among the participants.
    Collecting {
        /// Who said yes.
        yes: BTreeSet<HostId>,
    },
    /// All have promised. The commit has been handed to the store; its answer is not known.
    Committing {
        /// What would have ended it, heard meanwhile. Counts if the store refuses the commit.
        regret: Option<String>,
        /// The time to prepare ran out meanwhile. Counts if a host has to be asked again.
        is_late: bool,
    },
    /// Someone refused, or time ran out. The abort has been handed to the store; its answer is not known.
    Aborting {
        /// For the operator.
        reason: String,
    },
    /// The store said so. Nothing changes it any more.
    Decided {
        /// The decision.
        outcome: Outcome,
        /// The hosts seen serving it. Only grows after a commit.
        applied: BTreeSet<HostId>,
    },
    /// Another leader was elected; this one must say and write nothing more.
    Deposed,
}

/// Everything that can happen to a deployment at the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The driver starts, or starts again under a new leader.
    Begin,
    /// A participant's stream is up, in this life.
    Connected {
        /// Who.
        host: HostId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A vote arrived.
    Voted {
        /// Who, by its certificate.
        host: HostId,
        /// The life that promised.
        incarnation: Incarnation,
        /// Yes or no.
        verdict: Verdict,
    },
    /// A participant lost what it had promised.
    Lost {
        /// Who.
        host: HostId,
        /// The life that had promised.
        incarnation: Incarnation,
        /// For the operator.
        reason: String,
    },
    /// A participant's stream has been down for longer than a restart takes.
    Away {
        /// Who.
        host: HostId,
    },
    /// The time to prepare is over.
    DeadlinePassed,
    /// An operator wants it ended.
    AbortAsked {
        /// For the record: who, and why.
        reason: String,
    },
    /// The store's word on the transaction last asked for.
    Stored(Answer),
    /// A host was seen serving this deployment's generation or a later one.
    Applied {
        /// Who.
        host: HostId,
    },
}

/// What the store can say to a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The transaction went through.
    Done,
    /// It did not: the deployment is no longer pending, because it was decided already.
    AlreadyDecided(Outcome),
    /// It did not: hosts were added, replaced or removed since. These are the lives known now; a
    /// participant that is missing here has been removed.
    MembersChanged(Participants),
    /// It did not: another leader was elected.
    Deposed,
    /// No answer came. It may or may not have gone through.
    Unknown,
}

/// What the shell has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask this host to prepare. Safe to lose and to repeat.
    Prepare {
        /// Whom.
        host: HostId,
        /// What.
        message: Prepare,
    },
    /// This participant does not answer, and the decision will not rest on it. It follows when it is back.
    LeftOut {
        /// Who.
        host: HostId,
    },
    /// It promised after all: the decision rests on it again.
    TakenIn {
        /// Who.
        host: HostId,
    },
    /// Run the commit transaction, guarded by leader, pending and membership, until it answers.
    WriteCommit {
        /// The lives whose promises it rests on, and no others. If they are not the ones in the membership that the guard
        /// names, the answer is [`Answer::MembersChanged`]: a later leader has them from the opening.
        participants: Participants,
    },
    /// Run the abort transaction, guarded by leader and pending, until it answers.
    WriteAbort {
        /// For the record.
        reason: String,
    },
    /// Tell every host of the services what the store says now.
    Announce,
    /// Tell this one host.
    AnnounceTo {
        /// Whom.
        host: HostId,
    },
    /// Every participant is seen serving the commit.
    AllApplied,
    /// Stop: another leader drives it.
    StandDown,
}

/// One deployment at its leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Coordinator {
    opened: Opened,
    /// Participants that were left out since.
    left_out: Participants,
    phase: Phase,
}

impl Coordinator {
    /// A deployment that is open in the store.
    pub fn new(opened: Opened) -> Self {
        Self { opened, left_out: Participants::new(), phase: Phase::Collecting { yes: BTreeSet::new() } }
    }

    /// A deployment that the store says is committed, to be seen through by a leader that comes later.
    pub fn committed(opened: Opened) -> Self {
        let phase = Phase::Decided { outcome: Outcome::Commit, applied: BTreeSet::new() };
        Self { opened, left_out: Participants::new(), phase }
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// As it was opened, with the participants it rests on and their lives as known now.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Participants that were left out because they did not answer.
    pub fn left_out(&self) -> &Participants {
        &self.left_out
    }

    /// Takes one event, returns what must be done about it.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Begin => self.begin(),
            Event::Connected { host, incarnation } => self.connected(host, incarnation),
            Event::Voted { host, incarnation, verdict } => self.voted(host, incarnation, verdict),
            Event::Lost { host, incarnation, reason } => {
                if self.speaks_for(&host, incarnation) {
                    self.abort(format!("{host}: {reason}"))
                } else {
                    Vec::new()
                }
            }
            Event::Away { host } => self.away(&host),
            Event::DeadlinePassed => self.deadline(),
            Event::AbortAsked { reason } => self.abort(reason),
            Event::Stored(answer) => self.stored(answer),
            Event::Applied { host } => self.applied(host),
        }
    }

    fn begin(&mut self) -> Vec<Effect> {
        match &self.phase {
            Phase::Collecting { .. } if self.opened.participants.is_empty() => {
                self.abort("no host takes part in it".to_owned())
            }
            Phase::Collecting { .. } => self.opened.participants.keys().map(|host| self.prepare(host)).collect(),
            Phase::Committing { .. } | Phase::Aborting { .. } | Phase::Decided { .. } | Phase::Deposed => Vec::new(),
        }
    }

    fn prepare(&self, host: &HostId) -> Effect {
        let Opened { epoch, deployment, generation, revision, services, participants: _, may_be_missing: _ } =
            &self.opened;
        Effect::Prepare {
            host: host.clone(),
            message: Prepare {
                epoch: *epoch,
                deployment: deployment.clone(),
                generation: *generation,
                revision: *revision,
                services: services.clone(),
            },
        }
    }

    fn connected(&mut self, host: HostId, incarnation: Incarnation) -> Vec<Effect> {
        let participants = &mut self.opened.participants;
        let Some(known) = participants.get_mut(&host).or_else(|| self.left_out.get_mut(&host)) else {
            return Vec::new();
        };
        match &mut self.phase {
            Phase::Collecting { yes } => {
                if *known != incarnation {
                    *known = incarnation;
                    yes.remove(&host);
                }
                vec![self.prepare(&host)]
            }
            Phase::Decided { .. } => vec![Effect::AnnounceTo { host }],
            Phase::Committing { .. } | Phase::Aborting { .. } | Phase::Deposed => Vec::new(),
        }
    }

    fn speaks_for(&self, host: &HostId, incarnation: Incarnation) -> bool {
        let known = self.opened.participants.get(host).or_else(|| self.left_out.get(host));
        known == Some(&incarnation)
    }

    fn voted(&mut self, host: HostId, incarnation: Incarnation, verdict: Verdict) -> Vec<Effect> {
        if !self.speaks_for(&host, incarnation) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Collecting { yes } => match verdict {
                Verdict::Yes => {
                    yes.insert(host.clone());
                    let mut effects = self.take_in(host);
                    effects.extend(self.commit_if_unanimous());
                    effects
                }
                Verdict::No(reason) => self.abort(format!("{host}: {reason}")),
            },
            // A vote that comes after the decision is from a host that has not heard it.
            Phase::Decided { .. } => vec![Effect::AnnounceTo { host }],
            Phase::Committing { .. } => match verdict {
                Verdict::Yes => Vec::new(),
                Verdict::No(reason) => self.abort(format!("{host}: {reason}")),
            },
            Phase::Aborting { .. } | Phase::Deposed => Vec::new(),
        }
    }

    fn commit_if_unanimous(&mut self) -> Vec<Effect> {
        let Phase::Collecting { yes } = &self.phase else { return Vec::new() };
        let participants = &self.opened.participants;
        // Nobody's promise is no promise.
        if participants.is_empty() || !participants.keys().all(|host| yes.contains(host)) {
            return Vec::new();
        }
        self.phase = Phase::Committing { regret: None, is_late: false };
        vec![Effect::WriteCommit { participants: self.opened.participants.clone() }]
    }

    /// A host that promised is bound, away or not. One that did not is left out if that is allowed; else it is
    /// waited for.
    fn away(&mut self, host: &HostId) -> Vec<Effect> {
        match &self.phase {
            Phase::Collecting { yes } if yes.contains(host) || !self.may_leave_out(1) => Vec::new(),
            Phase::Collecting { .. } => {
                let mut effects = self.leave_out(host);
                effects.extend(self.commit_if_unanimous());
                effects
            }
            Phase::Committing { .. } | Phase::Aborting { .. } | Phase::Decided { .. } | Phase::Deposed => Vec::new(),
        }
    }

    /// Somebody must be left whose promise it rests on.
    fn may_leave_out(&self, count: usize) -> bool {
        count <= self.opened.may_be_missing && count < self.opened.participants.len()
    }

    fn leave_out(&mut self, host: &HostId) -> Vec<Effect> {
        let Some((host, incarnation)) = self.opened.participants.remove_entry(host) else { return Vec::new() };
        self.opened.may_be_missing -= 1;
        self.left_out.insert(host.clone(), incarnation);
        vec![Effect::LeftOut { host }]
    }

    fn take_in(&mut self, host: HostId) -> Vec<Effect> {
        let Some(incarnation) = self.left_out.remove(&host) else { return Vec::new() };
        self.opened.may_be_missing += 1;
        self.opened.participants.insert(host.clone(), incarnation);
        vec![Effect::TakenIn { host }]
    }

    fn deadline(&mut self) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Collecting { yes } => {
                let silent = self.opened.participants.keys().filter(|host| !yes.contains(*host)).cloned();
                let silent: Vec<HostId> = silent.collect();
                if self.may_leave_out(silent.len()) {
                    let mut effects: Vec<_> = silent.iter().flat_map(|host| self.leave_out(host)).collect();
                    effects.extend(self.commit_if_unanimous());
                    return effects;
                }
                let mut reason = format!("the time to prepare is over and {} did not answer", listed(&silent));
                if !self.left_out.is_empty() {
                    let already: Vec<_> = self.left_out.keys().cloned().collect();
                    reason = format!("{reason}; {} was left out already", listed(&already));
                }
                self.abort(reason)
            }
            Phase::Committing { is_late, .. } => {
                *is_late = true;
                Vec::new()
            }
            Phase::Aborting { .. } | Phase::Decided { .. } | Phase::Deposed => Vec::new(),
        }
    }

    /// Asks for an abort while that is still possible. Once the commit is at the store, the store decides.
    fn abort(&mut self, reason: String) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Collecting { .. } => {
                self.phase = Phase::Aborting { reason: reason.clone() };
                vec![Effect::WriteAbort { reason }]
            }
            Phase::Committing { regret, .. } => {
                regret.get_or_insert(reason);
                Vec::new()
            }
            Phase::Aborting { .. } | Phase::Decided { .. } | Phase::Deposed => Vec::new(),
        }
    }

    fn stored(&mut self, answer: Answer) -> Vec<Effect> {
        match (&self.phase, answer) {
            (Phase::Committing { .. }, Answer::Done) => self.decided(Outcome::Commit),
            (Phase::Aborting { .. }, Answer::Done) => self.decided(Outcome::Abort),
            (Phase::Committing { .. } | Phase::Aborting { .. }, Answer::AlreadyDecided(outcome)) => {
                self.decided(outcome)
            }
            (Phase::Committing { .. } | Phase::Aborting { .. }, Answer::Deposed) => {
                self.phase = Phase::Deposed;
                vec![Effect::StandDown]
            }
            // The one safe thing to do about silence is to ask the same again.
            (Phase::Committing { .. }, Answer::Unknown) => {
                vec![Effect::WriteCommit { participants: self.opened.participants.clone() }]
            }
            (Phase::Aborting { reason }, Answer::Unknown | Answer::MembersChanged(_)) => {
                vec![Effect::WriteAbort { reason: reason.clone() }]
            }
            (Phase::Committing { regret, is_late }, Answer::MembersChanged(now)) => {
                let (regret, is_late) = (regret.clone(), *is_late);
                self.members_changed(&now, regret, is_late)
            }
            (Phase::Collecting { .. } | Phase::Decided { .. } | Phase::Deposed, _) => Vec::new(),
        }
    }

    /// The commit was refused because the membership moved: promises of lives that ended are void. What was
    /// heard while the commit was at the store counts now.
    fn members_changed(&mut self, now: &Participants, regret: Option<String>, is_late: bool) -> Vec<Effect> {
        let mut yes: BTreeSet<HostId> = self.opened.participants.keys().cloned().collect();
        let mut again = Vec::new();
        let mut removed = Vec::new();
        for (host, known) in &mut self.left_out {
            if let Some(incarnation) = now.get(host) {
                *known = *incarnation;
            }
        }
        for (host, known) in &mut self.opened.participants {
            match now.get(host) {
                Some(incarnation) if incarnation == known => {}
                Some(incarnation) => {
                    *known = *incarnation;
                    yes.remove(host);
                    again.push(host.clone());
                }
                None => removed.push(host.as_str().to_owned()),
            }
        }
        self.phase = Phase::Collecting { yes };
        if !removed.is_empty() {
            return self.abort(format!("{} left the fleet", removed.join(", ")));
        }
        if let Some(reason) = regret {
            return self.abort(reason);
        }
        let mut effects = self.commit_if_unanimous();
        if is_late {
            effects.extend(self.deadline());
        } else {
            effects.extend(again.iter().map(|host| self.prepare(host)));
        }
        effects
    }

    fn decided(&mut self, outcome: Outcome) -> Vec<Effect> {
        self.phase = Phase::Decided { outcome, applied: BTreeSet::new() };
        vec![Effect::Announce]
    }

    fn applied(&mut self, host: HostId) -> Vec<Effect> {
        if !self.opened.participants.contains_key(&host) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Decided { outcome: Outcome::Commit, applied } => {
                let news = applied.insert(host);
                if news && applied.len() == self.opened.participants.len() {
                    vec![Effect::AllApplied]
                } else {
                    Vec::new()
                }
            }
            Phase::Collecting { .. }
            | Phase::Committing { .. }
            | Phase::Aborting { .. }
            | Phase::Decided { outcome: Outcome::Abort, .. }
            | Phase::Deposed => Vec::new(),
        }
    }
}

fn listed(hosts: &[HostId]) -> String {
    hosts.iter().map(HostId::as_str).collect::<Vec<_>>().join(", ")
}

//! Obeys the coordinator until the store has spoken.

use super::{Left, Run, micros};
use crate::board::Notice;
use crate::fleet::Sent;
use crate::ledger::LedgerError;
use crate::planner;
use crate::report::{HostPhase, HostReport, Phase, Report};
use bgctl_proto::crashpoint;
use bgctl_proto::session as wire;
use bgctl_proto::session::controller_message::Kind;
use cutover::Coordinator;
use cutover::coordinator::{Answer, Effect, Event, Phase as Stage};
use cutover::ids::HostId;
use cutover::message::{Outcome, Prepare, Verdict};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Pause before a decision that the store did not answer is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long a host's link may be down before it counts as away: an agent that is restarted is back within two
/// seconds, one that has to find a new leader within a few more.
const AWAY_AFTER: Duration = Duration::from_secs(10);

/// What came of asking for a decision.
enum Heard {
    /// The protocol's business.
    Answer(Answer),
    /// The store refuses for good, for this reason; nothing was written.
    Refused(String),
}

impl Run {
    /// Collects votes and has the decision written. Returns what the store decided.
    pub(super) async fn decide(&mut self, coordinator: &mut Coordinator) -> Result<Outcome, Left> {
        let deadline = Instant::now() + self.time_left();
        let hosts = coordinator.opened().participants.keys();
        let unlinked: Vec<_> = hosts.filter(|host| !self.leader.fleet.is_connected(host)).cloned().collect();
        unlinked.into_iter().for_each(|host| self.is_gone(host));
        let effects = coordinator.step(Event::Begin);
        self.obey(coordinator, effects).await?;
        loop {
            if let Stage::Decided { outcome, .. } = coordinator.phase() {
                return Ok(*outcome);
            }
            let event = tokio::select! {
                notice = self.notices.recv() => match notice {
                    Some(notice) => self.read(notice),
                    None => return Err(Left),
                },
                host = longest_gone(&self.gone) => {
                    self.gone.remove(&host);
                    Some(Event::Away { host })
                }
                () = tokio::time::sleep_until(deadline) => Some(Event::DeadlinePassed),
            };
            if let Some(event) = event {
                let effects = coordinator.step(event);
                self.obey(coordinator, effects).await?;
            }
        }
    }

    /// From the opening, by the wall clock: a new leader must not begin anew.
    fn time_left(&self) -> Duration {
        let timeouts = self.opening.record.services.values().map(|release| release.prepare_timeout_millis);
        let timeout = Duration::from_millis(timeouts.max().unwrap_or_default());
        let spent = self.leader.ledger.ambient().unix_millis().saturating_sub(self.opening.record.opened_unix_millis);
        timeout.saturating_sub(Duration::from_millis(spent))
    }

    fn is_gone(&mut self, host: HostId) {
        self.gone.insert(host, tokio::time::Instant::now() + AWAY_AFTER);
    }

    /// Turns news into the protocol's event, and tells of them.
    pub(super) fn read(&mut self, notice: Notice) -> Option<Event> {
        match notice {
            Notice::Connected { host, incarnation } => {
                self.gone.remove(&host);
                Some(Event::Connected { host, incarnation })
            }
            Notice::Disconnected { host } => {
                self.is_gone(host.clone());
                self.story.change_host(&host, |part| {
                    if part.phase != HostPhase::Switched && part.phase != HostPhase::Failed {
                        part.detail = "the link is down; waiting for it".to_owned();
                    }
                });
                None
            }
            Notice::Vote { host, incarnation, verdict, log_tail, at } => {
                let voted = self.asked.get(&host).map_or(0, |asked| micros(at.duration_since(*asked)));
                self.story.change_host(&host, |part| tell_vote(part, &verdict, log_tail, voted));
                Some(Event::Voted { host, incarnation, verdict })
            }
            Notice::Lost { host, incarnation, reason } => {
                self.story.change_host(&host, |part| {
                    part.phase = HostPhase::Failed;
                    part.detail = reason.clone();
                });
                Some(Event::Lost { host, incarnation, reason })
            }
            Notice::Applied { host, slots, times, at } => self.applied(host, &slots, times, at),
            Notice::Progress { host, progress } => {
                self.story.change_host(&host, |part| tell_progress(part, &progress));
                None
            }
            Notice::Health { host, health } => {
                self.troubled = self.troubled.take().or_else(|| self.trouble(&host, &health));
                None
            }
            Notice::Overtaken { .. } => None,
            Notice::Abort { actor } => Some(Event::AbortAsked { reason: format!("aborted by {actor}") }),
        }
    }

    /// Carries out effects in order. A decision is asked for until the store answers it.
    pub(super) async fn obey(&mut self, coordinator: &mut Coordinator, effects: Vec<Effect>) -> Result<(), Left> {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Prepare { host, message } => self.ask_to_prepare(&host, &message),
                Effect::LeftOut { host } => {
                    tracing::warn!(deployment = %self.id, %host, "left out: it does not answer");
                    self.story.change_host(&host, |part| {
                        part.left_out = true;
                        part.phase = HostPhase::Away;
                        part.detail = "it did not answer while the others made ready; follows by itself".to_owned();
                    });
                }
                Effect::TakenIn { host } => self.story.change_host(&host, |part| part.left_out = false),
                Effect::WriteCommit { participants } => {
                    self.measured.prepared = Some(self.arrived.elapsed());
                    self.story.change(|report| report.phase = Phase::Deciding);
                    let report = self.report_as(Phase::Switching, "");
                    let answer = self.leader.ledger.commit(&self.opening, &participants, &report).await;
                    crashpoint!("before_commit_confirmed");
                    let answer = match self.heed(answer).await? {
                        Heard::Answer(answer) => answer,
                        Heard::Refused(why) => self.abort_refused(&why).await?,
                    };
                    effects.extend(coordinator.step(Event::Stored(answer)));
                    crashpoint!("after_commit_confirmed");
                }
                Effect::WriteAbort { reason } => {
                    self.story.change(|report| {
                        report.phase = Phase::Deciding;
                        report.reason.clone_from(&reason);
                    });
                    let report = self.report_as(Phase::Aborted, &reason);
                    let answer = self.leader.ledger.abort(&self.opening, &reason, &report).await;
                    let answer = match self.heed(answer).await? {
                        Heard::Answer(answer) => answer,
                        Heard::Refused(_) => Answer::Unknown,
                    };
                    effects.extend(coordinator.step(Event::Stored(answer)));
                }
                Effect::Announce => self.announce(coordinator),
                Effect::AnnounceTo { host } => drop(self.leader.fleet.tell_state(&self.leader.ledger, &host)),
                Effect::AllApplied => self.measured.applied = Some(self.arrived.elapsed()),
                Effect::StandDown => return Err(Left),
            }
        }
        Ok(())
    }

    /// What the store said, or that it said nothing. A store that refuses for good leaves the deployment
    /// open: asking again is all that can be done, and a person is told why.
    async fn heed(&self, answer: Result<Answer, LedgerError>) -> Result<Heard, Left> {
        match answer {
            Ok(Answer::Unknown) => {
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
                Ok(Heard::Answer(Answer::Unknown))
            }
            Ok(answer) => Ok(Heard::Answer(answer)),
            Err(LedgerError::Deposed) => Ok(Heard::Answer(Answer::Deposed)),
            Err(error) => {
                tracing::error!(deployment = %self.id, %error, "the store does not take the decision; asking again");
                self.story.change(|report| report.reason = error.to_string());
                tokio::time::sleep(ASK_AGAIN_AFTER * 10).await;
                Ok(Heard::Refused(error.to_string()))
            }
        }
    }

    /// A store that is full takes no commit, and would not for as long as nobody makes room; an abort it takes. One
    /// that was not answered before this may have landed: then that is what the store says.
    async fn abort_refused(&self, why: &str) -> Result<Answer, Left> {
        let reason = format!("the store did not take the commit: {why}");
        let report = self.report_as(Phase::Aborted, &reason);
        let answer = self.leader.ledger.abort(&self.opening, &reason, &report).await;
        Ok(match self.heed(answer).await? {
            Heard::Answer(Answer::Done) => {
                self.story.change(|report| report.reason.clone_from(&reason));
                Answer::AlreadyDecided(Outcome::Abort)
            }
            Heard::Answer(answer) => answer,
            Heard::Refused(_) => Answer::Unknown,
        })
    }

    fn ask_to_prepare(&mut self, host: &HostId, message: &Prepare) {
        let prepare = match planner::prepare_for(&self.opening, message, self.is_rollback()) {
            Ok(prepare) => prepare,
            Err(error) => {
                tracing::error!(deployment = %self.id, %error, "cannot be sent");
                return;
            }
        };
        let at = Instant::now();
        match self.leader.fleet.send(host, Kind::Prepare(prepare)) {
            Sent::Yes => {
                self.asked.insert(host.clone(), at);
                // Asked again, its times begin anew: all of them count from one moment.
                self.story.change_host(host, |part| {
                    part.phase = HostPhase::Asked;
                    (part.pulled_micros, part.started_micros, part.healthy_micros, part.voted_micros) = (0, 0, 0, 0);
                });
            }
            Sent::No => self.story.change_host(host, |part| part.detail = "not linked; waiting for it".to_owned()),
        }
    }

    /// The store has spoken: every host that it concerns hears what it says now.
    fn announce(&mut self, coordinator: &Coordinator) {
        let Stage::Decided { outcome, .. } = coordinator.phase() else { return };
        if *outcome == Outcome::Commit {
            self.measured.decided = Some(self.arrived.elapsed());
        }
        let hosts: Vec<_> = self.leader.ledger.read(|truth| truth.hosts.keys().cloned().collect());
        for host in hosts {
            crashpoint!("before_state_sent");
            self.leader.fleet.tell_state(&self.leader.ledger, &host);
            crashpoint!("after_state_sent", sent);
        }
        match outcome {
            Outcome::Commit => {
                self.story.change(|report| report.phase = Phase::Switching);
                let by = self.opening.record.id.clone();
                let notice = Notice::Overtaken { by: by.clone(), is_rollback: self.is_rollback() };
                self.leader.board.tell_others(self.service.as_str(), &by, &notice);
            }
            Outcome::Abort => {}
        }
        tracing::info!(deployment = %self.id, ?outcome, "decided");
    }

    /// The report as it will be kept if the decision goes through.
    pub(super) fn report_as(&self, phase: Phase, reason: &str) -> Report {
        let mut report = self.story.report();
        report.phase = phase;
        reason.clone_into(&mut report.reason);
        report.elapsed_micros = self.elapsed_micros();
        report
    }
}

/// Answers the host whose absence counts first, when it does.
async fn longest_gone(gone: &BTreeMap<HostId, tokio::time::Instant>) -> HostId {
    match gone.iter().min_by_key(|(_, counts_from)| **counts_from) {
        Some((host, counts_from)) => {
            tokio::time::sleep_until(*counts_from).await;
            host.clone()
        }
        None => std::future::pending().await,
    }
}

fn tell_vote(part: &mut HostReport, verdict: &Verdict, log_tail: Vec<String>, voted: u64) {
    part.voted_micros = voted;
    match verdict {
        Verdict::Yes => {
            part.phase = HostPhase::Ready;
            part.detail.clear();
        }
        Verdict::No(reason) => {
            part.phase = HostPhase::Failed;
            part.detail.clone_from(reason);
            part.log_tail = log_tail;
        }
    }
}

/// News of work may come after the vote: they change no verdict.
fn tell_progress(part: &mut HostReport, progress: &wire::Progress) {
    let phase = match progress.phase() {
        wire::Phase::Pulling => HostPhase::Pulling,
        wire::Phase::Starting => {
            part.pulled_micros = progress.elapsed_micros;
            HostPhase::Starting
        }
        wire::Phase::Probing => {
            if part.started_micros == 0 {
                part.started_micros = progress.elapsed_micros;
            }
            HostPhase::Probing
        }
        wire::Phase::Ready => {
            part.healthy_micros = progress.elapsed_micros;
            return;
        }
        wire::Phase::Asked | wire::Phase::Failed | wire::Phase::Unspecified => return,
    };
    match part.phase {
        HostPhase::Ready | HostPhase::Failed | HostPhase::Switched => {}
        HostPhase::Away | HostPhase::Asked | HostPhase::Pulling | HostPhase::Starting | HostPhase::Probing => {
            part.phase = phase;
            part.detail.clone_from(&progress.detail);
        }
    }
}

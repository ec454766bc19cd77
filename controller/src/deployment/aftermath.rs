//! After the decision: see it applied, watch it, and settle it or take it back.

use super::{APPLY_WITHIN, Left, Run};
use crate::api;
use crate::board::Notice;
use crate::records::Kind;
use crate::report::{HostPhase, Phase};
use bgctl_proto::session as wire;
use cutover::Coordinator;
use cutover::coordinator::Phase as Stage;
use cutover::ids::HostId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How a committed deployment ended.
pub(super) enum Over {
    /// The watch passed.
    Settled,
    /// Another deployment of the service was committed meanwhile.
    Overtaken { by: String, is_rollback: bool },
    /// It was not well.
    Trouble(String),
}

impl Run {
    /// Waits until every participant serves the commit, or for as long as anyone should be kept waiting.
    pub(super) async fn see_applied(&mut self, coordinator: &mut Coordinator) {
        let deadline = Instant::now() + APPLY_WITHIN;
        while !is_applied_by_all(coordinator) {
            let notice = tokio::select! {
                notice = self.notices.recv() => notice,
                () = tokio::time::sleep_until(deadline) => None,
            };
            match notice {
                Some(Notice::Overtaken { .. }) | None => break,
                Some(notice) => {
                    let Some(event) = self.read(notice) else { continue };
                    let effects = coordinator.step(event);
                    if self.obey(coordinator, effects).await.is_err() {
                        break;
                    }
                }
            }
        }
        for host in &behind(coordinator) {
            let why = self.why_behind(host);
            self.story.change_host(host, |part| {
                if part.phase != HostPhase::Switched {
                    part.detail = format!("committed, and not followed yet: {why}");
                }
            });
        }
        self.measured.applied.get_or_insert_with(|| self.arrived.elapsed());
    }

    /// In the host's own words, if it has any.
    fn why_behind(&self, host: &HostId) -> String {
        let view = self.leader.fleet.view(host);
        if view.as_ref().is_some_and(|view| !view.connected) {
            return "the link is down".to_owned();
        }
        let troubles = view.map(|view| view.troubles().join("; ")).filter(|told| !told.is_empty());
        troubles.unwrap_or_else(|| "it will when it can".to_owned())
    }

    /// Writes the report with its numbers, and says so.
    pub(super) async fn keep_report(&mut self, phase: Phase) -> Result<(), Left> {
        let (summary, elapsed) = (self.summary(), self.elapsed_micros());
        let (generation, is_mine) = (self.opening.generation, self.measured.decided.is_some());
        self.story.change(|report| {
            report.phase = phase;
            report.summary = summary.or(report.summary);
            // Of one that an earlier leader had decided, that leader knew it.
            if (report.phase == Phase::Watching && is_mine) || report.elapsed_micros == 0 {
                report.elapsed_micros = elapsed;
            }
        });
        let report = self.story.report();
        if let Err(error) = self.leader.ledger.keep(generation, &report).await {
            tracing::error!(deployment = %self.id, %error, "its report was not kept");
        }
        Ok(())
    }

    /// Stands by for as long as the spec says. A host whose new colour dies takes the deployment back.
    pub(super) async fn watch(&mut self) -> Over {
        let millis =
            self.opening.record.services.values().map(|release| release.watch_millis).max().unwrap_or_default();
        let end = Instant::now() + Duration::from_millis(millis);
        // Health is told once for each change: what came while the last hosts switched does not come again.
        if let Some(trouble) = self.troubled.take() {
            return Over::Trouble(trouble);
        }
        loop {
            let notice = tokio::select! {
                notice = self.notices.recv() => notice,
                () = tokio::time::sleep_until(end) => return Over::Settled,
            };
            match notice {
                Some(Notice::Overtaken { by, is_rollback }) => return Over::Overtaken { by, is_rollback },
                Some(Notice::Health { host, health }) => {
                    if let Some(trouble) = self.trouble(&host, &health) {
                        return Over::Trouble(trouble);
                    }
                }
                Some(Notice::Applied { host, slots, times, at }) => {
                    drop(self.applied(host, &slots, times, at));
                }
                Some(
                    Notice::Connected { .. }
                    | Notice::Disconnected { .. }
                    | Notice::Vote { .. }
                    | Notice::Lost { .. }
                    | Notice::Progress { .. }
                    | Notice::Abort { .. },
                ) => {}
                None => return Over::Settled,
            }
        }
    }

    pub(super) fn trouble(&self, host: &HostId, health: &wire::Health) -> Option<String> {
        if !self.opening.record.participants.contains_key(host.as_str()) {
            return None;
        }
        let slot = health.slots.iter().find(|slot| {
            slot.active && slot.service == self.service.as_str() && slot.generation == self.opening.generation.0
        })?;
        match slot.condition() {
            wire::SlotCondition::Dead | wire::SlotCondition::Unhealthy => {
                let what = if slot.condition() == wire::SlotCondition::Dead { "died" } else { "became unhealthy" };
                Some(format!("{host}: it {what} after the switch: {}", slot.detail))
            }
            wire::SlotCondition::Healthy | wire::SlotCondition::Starting | wire::SlotCondition::Unspecified => None,
        }
    }

    pub(super) async fn end_committed(&mut self, over: Over) -> Result<(), Left> {
        match over {
            Over::Settled | Over::Overtaken { is_rollback: false, .. } => self.keep_report(Phase::Settled).await,
            Over::Overtaken { by, is_rollback: true } => {
                self.story.change(|report| report.rolled_back_by = by);
                self.keep_report(Phase::RolledBack).await
            }
            Over::Trouble(trouble) if self.is_rollback() => {
                // There is nothing better to go to: say it, leave it.
                self.story.change(|report| report.reason = trouble);
                self.keep_report(Phase::Settled).await
            }
            Over::Trouble(trouble) => self.take_back(trouble).await,
        }
    }

    async fn take_back(&mut self, trouble: String) -> Result<(), Left> {
        tracing::error!(deployment = %self.id, %trouble, "taking it back");
        self.story.change(|report| report.reason.clone_from(&trouble));
        let from = Some(self.opening.generation);
        match api::start_rollback(&self.leader, &self.service, api::WATCH, None, from, BTreeSet::new(), Instant::now())
            .await
        {
            Ok(api::Started::Over(report)) => {
                self.story.change(|told| told.rolled_back_by = report.id);
                self.keep_report(Phase::RolledBack).await
            }
            Ok(api::Started::Running(started, _)) => {
                let by = started.report().id;
                let mut beats = started.follow();
                let ended = beats.wait_for(|beat| beat.phase.is_last() || beat.phase == Phase::Watching).await.is_ok();
                let is_back = ended && started.report().phase != Phase::Aborted;
                self.story.change(|report| report.rolled_back_by = by);
                if is_back {
                    return self.keep_report(Phase::RolledBack).await;
                }
                self.story.change(|report| {
                    report.reason = format!("{trouble}; and the way back failed: {}", started.report().reason)
                });
                self.keep_report(Phase::Settled).await
            }
            Err(refused) => {
                match self.overtaken_by() {
                    // An operator was faster. Another step back would be one too many.
                    Some((by, true)) => {
                        self.story.change(|report| report.rolled_back_by = by);
                        return self.keep_report(Phase::RolledBack).await;
                    }
                    Some((_, false)) => return self.keep_report(Phase::Settled).await,
                    None => {}
                }
                let message = refused.message().to_owned();
                self.story.change(|report| report.reason = format!("{trouble}; and there is no way back: {message}"));
                self.keep_report(Phase::Settled).await
            }
        }
    }

    /// What is committed instead of this, and whether that is a way back.
    fn overtaken_by(&self) -> Option<(String, bool)> {
        self.leader.ledger.read(|truth| {
            let (record, _) = truth.services.get(&self.service)?;
            let kind = truth.report(&record.deployment).map(|report| report.kind);
            (record.generation != self.opening.generation.0)
                .then(|| (record.deployment.clone(), kind == Some(Kind::Rollback)))
        })
    }

    /// It was decided against: the report is in the store already, with the decision.
    pub(super) async fn end_aborted(&mut self) -> Result<(), Left> {
        let elapsed = self.elapsed_micros();
        self.story.change(|report| {
            report.phase = Phase::Aborted;
            report.elapsed_micros = elapsed;
        });
        if let Err(error) = self.leader.ledger.forget_oldest(&self.service).await {
            tracing::warn!(deployment = %self.id, %error, "old reports stay for now");
        }
        Ok(())
    }
}

fn is_applied_by_all(coordinator: &Coordinator) -> bool {
    behind(coordinator).is_empty()
}

fn behind(coordinator: &Coordinator) -> Vec<HostId> {
    let Stage::Decided { applied, .. } = coordinator.phase() else { return Vec::new() };
    let all = coordinator.opened().participants.keys();
    all.filter(|host| !applied.contains(*host)).cloned().collect()
}

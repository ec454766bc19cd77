//! What is known about a deployment: the controller's events, put together.

use crate::args::Until;
use bgctl_proto::operator::{Deployment, DeploymentEvent, DeploymentPhase, HostPhase, HostProgress};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// All that was told so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// None before the first event.
    pub deployment: Option<Deployment>,
    /// By name.
    pub hosts: BTreeMap<String, HostProgress>,
    /// It was running before this command.
    pub attached: bool,
    /// Why the connection is gone; none: it is not.
    pub lost: Option<String>,
    /// When the last event came.
    told: Option<Instant>,
}

/// What an event changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Nothing was known before it.
    pub first: bool,
    /// The deployment's phase is another one.
    pub phase: bool,
    /// Hosts of which anything was told.
    pub hosts: Vec<String>,
    /// Of these, those whose phase is another one.
    pub host_phases: Vec<String>,
}

impl Progress {
    /// Takes an event in.
    pub fn merge(&mut self, event: DeploymentEvent, now: Instant) -> Changes {
        let DeploymentEvent { deployment, hosts, last: _, attached } = event;
        let mut changes = Changes { first: self.deployment.is_none(), ..Changes::default() };
        if let Some(deployment) = deployment {
            // Only the first answer tells: the same request repeated finds its own deployment running.
            self.attached |= changes.first && attached;
            changes.phase = self.deployment.as_ref().is_none_or(|known| known.phase != deployment.phase);
            self.deployment = Some(deployment);
            self.told = Some(now);
        }
        for host in hosts {
            let known = self.hosts.get(&host.host);
            if known.is_none_or(|known| known.phase != host.phase) {
                changes.host_phases.push(host.host.clone());
            }
            if known != Some(&host) {
                changes.hosts.push(host.host.clone());
            }
            self.hosts.insert(host.host.clone(), host);
        }
        changes
    }

    /// The deployment's phase; unspecified before the first event.
    pub fn phase(&self) -> DeploymentPhase {
        self.deployment.as_ref().map_or(DeploymentPhase::Unspecified, Deployment::phase)
    }

    /// Hosts that took part in what is done and do not serve it yet.
    pub fn behind(&self) -> impl Iterator<Item = &HostProgress> {
        let is_done = matches!(self.phase(), DeploymentPhase::Watching | DeploymentPhase::Settled);
        let is_behind = move |host: &&HostProgress| is_done && !host.left_out && host.phase() != HostPhase::Switched;
        self.hosts.values().filter(is_behind)
    }

    /// Since the request's arrival at the controller: what it said last, and on from there while it runs.
    pub fn elapsed(&self, now: Instant) -> Duration {
        let (Some(deployment), Some(told)) = (&self.deployment, self.told) else { return Duration::ZERO };
        let said = Duration::from_micros(deployment.elapsed_micros);
        if self.reached(Until::Settled) { said } else { said + now.saturating_duration_since(told) }
    }

    /// It is as far as one wanted to follow it, or as far as it will get.
    pub fn reached(&self, until: Until) -> bool {
        match self.phase() {
            DeploymentPhase::Unspecified
            | DeploymentPhase::Preparing
            | DeploymentPhase::Deciding
            | DeploymentPhase::Switching => false,
            DeploymentPhase::Watching => until == Until::Switched,
            DeploymentPhase::Settled | DeploymentPhase::Aborted | DeploymentPhase::RolledBack => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(phase: DeploymentPhase, hosts: &[(&str, HostPhase)], attached: bool) -> DeploymentEvent {
        let hosts = hosts
            .iter()
            .map(|(host, phase)| HostProgress {
                host: (*host).into(),
                phase: (*phase).into(),
                ..HostProgress::default()
            })
            .collect();
        let deployment = Deployment { phase: phase.into(), elapsed_micros: 1_000_000, ..Deployment::default() };
        DeploymentEvent { deployment: Some(deployment), hosts, last: false, attached }
    }

    /// After a lost connection everything is told again: only what is new counts as changed.
    #[test]
    fn told_twice_is_changed_once() {
        let (mut progress, now) = (Progress::default(), Instant::now());
        let hosts = [("a", HostPhase::Ready), ("b", HostPhase::Pulling)];
        let first = progress.merge(event(DeploymentPhase::Preparing, &hosts, false), now);
        assert!(first.first && first.phase);
        assert_eq!(first.host_phases, ["a", "b"]);

        let again = [("a", HostPhase::Ready), ("b", HostPhase::Ready)];
        let second = progress.merge(event(DeploymentPhase::Preparing, &again, true), now);
        assert!(!second.first && !second.phase);
        assert_eq!((second.host_phases, second.hosts), (vec!["b".to_owned()], vec!["b".to_owned()]));

        let mut third = event(DeploymentPhase::Preparing, &[("b", HostPhase::Ready)], false);
        third.hosts[0].detail = "still ready".to_owned();
        let third = progress.merge(third, now);
        assert_eq!((third.host_phases, third.hosts), (vec![], vec!["b".to_owned()]), "a detail is not a phase");
        assert!(!progress.attached, "our own deployment, found again, is not someone else's");
    }

    #[test]
    fn time_goes_on_between_events_and_stops_at_the_end() {
        let (mut progress, told) = (Progress::default(), Instant::now());
        let later = told + Duration::from_millis(500);
        progress.merge(event(DeploymentPhase::Preparing, &[], false), told);
        assert_eq!(progress.elapsed(later), Duration::from_millis(1500));
        progress.merge(event(DeploymentPhase::Aborted, &[], false), told);
        assert_eq!(progress.elapsed(later), Duration::from_secs(1));
    }
}

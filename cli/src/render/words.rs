//! The wire's enums as words. People and JSON get the same ones.

use super::line::{Line, Tone};
use super::time;
use bgctl_proto::operator::{ByHand, Deployment, DeploymentKind, DeploymentPhase, FollowerView, HostPhase};

/// What a value of a newer controller is called.
const UNKNOWN: &str = "unknown";

/// That an answer is not the leader's; nothing if it is.
pub fn follower(follower: Option<&FollowerView>) -> Vec<Line> {
    let Some(FollowerView { replica, age_millis, leader }) = follower else { return Vec::new() };
    let why = match leader.as_str() {
        "" => "no controller leads now".to_owned(),
        address => format!("the leader at {address} does not answer"),
    };
    let told = format!(
        "{why}: this is what {replica} knows of the store, confirmed {} ago; how hosts are only the leader hears",
        time::whole(age_millis / 1000)
    );
    vec![Line::new().with(Tone::Busy, &told)]
}

/// `switched by hand to green (v1) at 2026-11-20 09:56:04Z by uid 0`
pub fn by_hand(hand: &ByHand) -> String {
    let ByHand { service: _, colour, version, at_unix_millis, uid } = hand;
    format!("switched by hand to {colour} ({version}) at {} by uid {uid}", time::date(*at_unix_millis))
}

/// A deployment's kind.
pub fn kind(kind: DeploymentKind) -> &'static str {
    match kind {
        DeploymentKind::Unspecified => UNKNOWN,
        DeploymentKind::Deploy => "deploy",
        DeploymentKind::Rollback => "rollback",
    }
}

/// A deployment's phase.
pub fn phase(phase: DeploymentPhase) -> &'static str {
    match phase {
        DeploymentPhase::Unspecified => UNKNOWN,
        DeploymentPhase::Preparing => "preparing",
        DeploymentPhase::Deciding => "deciding",
        DeploymentPhase::Switching => "switching",
        DeploymentPhase::Watching => "watching",
        DeploymentPhase::Settled => "settled",
        DeploymentPhase::Aborted => "aborted",
        DeploymentPhase::RolledBack => "rolled_back",
    }
}

/// How a deployment's phase is to be read.
pub fn phase_tone(phase: DeploymentPhase) -> Tone {
    match phase {
        DeploymentPhase::Unspecified => Tone::Plain,
        DeploymentPhase::Preparing | DeploymentPhase::Deciding | DeploymentPhase::Switching => Tone::Busy,
        DeploymentPhase::Watching | DeploymentPhase::Settled => Tone::Good,
        DeploymentPhase::Aborted | DeploymentPhase::RolledBack => Tone::Bad,
    }
}

/// A host's phase.
pub fn host_phase(phase: HostPhase) -> &'static str {
    match phase {
        HostPhase::Unspecified => UNKNOWN,
        HostPhase::Away => "away",
        HostPhase::Asked => "asked",
        HostPhase::Pulling => "pulling",
        HostPhase::Starting => "starting",
        HostPhase::Probing => "probing",
        HostPhase::Ready => "ready",
        HostPhase::Failed => "failed",
        HostPhase::Switched => "switched",
    }
}

/// A host's phase for people: what is wrong is in capitals, so that it stands out without colours.
pub fn host_phase_line(phase: HostPhase) -> Line {
    let (tone, text) = match phase {
        HostPhase::Unspecified => (Tone::Plain, UNKNOWN),
        HostPhase::Away => (Tone::Bad, "AWAY"),
        HostPhase::Failed => (Tone::Bad, "FAILED"),
        HostPhase::Asked | HostPhase::Pulling | HostPhase::Starting | HostPhase::Probing => {
            (Tone::Busy, host_phase(phase))
        }
        HostPhase::Ready | HostPhase::Switched => (Tone::Good, host_phase(phase)),
    };
    Line::new().with(tone, text)
}

/// `deploy web 2.3.0 → 2.3.1`.
pub fn title(deployment: &Deployment) -> Line {
    let versions = versions(deployment);
    Line::new().with(Tone::Strong, &format!("{} {} {versions}", kind(deployment.kind()), deployment.service))
}

/// `without h3`, or nothing if the decision rests on every host.
pub fn without(deployment: &Deployment) -> Option<String> {
    let Deployment { left_out, .. } = deployment;
    (!left_out.is_empty()).then(|| format!("without {}", left_out.join(", ")))
}

/// `2.3.0 → 2.3.1`, or `2.3.1` if nothing was there before.
pub fn versions(deployment: &Deployment) -> String {
    let Deployment { from_version, version, .. } = deployment;
    if from_version.is_empty() { version.clone() } else { format!("{from_version} → {version}") }
}

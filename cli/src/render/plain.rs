//! Progress where there is no terminal: a line a change, stamped with the time since the request.

use super::line::{Line, Tone};
use super::words;
use crate::args::Until;
use crate::progress::{Changes, Progress};
use bgctl_proto::operator::HostPhase;

/// The lines about one event: the deployment's phase if it is new, then each host whose phase is new. A
/// deployment that is over is told of after its hosts.
pub fn lines(progress: &Progress, changes: &Changes) -> Vec<Line> {
    let Some(deployment) = &progress.deployment else { return Vec::new() };
    let stamp = format!("{:>9.3} s  ", deployment.elapsed_micros as f64 / 1e6);
    let mut lines = Vec::new();
    if changes.first {
        let hosts = deployment.host_count.max(progress.hosts.len() as u32);
        let rest = format!(" on {hosts} {}, deployment {}", if hosts == 1 { "host" } else { "hosts" }, deployment.id);
        lines.push(Line::of(&stamp).followed_by(words::title(deployment)).with(Tone::Plain, &rest));
    }
    let phase = changes
        .phase
        .then(|| Line::of(&stamp).with(words::phase_tone(progress.phase()), words::phase(progress.phase())));
    let over = progress.reached(Until::Switched);
    lines.extend(phase.clone().filter(|_| !over));
    for host in changes.host_phases.iter().filter_map(|name| progress.hosts.get(name)) {
        let line = Line::of(&stamp).with(Tone::Plain, &format!("{}  ", host.host));
        let line = line.followed_by(words::host_phase_line(host.phase()));
        lines.push(match host.phase() {
            HostPhase::Failed | HostPhase::Away if !host.detail.is_empty() => {
                line.with(Tone::Plain, &format!(": {}", host.detail))
            }
            HostPhase::Unspecified
            | HostPhase::Away
            | HostPhase::Asked
            | HostPhase::Pulling
            | HostPhase::Starting
            | HostPhase::Probing
            | HostPhase::Ready
            | HostPhase::Failed
            | HostPhase::Switched => line,
        });
    }
    lines.extend(phase.filter(|_| over));
    lines
}

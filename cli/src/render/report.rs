//! What is said when following a deployment ends: the result, or why there is none.

use super::frame::{Columns, hosts};
use super::line::{Line, Tone};
use super::{time, words};
use crate::follow::Ended;
use crate::progress::Progress;
use bgctl_proto::operator::{Deployment, DeploymentPhase, HostPhase, HostProgress, Summary};
use std::time::Duration;

/// Failed hosts whose logs are shown. When a version is bad it is bad on every host, in the same words.
const FAILED_SHOWN_MAX: usize = 5;

/// Width of the names before the figures.
const NAME_COLUMNS: usize = 21;

/// The result of a deployment: what it did, each host's times, the figures, and the exact reason of a failure.
pub fn result(progress: &Progress) -> Vec<Line> {
    let Some(deployment) = &progress.deployment else { return Vec::new() };
    let mut lines = vec![headline(progress, deployment), origin(deployment)];
    if !deployment.reason.is_empty() {
        lines.extend(labelled("reason:", &deployment.reason));
    }
    if !progress.hosts.is_empty() {
        lines.push(Line::new());
        lines.extend(hosts(&progress.hosts.values().collect::<Vec<_>>(), Columns::Result).lines(0));
    }
    lines.push(Line::new());
    lines.extend(figures(deployment));
    lines.extend(failures(progress, deployment));
    for host in progress.behind().filter(|host| host.phase() != HostPhase::Failed) {
        lines.push(Line::new());
        lines.extend(labelled(&format!("{}:", host.host), &host.detail));
    }
    lines
}

/// Said first, if the deployment was there before this command.
pub fn attached(progress: &Progress) -> Option<Line> {
    let deployment = progress.deployment.as_ref().filter(|_| progress.attached)?;
    let text = format!("attached to deployment {}, which was already running", deployment.id);
    let by = if deployment.actor.is_empty() { String::new() } else { format!(", begun by {}", deployment.actor) };
    Some(Line::new().with(Tone::Busy, &format!("{text}{by}")))
}

/// Why there is no result, and what to do; nothing if there is one.
pub fn ending(progress: &Progress, ended: &Ended, again: Option<&str>, patience: Duration) -> Vec<Line> {
    let told = match ended {
        Ended::Reached => return Vec::new(),
        Ended::Interrupted => "interrupted".to_owned(),
        Ended::Lost { detail } => {
            let patience = humantime::format_duration(patience);
            format!("connection to the controller lost, and not back within {patience}: {detail}")
        }
        Ended::Short => "the controller ended its report before the deployment's end".to_owned(),
        Ended::Untold { cause } => format!("the controller tells no more of the deployment: {cause}"),
    };
    let mut lines: Vec<Line> = told.lines().map(Line::of).collect();
    lines.extend(what_now(progress, again).iter().map(|line| Line::of(line)));
    lines
}

fn what_now(progress: &Progress, again: Option<&str>) -> Vec<String> {
    let Some(Deployment { id, service, .. }) = &progress.deployment else {
        let known = ["it is not known whether the request was taken; to find out:", "  bgctl status"];
        let again = again.map(|again| format!("  {again}"));
        return known.into_iter().map(str::to_owned).chain(again).collect();
    };
    let mut lines = vec![format!("deployment {id} goes on by itself; to see how:"), format!("  bgctl watch {id}")];
    match progress.phase() {
        DeploymentPhase::Unspecified | DeploymentPhase::Preparing | DeploymentPhase::Deciding => {
            lines.push(format!("to end it:\n  bgctl abort {service}"));
        }
        DeploymentPhase::Switching | DeploymentPhase::Watching => {
            lines.push(format!("to take it back:\n  bgctl rollback {service}"));
        }
        DeploymentPhase::Settled | DeploymentPhase::Aborted | DeploymentPhase::RolledBack => {}
    }
    lines.iter().flat_map(|line| line.lines()).map(str::to_owned).collect()
}

fn headline(progress: &Progress, deployment: &Deployment) -> Line {
    let Deployment { version, from_version, host_count, .. } = deployment;
    let switched = progress.hosts.values().filter(|host| host.phase() == HostPhase::Switched).count();
    let all = (*host_count as usize).max(progress.hosts.len());
    let before = |verb: &str| match from_version.as_str() {
        "" => "nothing served before".to_owned(),
        from => format!("{from} {verb}"),
    };
    let behind: Vec<_> = progress.behind().map(|host| host.host.as_str()).collect();
    let (tone, done, behind) = match behind[..] {
        [] => (words::phase_tone(progress.phase()), "done", String::new()),
        _ => (Tone::Bad, "NOT EVERYWHERE", format!("; {} not yet, and goes on trying", behind.join(", "))),
    };
    let served = format!("{switched} of {all} hosts serve {version}{behind}{}", left_out(progress));
    let (word, rest) = match progress.phase() {
        DeploymentPhase::Watching => (done, format!("{served}; until it settles errors still take it back")),
        DeploymentPhase::Settled => (done, format!("{served}; settled")),
        DeploymentPhase::Aborted => ("ABORTED", format!("nothing changed; {}", before("serves on"))),
        DeploymentPhase::RolledBack => ("ROLLED BACK", before("serves again")),
        DeploymentPhase::Unspecified
        | DeploymentPhase::Preparing
        | DeploymentPhase::Deciding
        | DeploymentPhase::Switching => ("NOT OVER", words::phase(progress.phase()).to_owned()),
    };
    words::title(deployment).with(Tone::Plain, ": ").with(tone, word).with(Tone::Plain, &format!(", {rest}"))
}

/// Who was left out, and what comes of it.
fn left_out(progress: &Progress) -> String {
    let (back, away): (Vec<_>, Vec<_>) =
        progress.hosts.values().filter(|host| host.left_out).partition(|host| host.phase() == HostPhase::Switched);
    let told = |hosts: Vec<&HostProgress>, what: &str| {
        let names: Vec<_> = hosts.iter().map(|host| host.host.as_str()).collect();
        if names.is_empty() { String::new() } else { format!("; {} {what}", names.join(", ")) }
    };
    format!("{}{}", told(away, "left out, will catch up"), told(back, "left out, has caught up"))
}

fn origin(deployment: &Deployment) -> Line {
    let Deployment { id, generation, actor, rolled_back_by, .. } = deployment;
    let by = if actor.is_empty() { String::new() } else { format!(", by {actor}") };
    let back = if rolled_back_by.is_empty() { String::new() } else { format!(", taken back by {rolled_back_by}") };
    Line::new().with(Tone::Faint, &format!("deployment {id}, generation {generation}{by}{back}"))
}

fn figures(deployment: &Deployment) -> Vec<Line> {
    let Some(summary) = &deployment.summary else {
        return vec![figure("took", &time::span(deployment.elapsed_micros))];
    };
    let Summary { skew_micros, skew_error_micros, prepared_micros, decided_micros, applied_micros, requests_lost } =
        summary;
    let skew = format!("{} (± {})", time::span(*skew_micros), time::span(*skew_error_micros));
    let lost = requests_lost.map_or("not measured".to_owned(), |lost| lost.to_string());
    vec![
        figure("first-to-last skew", &skew),
        figure("prepare", &time::span(*prepared_micros)),
        figure("decide", &time::span(decided_micros.saturating_sub(*prepared_micros))),
        figure("apply", &time::span(applied_micros.saturating_sub(*decided_micros))),
        figure("total", &time::span(*applied_micros)),
        figure("requests lost", &lost),
    ]
}

fn figure(name: &str, value: &str) -> Line {
    Line::new().with(Tone::Faint, name).padded_to(NAME_COLUMNS).with(Tone::Plain, value)
}

/// Each failed host with its reason and the last its container said.
fn failures(progress: &Progress, deployment: &Deployment) -> Vec<Line> {
    let failed: Vec<&HostProgress> = progress.hosts.values().filter(|host| host.phase() == HostPhase::Failed).collect();
    let mut lines = Vec::new();
    for host in failed.iter().take(FAILED_SHOWN_MAX) {
        lines.push(Line::new());
        lines.extend(labelled(&format!("{}:", host.host), &host.detail));
        if !host.log_tail.is_empty() {
            lines.push(Line::new().with(Tone::Faint, "  last lines of its container:"));
        }
        for entry in &host.log_tail {
            lines.push(Line::new().with(Tone::Faint, "  | ").with(Tone::Plain, entry.trim_end()));
        }
    }
    if failed.len() > FAILED_SHOWN_MAX {
        let hidden = failed.len() - FAILED_SHOWN_MAX;
        lines.push(Line::new());
        lines.push(Line::of(&format!(
            "… and {hidden} more failed; all of them: bgctl history {} --json",
            deployment.service
        )));
    }
    lines
}

/// Text that may have several lines, behind a label.
fn labelled(label: &str, text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = text.lines().map(|line| Line::of(&format!("  {line}"))).collect();
    let first = Line::new().with(Tone::Bad, label);
    match lines.len() {
        0 => vec![first],
        1 => vec![first.with(Tone::Plain, " ").followed_by(Line::of(text.trim()))],
        _ => {
            lines.insert(0, first);
            lines
        }
    }
}

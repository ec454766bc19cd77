//! One picture of a running deployment: what is known, the time, and the room there is go in; lines that
//! fit come out.

use super::line::{Line, Tone};
use super::table::{Side, Table};
use super::{time, words};
use crate::progress::Progress;
use bgctl_proto::operator::{DeploymentPhase, HostPhase, HostProgress};
use std::collections::BTreeMap;
use std::time::Duration;

/// The room on a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Across.
    pub columns: usize,
    /// Down.
    pub rows: usize,
}

/// Draws at most `rows - 1` lines of at most `columns - 1` each: the cursor stands below, and nothing touches the
/// right margin, where terminals differ.
pub fn frame(progress: &Progress, elapsed: Duration, size: Size) -> Vec<Line> {
    let mut lines = vec![overall(progress, elapsed)];
    if let Some(detail) = &progress.lost {
        lines.push(lost(detail));
    }
    // One row each for the table's heading and for the cursor.
    let room = size.rows.saturating_sub(lines.len() + 2);
    let (shown, hidden) = choose(progress.hosts.values().collect(), room);
    if !shown.is_empty() {
        lines.extend(hosts(&shown, Columns::Live).lines(2));
    }
    if !hidden.is_empty() {
        lines.push(Line::new().with(Tone::Faint, &format!("  {}", more(&hidden))));
    }
    lines.truncate(size.rows.saturating_sub(1));
    lines.into_iter().map(|line| line.cut_to(size.columns.saturating_sub(1))).collect()
}

/// What is said while the connection is gone.
pub fn lost(detail: &str) -> Line {
    Line::new().with(Tone::Bad, "connection to the controller lost, trying again: ").with(Tone::Plain, detail)
}

/// Which columns a table of hosts has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// While it goes on: with what each host is doing.
    Live,
    /// Afterwards: with what the switch took.
    Result,
}

/// A row a host: its phase, and when it reached each, since it was asked.
pub fn hosts(hosts: &[&HostProgress], columns: Columns) -> Table {
    let right = |name| (name, Side::Right);
    let mut headings = vec![("HOST", Side::Left), ("PHASE", Side::Left)];
    headings.extend(["PULLED", "STARTED", "HEALTHY", "VOTED", "SWITCHED"].map(right));
    match columns {
        Columns::Live => headings.push(("NOW", Side::Left)),
        Columns::Result => headings.extend(["RENAME", "PROOF"].map(right)),
    }
    let mut table = Table::new(&headings);
    for host in hosts {
        let moments =
            [host.pulled_micros, host.started_micros, host.healthy_micros, host.voted_micros, host.switched_micros];
        let mut row = vec![Line::of(&host.host), words::host_phase_line(host.phase())];
        row.extend(moments.map(moment));
        match columns {
            Columns::Live => row.push(Line::of(&host.detail)),
            Columns::Result => row.extend([host.rename_micros, host.proof_micros].map(moment)),
        }
        table.row(row);
    }
    table
}

fn moment(micros: u64) -> Line {
    Line::of(&time::reached(micros))
}

fn overall(progress: &Progress, elapsed: Duration) -> Line {
    let Some(deployment) = &progress.deployment else { return Line::of("asking the controller …") };
    let phase = progress.phase();
    // The clock comes first: on a narrow terminal it is the end of the line that is cut.
    let line = Line::of(&format!("{:>7}  ", time::clock(elapsed))).followed_by(words::title(deployment));
    let line = line.with(Tone::Plain, "  ").with(words::phase_tone(phase), words::phase(phase));
    let line = line.with(Tone::Plain, &format!("  {}", tally(progress)));
    let failed = progress.hosts.values().filter(|host| host.phase() == HostPhase::Failed).count();
    if failed > 0 { line.with(Tone::Bad, &format!("  {failed} FAILED")) } else { line }
}

/// How many hosts are as far as the phase wants them to be.
fn tally(progress: &Progress) -> String {
    let stated = progress.deployment.as_ref().map_or(0, |deployment| deployment.host_count as usize);
    let all = stated.max(progress.hosts.len());
    let count = |wanted: &[HostPhase]| progress.hosts.values().filter(|host| wanted.contains(&host.phase())).count();
    let switched = count(&[HostPhase::Switched]);
    match progress.phase() {
        DeploymentPhase::Unspecified
        | DeploymentPhase::Preparing
        | DeploymentPhase::Deciding
        | DeploymentPhase::Aborted => {
            format!("{} of {all} ready", count(&[HostPhase::Ready]) + switched)
        }
        DeploymentPhase::Switching
        | DeploymentPhase::Watching
        | DeploymentPhase::Settled
        | DeploymentPhase::RolledBack => format!("{switched} of {all} switched"),
    }
}

/// All hosts by name while there is room. Else the failed first, then those with most left to do, and one row
/// less, for the line about the others.
fn choose(mut hosts: Vec<&HostProgress>, room: usize) -> (Vec<&HostProgress>, Vec<&HostProgress>) {
    if hosts.len() <= room {
        return (hosts, Vec::new());
    }
    // Stable: by name among equals.
    hosts.sort_by_key(|host| urgency(host.phase()));
    let hidden = hosts.split_off(room.saturating_sub(1));
    (hosts, hidden)
}

fn urgency(phase: HostPhase) -> u8 {
    match phase {
        HostPhase::Failed => 0,
        HostPhase::Away => 1,
        HostPhase::Unspecified => 2,
        HostPhase::Asked => 3,
        HostPhase::Pulling => 4,
        HostPhase::Starting => 5,
        HostPhase::Probing => 6,
        HostPhase::Ready => 7,
        HostPhase::Switched => 8,
    }
}

fn more(hidden: &[&HostProgress]) -> String {
    let mut counts: BTreeMap<(u8, &str), usize> = BTreeMap::new();
    for host in hidden {
        *counts.entry((urgency(host.phase()), words::host_phase(host.phase()))).or_default() += 1;
    }
    let parts: Vec<_> = counts.iter().map(|((_, word), count)| format!("{count} {word}")).collect();
    match counts.keys().collect::<Vec<_>>()[..] {
        [(_, word)] => format!("… and {} more {word}", hidden.len()),
        _ => format!("… and {} more: {}", hidden.len(), parts.join(", ")),
    }
}

#[cfg(test)]
mod tests;

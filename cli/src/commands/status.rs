//! `bgctl status`: what serves where, what is pending, and where a rollback would go.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::render::line::{Line, Tone};
use crate::render::table::{Side, Table};
use crate::render::{json, print, print_json, say, time, words};
use bgctl_proto::operator::{Deployment, HostServiceStatus, ServiceStatus, StatusReply, StatusRequest};
use std::time::SystemTime;

/// Shows one service, or all.
pub async fn run(client: &Client<'_>, service: Option<String>, json: bool) -> Result<Exit, Failure> {
    let request = StatusRequest { service: service.unwrap_or_default() };
    let reply = client.read(async |mut controller| controller.status(request.clone()).await).await?;
    say(&words::follower(reply.follower.as_ref()));
    say(&reply.warnings.iter().map(|warning| Line::new().with(Tone::Bad, warning)).collect::<Vec<_>>());
    if json {
        print_json(&json::status(&reply)).map_err(Failure::Output)?;
    } else {
        show(&reply)?;
    }
    Ok(Exit::Done)
}

fn show(reply: &StatusReply) -> Result<(), Failure> {
    if !reply.store_doubt.is_empty() {
        let doubt = Line::new().with(Tone::Bad, "THE STORE IS IN DOUBT  ").with(Tone::Plain, &reply.store_doubt);
        print(&[doubt, Line::new()]).map_err(Failure::Output)?;
    }
    if reply.services.is_empty() {
        say(&[Line::of("no service yet; the first one comes with: bgctl apply -f FILE")]);
    } else {
        print(&lines(&reply.services, SystemTime::now())).map_err(Failure::Output)?;
    }
    Ok(())
}

/// All services, a block each.
fn lines(services: &[ServiceStatus], now: SystemTime) -> Vec<Line> {
    let blocks: Vec<Vec<Line>> = services.iter().map(|service| block(service, now)).collect();
    blocks.join(&Line::new())
}

fn block(service: &ServiceStatus, now: SystemTime) -> Vec<Line> {
    let heading = Line::new().with(Tone::Strong, &service.service);
    let serves = match service.version.as_str() {
        "" => heading.with(Tone::Busy, "  nothing deployed yet"),
        version => heading.with(Tone::Plain, &format!("  {version}  generation {}", service.generation)),
    };
    let serves = if service.mixed { serves.with(Tone::Bad, "  MIXED: not all hosts serve it") } else { serves };
    let mut lines = vec![serves.with(Tone::Plain, &format!("  spec revision {}", service.spec_revision))];
    lines.extend(service.pending.as_ref().map(|pending| labelled("pending", deployment(pending, now))));
    let pending_is_latest =
        service.pending.as_ref().map(|pending| &pending.id) == service.latest.as_ref().map(|l| &l.id);
    if !pending_is_latest {
        lines.extend(service.latest.as_ref().map(|latest| labelled("latest", deployment(latest, now))));
    }
    lines.push(labelled("rollback", rollback(service)));
    if service.hosts.is_empty() {
        lines.push(labelled("hosts", Line::new().with(Tone::Busy, "NONE selected by its labels")));
        return lines;
    }
    lines.push(Line::new());
    lines.extend(hosts(service).lines(2));
    lines
}

fn labelled(label: &str, rest: Line) -> Line {
    Line::of("  ").with(Tone::Faint, label).padded_to(12).followed_by(rest)
}

fn deployment(deployment: &Deployment, now: SystemTime) -> Line {
    let Deployment { id, actor, started_unix_millis, elapsed_micros, reason, rolled_back_by, .. } = deployment;
    let phase = deployment.phase();
    let line = Line::of(&format!("{} {}  ", words::kind(deployment.kind()), words::versions(deployment)));
    let mut rest = format!("  {}", time::date_and_age(*started_unix_millis, now));
    rest.push_str(&format!(", {}", time::span(*elapsed_micros)));
    if !actor.is_empty() {
        rest.push_str(&format!(", by {actor}"));
    }
    if let Some(without) = words::without(deployment) {
        rest.push_str(&format!(", {without}"));
    }
    if !rolled_back_by.is_empty() {
        rest.push_str(&format!(", taken back by {rolled_back_by}"));
    }
    rest.push_str(&format!("  ({id})"));
    if !reason.is_empty() {
        rest.push_str(&format!("  {reason}"));
    }
    line.with(words::phase_tone(phase), words::phase(phase)).with(Tone::Plain, &rest)
}

fn rollback(service: &ServiceStatus) -> Line {
    let version = &service.rollback_version;
    match (version.is_empty(), service.rollback_ready) {
        (true, _) => Line::new().with(Tone::Faint, "nowhere to go"),
        (false, true) => Line::new().with(Tone::Good, &format!("to {version}, ready on every host")),
        (false, false) => {
            let told = format!("to {version}, NOT READY on every host: it would be made ready first");
            Line::new().with(Tone::Busy, &told)
        }
    }
}

fn hosts(service: &ServiceStatus) -> Table {
    let headings = ["HOST", "STATE", "COLOUR", "VERSION", "CONDITION", "ROLLBACK", "STANDBY", "TROUBLE"];
    let mut table = Table::new(&headings.map(|name| (name, Side::Left)));
    for host in &service.hosts {
        let standby = [host.standby_version.as_str(), &host.standby_condition].join(" ");
        table.row(vec![
            Line::of(&host.host),
            state(host, service),
            Line::of(&host.colour),
            Line::of(&host.version),
            Line::new().with(condition_tone(&host.condition), &host.condition),
            ready(host, service),
            Line::of(standby.trim()),
            Line::new().with(Tone::Bad, &trouble(host)),
        ]);
    }
    table
}

/// What is wrong, and what somebody did on the host itself.
fn trouble(host: &HostServiceStatus) -> String {
    let hand = host.by_hand.iter().map(words::by_hand);
    // Two words for one thing, mostly: the first says more.
    let told = [&host.trouble, &host.not_ready].into_iter().find(|text| !text.is_empty()).cloned();
    hand.chain(told).collect::<Vec<_>>().join("; ")
}

fn state(host: &HostServiceStatus, service: &ServiceStatus) -> Line {
    if host.connected && host.by_hand.is_some() {
        return Line::new().with(Tone::Bad, "BY HAND");
    }
    let (tone, told) = match (host.connected, host.current) {
        _ if host.dropped => (Tone::Bad, "NOT SELECTED"),
        (false, _) => (Tone::Bad, "AWAY"),
        (true, true) => (Tone::Good, "current"),
        (true, false) if service.version.is_empty() => (Tone::Plain, "connected"),
        (true, false) => (Tone::Bad, "NOT CURRENT"),
    };
    Line::new().with(tone, told)
}

/// A rollback of this host is a rename, or work.
fn ready(host: &HostServiceStatus, service: &ServiceStatus) -> Line {
    let warm = host.connected
        && host.standby_version == service.rollback_version
        && condition_tone(&host.standby_condition) == Tone::Good;
    match (service.rollback_version.is_empty(), warm) {
        (true, _) => Line::new(),
        (false, true) => Line::new().with(Tone::Good, "ready"),
        (false, false) => Line::new().with(Tone::Busy, "NOT READY"),
    }
}

fn condition_tone(condition: &str) -> Tone {
    match condition {
        "healthy" => Tone::Good,
        "starting" => Tone::Busy,
        "" => Tone::Plain,
        _ => Tone::Bad,
    }
}

#[cfg(test)]
mod tests;

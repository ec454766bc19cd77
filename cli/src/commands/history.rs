//! `bgctl history`: a service's deployments, newest first.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::render::line::Line;
use crate::render::table::{Side, Table};
use crate::render::{json, print, print_json, say, time, words};
use bgctl_proto::operator::{Deployment, HistoryRequest, Summary};

/// Shows the newest `limit` deployments of a service.
pub async fn run(client: &Client<'_>, service: String, limit: u32, json: bool) -> Result<Exit, Failure> {
    let request = HistoryRequest { service, limit };
    let reply = client.read(async |mut controller| controller.history(request.clone()).await).await?;
    say(&words::follower(reply.follower.as_ref()));
    if json {
        print_json(&json::history(&reply)).map_err(Failure::Output)?;
    } else if reply.deployments.is_empty() {
        say(&[Line::of(&format!("{} was never deployed", request.service))]);
    } else {
        let deployments = reply.deployments.iter().filter_map(|report| report.deployment.as_ref());
        print(&table(deployments).lines(0)).map_err(Failure::Output)?;
    }
    Ok(Exit::Done)
}

fn table<'a>(deployments: impl Iterator<Item = &'a Deployment>) -> Table {
    let left = |name| (name, Side::Left);
    let right = |name| (name, Side::Right);
    let mut table = Table::new(&[
        left("DEPLOYMENT"),
        left("KIND"),
        left("VERSION"),
        left("OUTCOME"),
        left("BY"),
        left("STARTED"),
        right("TOOK"),
        right("SKEW"),
        left("REASON"),
    ]);
    for deployment in deployments {
        let phase = deployment.phase();
        let summary = deployment.summary.as_ref();
        let took = summary.map_or(deployment.elapsed_micros, |summary: &Summary| summary.applied_micros);
        let skew = summary.map(|summary| time::span(summary.skew_micros)).unwrap_or_default();
        table.row(vec![
            Line::of(&deployment.id),
            Line::of(words::kind(deployment.kind())),
            Line::of(&words::versions(deployment)),
            Line::new().with(words::phase_tone(phase), words::phase(phase)),
            Line::of(&deployment.actor),
            Line::of(&time::date(deployment.started_unix_millis)),
            Line::of(&time::span(took)),
            Line::of(&skew),
            Line::of(&reason(deployment)),
        ]);
    }
    table
}

fn reason(deployment: &Deployment) -> String {
    let Deployment { reason, rolled_back_by, .. } = deployment;
    let back = (!rolled_back_by.is_empty()).then(|| format!("taken back by {rolled_back_by}"));
    let notes: Vec<_> = words::without(deployment).into_iter().chain(back).collect();
    match (reason.is_empty(), notes.is_empty()) {
        (_, true) => reason.clone(),
        (true, false) => notes.join(", "),
        (false, false) => format!("{reason} ({})", notes.join(", ")),
    }
}

//! `bgctl abort`: ends an open deployment, and says how it really ended.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::render::line::{Line, Tone};
use crate::render::{json, print, print_json, words};
use bgctl_proto::operator::{AbortRequest, Deployment, DeploymentPhase};

/// Aborts; without a service, the only open deployment. Too late is "not possible as things stand".
pub async fn run(client: &Client<'_>, service: Option<String>, json: bool) -> Result<Exit, Failure> {
    let request = AbortRequest { service: service.unwrap_or_default() };
    let reply = client.call(async |mut controller| controller.abort(request.clone()).await).await?;
    let deployment = reply.deployment.ok_or(Failure::Answer { missing: "the deployment" })?;
    if json { print_json(&json::deployment(&deployment)) } else { print(&[line(&deployment)]) }
        .map_err(Failure::Output)?;
    Ok(exit_of(deployment.phase()))
}

fn exit_of(phase: DeploymentPhase) -> Exit {
    match phase {
        DeploymentPhase::Aborted | DeploymentPhase::RolledBack => Exit::Done,
        DeploymentPhase::Unspecified
        | DeploymentPhase::Preparing
        | DeploymentPhase::Deciding
        | DeploymentPhase::Switching
        | DeploymentPhase::Watching
        | DeploymentPhase::Settled => Exit::Refused,
    }
}

fn line(deployment: &Deployment) -> Line {
    let Deployment { id, service, reason, .. } = deployment;
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let (tone, told) = match deployment.phase() {
        DeploymentPhase::Aborted => (Tone::Good, "aborted, nothing changed".to_owned()),
        DeploymentPhase::RolledBack => (Tone::Good, "rolled back".to_owned()),
        DeploymentPhase::Switching | DeploymentPhase::Watching | DeploymentPhase::Settled => {
            let phase = words::phase(deployment.phase());
            (Tone::Bad, format!("TOO LATE, it is {phase}; to take it back: bgctl rollback {service}"))
        }
        DeploymentPhase::Unspecified | DeploymentPhase::Preparing | DeploymentPhase::Deciding => {
            (Tone::Bad, format!("NOT ABORTED, it is {}", words::phase(deployment.phase())))
        }
    };
    words::title(deployment)
        .with(Tone::Plain, ": ")
        .with(tone, &told)
        .with(Tone::Plain, &format!("{because} (deployment {id})"))
}

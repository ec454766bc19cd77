//! Removes what a fleet made, whatever state it is in: by asking its agents first, then by looking.

use super::FleetError;
use super::plan::{Host, Plan};
use super::supervisor::Run;
use crate::process::{self, Process};
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::future::join_all;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// For `bgctl-agent remove`: it stops containers kindly, each within its grace period.
const AGENT_REMOVE_LIMIT: Duration = Duration::from_secs(30);
/// For a process between SIGTERM and SIGKILL.
const END_GRACE: Duration = Duration::from_secs(5);
/// The label that says whose a container is.
const HOST_LABEL: &str = "bgctl.host";
/// The kernel keeps so many bytes of a process's name.
const PROCESS_NAME_BYTES: usize = 15;

/// Removes processes, containers and networks of the fleet. Finding nothing is fine.
///
/// # Errors
/// What is left.
pub(super) async fn sweep(plan: &Plan) -> Result<(), FleetError> {
    end_programs(plan).await?;
    join_all(plan.hosts.iter().map(|host| ask_agent(plan, host))).await;
    end_processes(plan).await?;
    remove_from_docker(plan).await
}

/// Removes the fleet's folder. Finding none is fine.
pub(super) fn remove_dir(dir: &Path) -> Result<(), FleetError> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FleetError::File { action: "remove", path: dir.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Programs that outlived their supervisor; they must not work against what follows. Those on record, and
/// those that were started just before the record could be written.
async fn end_programs(plan: &Plan) -> Result<(), FleetError> {
    let recorded = plan.programs.iter().filter_map(|program| Run::load(&plan.dir, &program.name)?.process);
    end_all(recorded.filter(Process::is_alive).collect()).await?;
    let names: Vec<_> = plan.programs.iter().filter_map(|program| process_name(&program.path)).collect();
    end_all(process::working_in(&plan.dir, &names.iter().map(String::as_str).collect::<Vec<_>>())).await
}

/// Whatever it leaves is found afterwards: its failure is worth a word in the log and no more.
async fn ask_agent(plan: &Plan, host: &Host) {
    let Some(agent) = plan.programs.iter().find(|program| program.name == host.agent()) else { return };
    let mut command = Command::new(&agent.path);
    command.arg("remove").arg("--config").arg(plan.host_dir(host).join("agent.yaml")).kill_on_drop(true);
    let outcome = match tokio::time::timeout(AGENT_REMOVE_LIMIT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => return,
        Ok(Ok(output)) => format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not done within {AGENT_REMOVE_LIMIT:?}"),
    };
    eprintln!("fleet: `bgctl-agent remove` of {} failed ({outcome}); removing by hand", host.name);
}

/// nginx outlives its agent, and its workers may outlive it.
async fn end_processes(plan: &Plan) -> Result<(), FleetError> {
    end_all(process::working_in(&plan.dir, &["nginx"])).await
}

async fn end_all(processes: Vec<Process>) -> Result<(), FleetError> {
    let ended = join_all(processes.iter().map(|process| process.end(END_GRACE))).await;
    match processes.iter().zip(ended).find(|(_, ended)| !ended) {
        Some((process, _)) => Err(FleetError::Process { pid: process.pid, name: process.name() }),
        None => Ok(()),
    }
}

async fn remove_from_docker(plan: &Plan) -> Result<(), FleetError> {
    let docker = Docker::connect_with_unix_defaults().map_err(FleetError::docker("connect to Docker"))?;
    for host in &plan.hosts {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{HOST_LABEL}={}", host.name)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = docker.list_containers(Some(options)).await;
        for container in found.map_err(FleetError::docker("list containers"))? {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let removed = docker.remove_container(&container.id.unwrap_or_default(), Some(options)).await;
            // Somebody else removes it already.
            gone(removed, &[404, 409]).map_err(FleetError::docker("remove a container"))?;
        }
        gone(docker.remove_network(&host.network).await, &[404])
            .map_err(FleetError::docker("remove a Docker network"))?;
    }
    Ok(())
}

fn gone(outcome: Result<(), bollard::errors::Error>, fine: &[u16]) -> Result<(), bollard::errors::Error> {
    match &outcome {
        Err(error) if fine.iter().any(|status| crate::images::has_status(error, *status)) => Ok(()),
        Ok(()) | Err(_) => outcome,
    }
}

fn process_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    Some(name.chars().take(PROCESS_NAME_BYTES).collect())
}

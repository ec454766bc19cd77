//! The containers of a host: those its Docker knows, and the processes of all of them as the kernel has them, whatever
//! that Docker says.

use super::sweep::CONTROL_GROUPS;
use super::{Machine, NetFleet, NetFleetError, engine};
use crate::images::has_status;
use crate::process::Process;
use bollard::query_parameters::ListContainersOptionsBuilder;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contained {
    /// The container's id, all of it.
    pub container: String,
    /// The process.
    pub process: Process,
}

impl Machine {
    /// The processes of its containers: those of its Docker, and those that its Docker does not know of any more.
    pub fn contained(&self) -> Vec<Contained> {
        contained(self.control_group())
    }
}

impl NetFleet {
    /// Every container that a host's Docker knows, also those that do not run: its id, and the sample service's version
    /// in it. Empty: it is of nothing of ours.
    ///
    /// # Errors
    /// Docker's words.
    pub async fn containers(&self, host: usize) -> Result<Vec<(String, String)>, NetFleetError> {
        let host = &self.hosts[host];
        let docker = engine::client(host)?;
        let all = ListContainersOptionsBuilder::new().all(true).build();
        let listed =
            docker.list_containers(Some(all)).await.map_err(NetFleetError::docker("list containers", host.name()))?;
        let mut containers = Vec::new();
        for id in listed.into_iter().filter_map(|container| container.id) {
            let facts = match docker.inspect_container(&id, None).await {
                Ok(facts) => facts,
                Err(error) if has_status(&error, 404) => continue,
                Err(source) => return Err(NetFleetError::docker("look at a container", host.name())(source)),
            };
            let environment = facts.config.and_then(|config| config.env).unwrap_or_default();
            let version = environment.iter().find_map(|variable| variable.strip_prefix(engine::VERSION));
            containers.push((id, version.unwrap_or_default().to_owned()));
        }
        Ok(containers)
    }

    /// Waits until a host's Docker says of every container with a process that it runs.
    ///
    /// # Errors
    /// [`NetFleetError::Deadline`], with those that it says nothing of.
    pub async fn wait_all_known(&self, host: usize, limit: Duration) -> Result<(), NetFleetError> {
        let deadline = Instant::now() + limit;
        loop {
            let said = match self.unknown(host).await {
                Ok(unknown) if unknown.is_empty() => return Ok(()),
                Ok(unknown) => unknown.join(", "),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                let name = self.hosts[host].name();
                let what = format!("the end of what the Docker of {name} does not know of ({said})");
                return Err(NetFleetError::Deadline { what, limit });
            }
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
    }

    async fn unknown(&self, host: usize) -> Result<Vec<String>, NetFleetError> {
        let host = &self.hosts[host];
        // Before Docker is asked: what it started since then is not looked at.
        let contained = host.contained();
        let docker = engine::client(host)?;
        let running = docker.list_containers(Some(ListContainersOptionsBuilder::new().build())).await;
        let running = running.map_err(NetFleetError::docker("list containers", host.name()))?;
        let is_known = |one: &Contained| running.iter().any(|known| known.id.as_ref() == Some(&one.container));
        let unknown = contained.iter().filter(|one| !is_known(one) && one.process.is_alive());
        Ok(unknown.map(|one| format!("{} of container {}", one.process.name(), one.container)).collect())
    }
}

pub(super) fn contained(control_group: &str) -> Vec<Contained> {
    let Some(groups) = groups(control_group) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in fs::read_dir(groups).into_iter().flatten().flatten() {
        let container = entry.file_name().to_string_lossy().into_owned();
        // What is no group has no such file.
        let pids = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
        let processes = pids.lines().filter_map(|pid| Process::of(pid.parse().ok()?)).filter(Process::is_alive);
        all.extend(processes.map(|process| Contained { container: container.clone(), process }));
    }
    all
}

/// The folder whose folders are containers. Version 1 has a tree for each controller, and any of them will do.
fn groups(name: &str) -> Option<PathBuf> {
    let root = Path::new(CONTROL_GROUPS);
    let trees = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    [root.to_owned()].into_iter().chain(trees).map(|tree| tree.join(name)).find(|groups| groups.is_dir())
}

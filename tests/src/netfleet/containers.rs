//! The processes of a machine's containers as the kernel has them, whatever its Docker says.

use super::Machine;
use super::sweep::CONTROL_GROUPS;
use crate::process::Process;
use std::fs;
use std::path::{Path, PathBuf};

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

//! Docker, as a person on the machine would use it, behind the agents' backs.

use super::scene::LIMIT;
use std::process::Command;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs `docker`; what it printed.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("docker: {error}; see `make install-packages`"));
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "docker {}: {complained}", arguments.join(" "));
    said.trim().to_owned()
}

/// The versions whose containers are on a host, with their ids; `running`: of those that run.
pub fn containers(host: &str, running: bool) -> Vec<(String, String)> {
    let label = format!("label=bgctl.host={host}");
    let all: &[&str] = if running { &[] } else { &["--all"] };
    let listed = docker(&[&["ps", "--no-trunc", "--filter", &label, "--quiet"], all].concat());
    listed.lines().filter_map(|id| Some((version(id)?, id.to_owned()))).collect()
}

/// None: the container is gone meanwhile.
fn inspect(id: &str, format: &str) -> Option<String> {
    let output = Command::new("docker").args(["inspect", "--format", format, id]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn version(id: &str) -> Option<String> {
    let environment: Vec<String> = serde_json::from_str(&inspect(id, "{{json .Config.Env}}")?).ok()?;
    environment.iter().find_map(|variable| variable.strip_prefix("APP_VERSION=")).map(str::to_owned)
}

/// The container of this version on a host, that runs.
pub fn container_of(host: &str, version: &str) -> String {
    let all = containers(host, true);
    let found = all.iter().find(|(of, _)| of == version);
    found.unwrap_or_else(|| panic!("no container of {version} runs on {host}: {all:?}")).1.clone()
}

/// Which container of this version runs on a host, and since when. None: none does.
fn life(host: &str, version: &str) -> Option<String> {
    let id = containers(host, true).into_iter().find(|(of, _)| of == version)?.1;
    inspect(&id, "{{.Id}} {{.State.StartedAt}}")
}

/// From now on: whether the container of this version that runs on a host has died and runs again, or has a successor.
pub fn runs_again(host: &str, version: &str) -> impl FnMut() -> bool {
    let before = life(host, version);
    move || life(host, version).is_some_and(|now| Some(now) != before)
}

/// Waits until a container of this version runs on a host.
pub async fn started(host: &str, version: &str) {
    let deadline = Instant::now() + LIMIT;
    while !containers(host, true).iter().any(|(of, _)| of == version) {
        assert!(Instant::now() < deadline, "no container of {version} was started on {host}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until a host has containers of these versions and of no others.
pub async fn only(host: &str, versions: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut there: Vec<_> = containers(host, false).into_iter().map(|(version, _)| version).collect();
        there.sort();
        if there == versions {
            return;
        }
        assert!(Instant::now() < deadline, "{host} has containers of {there:?}, not of {versions:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A container that is nobody's of the fleet. Removed with the value, also when a test fails.
pub struct Foreign(String);

impl Foreign {
    /// Takes an address in a network.
    pub fn at(network: &str, address: &str) -> Self {
        let id = docker(&["run", "--detach", "--network", network, "--ip", address, "demo/web:v1"]);
        Self(id)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

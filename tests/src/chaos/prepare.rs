//! What a case finds: a fleet at rest, with two of three versions on the host that is struck. The third has to be fetched,
//! made and started there, and one of the two makes room for it, however the case before ended.

use super::scene::{ChaosError, Scene};
use super::trial::text;
use crate::netfleet::NetFleetError;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The versions that are deployed: one more than stand side by side.
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
/// Containers of a host at rest: what is served, and the way back.
const CONTAINERS_AT_REST: usize = 2;
/// For containers of the release before to be gone, so that its image can be.
const CLEAR_LIMIT: Duration = Duration::from_secs(60);
/// How often a waiting caller looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A fleet that is ready for a case.
pub(super) struct Prepared {
    /// `bgctl status --json`.
    pub(super) before: Value,
    /// The version that the struck host has nothing of.
    pub(super) version: &'static str,
    /// What went wrong until now.
    pub(super) faults: Vec<String>,
}

pub(super) async fn prepare(scene: &mut Scene, host: usize) -> Result<Prepared, ChaosError> {
    let mut faults = Vec::new();
    // Each deployment brings one more of them to the host.
    for _ in VERSIONS {
        let before = scene.at_rest().await?;
        let there = at_rest_on(scene, host).await?;
        let serves = text(&before["services"][0]["version"]);
        let missing = VERSIONS.iter().filter(|version| !there.iter().any(|there| there == *version));
        let missing: Vec<_> = missing.copied().filter(|version| *version != serves).collect();
        match missing[..] {
            [] => {}
            [version] => {
                scene.fleet.forget_image(host, version).await?;
                return Ok(Prepared { before, version, faults });
            }
            [version, ..] => {
                let ran = scene.fleet.bgctl(&["deploy", "web", "--version", version]).await?;
                if ran.code != Some(0) {
                    return Err(ChaosError::Missing { what: format!("{version} ({})", ran.short()) });
                }
                scene.at_rest().await?;
                // What users see of this is not the case's.
                let report = scene.change_of_users().await?;
                if report.total.failed > 0 {
                    faults.push(format!("{} requests were lost while it was prepared", report.total.failed));
                }
            }
        }
    }
    let what = format!("a host {} with two versions of three", scene.fleet.hosts()[host].name());
    Err(ChaosError::Missing { what })
}

/// The versions on a host, once there are no more of them than stay.
async fn at_rest_on(scene: &Scene, host: usize) -> Result<Vec<String>, ChaosError> {
    let deadline = Instant::now() + CLEAR_LIMIT;
    loop {
        let there = scene.fleet.containers(host).await;
        if let Ok(there) = &there
            && there.len() <= CONTAINERS_AT_REST
        {
            return Ok(there.iter().map(|(_, version)| version.clone()).collect());
        }
        if Instant::now() >= deadline {
            let what = format!(
                "only {CONTAINERS_AT_REST} containers on {} (there: {there:?})",
                scene.fleet.hosts()[host].name()
            );
            return Err(NetFleetError::Deadline { what, limit: CLEAR_LIMIT }.into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

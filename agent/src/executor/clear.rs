//! Taking away what no longer has a place. Nothing here decides what that is.

use super::job::Tools;
use crate::docker::{Condition, ContainerFacts, EngineError};
use crate::state::Standing;
use bgctl_proto::crashpoint;
use futures_util::future::try_join_all;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Of a container whose release is not known any more.
const GRACE_UNKNOWN: Duration = Duration::from_secs(10);

/// Stops and removes these, after the requests that may be under way in them had their time.
pub async fn clear(
    tools: &Tools,
    containers: &[ContainerFacts],
    standing: Option<&Standing>,
    addresses: &[SocketAddrV4],
) -> Result<(), EngineError> {
    if containers.is_empty() {
        return Ok(());
    }
    let now = tools.clocks.now();
    let retired = standing.and_then(|standing| Some((standing, standing.retired?)));
    let drain = retired.map_or(Duration::ZERO, |(standing, retired)| retired.drain_left(now, standing.release.drain));
    crashpoint!("before_drain_start");
    tools.traffic.drained(addresses, drain).await;
    crashpoint!("after_drain_end");
    try_join_all(containers.iter().map(|facts| async {
        let container =
            standing.filter(|standing| standing.release.digest == facts.labels.release).and_then(|standing| {
                standing.release.containers.iter().find(|container| container.name == facts.labels.container)
            });
        let grace = container.map_or(GRACE_UNKNOWN, |container| container.stop_grace_period);
        crashpoint!("before_remove");
        match facts.condition {
            Condition::Running => tools.engine.stop(&facts.id, grace).await?,
            // What Docker has lost track of it cannot stop.
            Condition::Created | Condition::Exited { .. } => tools.engine.evict(&facts.id).await?,
        }
        tools.engine.remove(&facts.id).await?;
        crashpoint!("after_remove");
        Ok::<_, EngineError>(())
    }))
    .await?;
    Ok(())
}

//! Taking away what no longer has a place. Nothing here decides what that is.

use super::job::Tools;
use super::vacate::{evict, strays};
use crate::docker::{ContainerFacts, EngineError};
use crate::state::Standing;
use bgctl_proto::crashpoint;
use futures_util::future::try_join_all;
use std::net::{Ipv4Addr, SocketAddrV4};
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
    // While Docker still knows their ids: what it has lost track of cannot be stopped.
    let theirs: Vec<Ipv4Addr> = containers.iter().flat_map(|facts| facts.addresses.iter().copied()).collect();
    let mut lost = strays(tools, &theirs).await?;
    lost.retain(|stray| containers.iter().any(|facts| facts.id == stray.id));
    evict(tools, &lost).await?;
    try_join_all(containers.iter().map(|facts| async {
        let container =
            standing.filter(|standing| standing.release.digest == facts.labels.release).and_then(|standing| {
                standing.release.containers.iter().find(|container| container.name == facts.labels.container)
            });
        let grace = container.map_or(GRACE_UNKNOWN, |container| container.stop_grace_period);
        crashpoint!("before_remove");
        tools.engine.stop(&facts.id, grace).await?;
        tools.engine.remove(&facts.id).await?;
        crashpoint!("after_remove");
        Ok::<_, EngineError>(())
    }))
    .await?;
    Ok(())
}

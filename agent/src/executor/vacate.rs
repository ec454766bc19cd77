//! An address is nobody's before a container is started at it. Docker sees to that as far as it knows; what it lost
//! track of when its daemon was killed is ended here.

use super::job::Tools;
use crate::docker::{Condition, ContainerFacts, EngineError, Occupant};
use crate::release::Container;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::Instant;

/// For an address to be free after its holder ended: the kernel takes a network apart when it comes to it, usually
/// within 50 ms, later where hundreds of containers end at once.
const FREE_LIMIT: Duration = Duration::from_secs(5);

/// How often that is asked.
const FREE_PAUSE: Duration = Duration::from_millis(10);

/// How often Docker is asked to start what was made before, when it refuses.
const START_TRIES: u32 = 5;

/// Between these.
const START_PAUSE: Duration = Duration::from_millis(200);

/// Ends what Docker has lost track of at these addresses, and waits until nobody answers there for it. Where there was
/// nothing, nobody knocks: the kernel would remember for a second that nobody answers, and the first probe of what
/// is started there would wait for that.
///
/// # Errors
/// [`EngineError::Taken`] when somebody answers all the same, whom nobody here knows.
pub async fn vacate(tools: &Tools, addresses: &[Ipv4Addr]) -> Result<(), EngineError> {
    end(tools, &strays(tools, addresses).await?).await
}

/// Ends these, and waits until nobody answers at their addresses.
///
/// # Errors
/// As [`vacate`].
pub async fn end(tools: &Tools, strays: &[Occupant]) -> Result<(), EngineError> {
    for stray in strays {
        tracing::warn!(%stray, "Docker lost track of what runs there when its daemon was killed; ending it");
        tools.engine.evict(&stray.id).await?;
    }
    for stray in strays {
        wait_until_free(tools, stray.address).await?;
    }
    Ok(())
}

/// Starts a container that was made before. It may not be startable under its id any more: a start that was broken off
/// leaves things behind in containerd and runc, which clear them away when they come to it, and sometimes never. Then it
/// is ended and removed, to be made anew. None: that is what happened. Whatever else Docker refuses it for is tried again
/// first, and it is never removed where it alone still holds its image.
pub async fn start_or_remove(tools: &Tools, container: &Container, id: &str) -> Result<Option<()>, EngineError> {
    let mut tries = 1;
    let refusal = loop {
        match tools.engine.start(id).await {
            Err(EngineError::Refused { detail, .. }) if tries < START_TRIES && !is_in_its_own_way(&detail) => {
                tries += 1;
                tokio::time::sleep(START_PAUSE).await;
            }
            Err(refusal @ EngineError::Refused { .. }) => break refusal,
            started => return started.map(Some),
        }
    };
    if tools.engine.image(container.pin.reference()).await?.is_none() {
        return Err(refusal);
    }
    tracing::warn!(id, error = %refusal, "a container that was made before cannot be started; it is made anew");
    tools.engine.evict(id).await?;
    tools.engine.remove(id).await?;
    Ok(None)
}

/// Docker has no code for it, only the words of whoever found it there.
fn is_in_its_own_way(detail: &str) -> bool {
    ["already exists", "already in use", "file exists"].iter().any(|words| detail.contains(words))
}

/// Whoever has one of these addresses and does not run, as Docker says. Nothing to see is nothing to end: what cannot
/// be seen is told once a minute, among the warnings on Docker.
pub async fn strays(tools: &Tools, addresses: &[Ipv4Addr]) -> Result<Vec<Occupant>, EngineError> {
    let occupants = match tools.engine.occupants(&tools.network, addresses).await {
        Err(EngineError::Blind { .. }) => return Ok(Vec::new()),
        occupants => occupants?,
    };
    let mut strays = Vec::new();
    for occupant in occupants {
        // Asked after the look: Docker answers for a container when it is done with starting it.
        match tools.engine.inspect(&occupant.id).await {
            Ok(Some(ContainerFacts { condition: Condition::Running, .. })) => {}
            Ok(Some(ContainerFacts { condition: Condition::Created | Condition::Exited { .. }, .. }) | None) => {
                strays.push(occupant);
            }
            // Not one of ours: whoever made it may have it.
            Err(EngineError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(strays)
}

/// Ends what Docker does not even list any more, at any of these addresses: nobody else ever would. The others have
/// their keeper, or somebody who clears them away.
pub async fn sweep(tools: &Tools, addresses: &[Ipv4Addr]) -> Result<(), EngineError> {
    let mut forgotten = Vec::new();
    for stray in strays(tools, addresses).await? {
        if tools.engine.inspect(&stray.id).await?.is_none() {
            forgotten.push(stray);
        }
    }
    for stray in forgotten {
        tracing::warn!(%stray, "ending what Docker has lost track of");
        tools.engine.evict(&stray.id).await?;
    }
    Ok(())
}

async fn wait_until_free(tools: &Tools, address: Ipv4Addr) -> Result<(), EngineError> {
    let until = Instant::now() + FREE_LIMIT;
    while tools.prober.is_anybody(address).await {
        if Instant::now() >= until {
            return Err(EngineError::Taken {
                what: format!("address {address}"),
                detail: format!(
                    "somebody answers there, and no container that Docker knows; `ip neigh show {address}` and \
                     `bridge fdb show` on this host tell who it is"
                ),
            });
        }
        tokio::time::sleep(FREE_PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

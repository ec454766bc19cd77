//! Starting, stopping, removing and looking at containers.

use super::call::{Failure, checked, unresponsive, within};
use super::{ContainerFacts, EngineError, Limits};
use crate::docker::{Condition, Labels, labels, short};
use bollard::Docker;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status};
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions, StopContainerOptions};
use cutover::ids::HostId;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::Instant;

/// Between looks at a container that somebody else is removing; it is usually gone after some 50 ms.
const GONE_PAUSE: Duration = Duration::from_millis(20);

/// libnetwork's words for a fixed address that another running container has. There is no code for it.
const ADDRESS_TAKEN: &str = "Address already in use";

pub(super) async fn start(client: &Docker, limits: &Limits, id: &str) -> Result<(), EngineError> {
    let id = checked("a container", id)?;
    let operation = format!("starting container {}", short(id));
    match within(&operation, limits.act, client.start_container(id, None)).await {
        Ok(()) => Ok(()),
        Err(Failure::Status { message, .. }) if message.contains(ADDRESS_TAKEN) => {
            let container = raw(client, limits, id).await?;
            let address = container.as_ref().and_then(fixed_address).map(|(_, address)| address);
            let address = address.map_or_else(|| "its address".to_owned(), |address| format!("address {address}"));
            Err(EngineError::Taken { what: address, detail: message })
        }
        Err(failure) => Err(failure.into()),
    }
}

pub(super) async fn stop(client: &Docker, limits: &Limits, id: &str, grace: Duration) -> Result<(), EngineError> {
    let id = checked("a container", id)?;
    let operation = format!("stopping container {}", short(id));
    let options = StopContainerOptions { t: Some(whole_seconds(grace)), signal: None };
    let limit = Duration::from_secs(whole_seconds(grace).unsigned_abs().into()) + limits.stop_margin;
    match within(&operation, limit, client.stop_container(id, Some(options))).await {
        Ok(()) | Err(Failure::Status { code: 404, .. }) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// Also removes its anonymous volumes: nothing else would ever do it.
pub(super) async fn remove(client: &Docker, limits: &Limits, id: &str) -> Result<(), EngineError> {
    let id = checked("a container", id)?;
    let operation = format!("removing container {}", short(id));
    let until = Instant::now() + limits.act;
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    match within(&operation, limits.act, client.remove_container(id, Some(options))).await {
        Ok(()) | Err(Failure::Status { code: 404, .. }) => Ok(()),
        // Somebody else is at it: gone is what was asked for, so wait until it is.
        Err(Failure::Status { code: 409, message, .. }) if message.contains("already in progress") => {
            while raw(client, limits, id).await?.is_some() {
                if Instant::now() >= until {
                    return Err(unresponsive(&operation, limits.act));
                }
                tokio::time::sleep(GONE_PAUSE).await;
            }
            Ok(())
        }
        Err(failure) => Err(failure.into()),
    }
}

pub(super) async fn inspect(client: &Docker, limits: &Limits, id: &str) -> Result<Option<ContainerFacts>, EngineError> {
    let Some(container) = raw(client, limits, id).await? else { return Ok(None) };
    let found = facts(&container);
    if found.is_none() {
        return Err(EngineError::Refused {
            operation: format!("looking at container {}", short(id)),
            detail: "it does not carry this program's labels".to_owned(),
        });
    }
    Ok(found)
}

pub(super) async fn list(client: &Docker, limits: &Limits, host: &HostId) -> Result<Vec<ContainerFacts>, EngineError> {
    let filters = [("label".to_owned(), vec![format!("{}={host}", labels::HOST)])].into();
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    let listed = within("listing containers", limits.look, client.list_containers(Some(options))).await?;
    let mut all = Vec::new();
    // The list tells neither exit code nor memory, so each is looked at. One that is gone by then is gone.
    for id in listed.into_iter().filter_map(|container| container.id) {
        let Some(container) = raw(client, limits, &id).await? else { continue };
        match facts(&container) {
            Some(facts) => all.push(facts),
            None => tracing::warn!(id = short(&id), "a container with our host label lacks others; left alone"),
        }
    }
    Ok(all)
}

/// Everything Docker says of a container. None: there is none.
pub(super) async fn raw(
    client: &Docker,
    limits: &Limits,
    id: &str,
) -> Result<Option<ContainerInspectResponse>, EngineError> {
    let id = checked("a container", id)?;
    let operation = format!("looking at container {}", short(id));
    match within(&operation, limits.look, client.inspect_container(id, None)).await {
        Ok(container) => Ok(Some(container)),
        Err(Failure::Status { code: 404, .. }) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// None: it does not carry our labels.
pub(super) fn facts(container: &ContainerInspectResponse) -> Option<ContainerFacts> {
    Some(ContainerFacts {
        id: container.id.clone()?,
        labels: Labels::from_map(container.config.as_ref()?.labels.as_ref()?)?,
        image_id: container.image.clone()?,
        condition: condition(container.state.as_ref()?),
        addresses: fixed_addresses(container).map(|(_, address)| address).collect(),
    })
}

/// The network and the fixed address it was created with.
pub(super) fn fixed_address(container: &ContainerInspectResponse) -> Option<(&str, Ipv4Addr)> {
    fixed_addresses(container).next()
}

fn fixed_addresses(container: &ContainerInspectResponse) -> impl Iterator<Item = (&str, Ipv4Addr)> {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    networks.into_iter().flatten().filter_map(|(name, endpoint)| {
        let address = endpoint.ipam_config.as_ref()?.ipv4_address.as_ref()?;
        Some((name.as_str(), address.parse().ok()?))
    })
}

pub(super) fn whole_seconds(duration: Duration) -> i32 {
    let up = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    i32::try_from(up).unwrap_or(i32::MAX)
}

fn condition(state: &ContainerState) -> Condition {
    let exited =
        Condition::Exited { exit_code: state.exit_code.unwrap_or(0), out_of_memory: state.oom_killed.unwrap_or(false) };
    match state.status {
        Some(Status::CREATED) => Condition::Created,
        // A paused process answers no probe; that is for the health check to find.
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING) => Condition::Running,
        Some(Status::EXITED | Status::DEAD | Status::REMOVING | Status::EMPTY) => exited,
        None if state.running == Some(true) => Condition::Running,
        None => exited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_rounded_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
        assert_eq!(whole_seconds(Duration::MAX), i32::MAX);
    }
}

//! The agent's own bridge network.

use super::call::{Failure, checked, within};
use super::{EngineError, Limits, Network};
use bollard::Docker;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};

/// Where somebody who makes the network by hand may name its bridge.
const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";

/// Otherwise Docker names it by so many digits of the network's id.
const BRIDGE_DIGITS: usize = 12;

pub(super) async fn ensure(client: &Docker, limits: &Limits, network: &Network) -> Result<(), EngineError> {
    let name = checked("a network", &network.name)?;
    if let Some(found) = look(client, limits, name).await? {
        return compare(&found, network);
    }
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            driver: Some("default".to_owned()),
            config: Some(vec![IpamConfig {
                subnet: Some(network.subnet.to_string()),
                gateway: Some(network.subnet.gateway().to_string()),
                ..Default::default()
            }]),
            options: None,
        }),
        ..Default::default()
    };
    let operation = format!("creating network {name}");
    match within(&operation, limits.act, client.create_network(request)).await {
        Ok(_) => Ok(()),
        // Another agent on this Docker was quicker.
        Err(Failure::Status { code: 409, message, .. }) => match look(client, limits, name).await? {
            Some(found) => compare(&found, network),
            None => Err(EngineError::Refused { operation, detail: message }),
        },
        Err(Failure::Status { message, .. }) => Err(EngineError::Network {
            name: name.to_owned(),
            detail: format!(
                "Docker refuses subnet {}: {message}; choose one that no other network of this host uses",
                network.subnet
            ),
        }),
        Err(failure) => Err(failure.into()),
    }
}

pub(super) async fn remove(client: &Docker, limits: &Limits, name: &str) -> Result<(), EngineError> {
    let name = checked("a network", name)?;
    match within(&format!("removing network {name}"), limits.act, client.remove_network(name)).await {
        Ok(()) | Err(Failure::Status { code: 404, .. }) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// What the kernel calls the network's bridge. None: there is no such network.
pub(super) async fn bridge(client: &Docker, limits: &Limits, name: &str) -> Result<Option<String>, EngineError> {
    let found = look(client, limits, checked("a network", name)?).await?;
    Ok(found.and_then(|network| {
        let chosen = network.options.as_ref().and_then(|options| options.get(BRIDGE_OPTION).cloned());
        chosen.or_else(|| Some(format!("br-{}", network.id?.get(..BRIDGE_DIGITS)?)))
    }))
}

async fn look(client: &Docker, limits: &Limits, name: &str) -> Result<Option<NetworkInspect>, EngineError> {
    let operation = format!("looking up network {name}");
    match within(&operation, limits.look, client.inspect_network(name, None)).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::Status { code: 404, .. }) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

fn compare(found: &NetworkInspect, wanted: &Network) -> Result<(), EngineError> {
    let driver = found.driver.as_deref().unwrap_or_default();
    let configs = found.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    let subnets: Vec<_> = configs.iter().filter_map(|config| config.subnet.as_deref()).collect();
    if driver == "bridge" && subnets == [wanted.subnet.to_string()] {
        return Ok(());
    }
    Err(EngineError::Network {
        name: wanted.name.clone(),
        detail: format!(
            "it exists as {driver} with {}, but the agent is set to bridge with {}; change the agent's setting, \
             or stop its containers and run `docker network rm {}`",
            subnets.join(" and "),
            wanted.subnet,
            wanted.name
        ),
    })
}

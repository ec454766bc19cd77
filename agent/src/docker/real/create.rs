//! Creating a container, once: a reply that was lost and asked for again finds the first one by its name.

use super::call::{Failure, within};
use super::containers::{facts, fixed_address, raw, remove, whole_seconds};
use super::{CreateRequest, EngineError, Limits, images};
use crate::docker::labels;
use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, EndpointIpamConfig, EndpointSettings, HostConfig,
    HostConfigLogConfig, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::CreateContainerOptions;

/// A container's log takes at most 30 MB of the host's disk. The tail in a failed vote needs a few KB.
const LOG_FILE_BYTES_MAX: &str = "10m";
const LOG_FILES_MAX: &str = "3";

/// A name is freed and tried again; more often than this somebody else keeps taking it.
const TRIES: usize = 3;

pub(super) async fn create(
    client: &Docker,
    limits: &Limits,
    request: &CreateRequest<'_>,
) -> Result<String, EngineError> {
    let name = request.labels.container_name();
    let operation = format!("creating container {name}");
    let mut refusal = String::new();
    for _ in 0..TRIES {
        let options = CreateContainerOptions { name: Some(name.clone()), ..Default::default() };
        match within(&operation, limits.act, client.create_container(Some(options), body(request))).await {
            Ok(created) => return Ok(created.id),
            Err(Failure::Status { code: 404, message, .. }) => {
                let reference = request.container.pin.reference().to_owned();
                return Err(EngineError::ImageMissing { reference, detail: message });
            }
            Err(Failure::Status { code: 409, message, .. }) => refusal = message,
            Err(failure) => return Err(failure.into()),
        }
        // None: the one that had the name was on its way out.
        let Some(holder) = raw(client, limits, &name).await? else { continue };
        if !is_ours(&holder, request) {
            break;
        }
        if is_the_same(client, limits, &holder, request).await? {
            return Ok(holder.id.unwrap_or(name));
        }
        remove(client, limits, &name).await?;
    }
    Err(EngineError::Taken { what: format!("container name {name}"), detail: refusal })
}

fn is_ours(holder: &ContainerInspectResponse, request: &CreateRequest<'_>) -> bool {
    let labels = holder.config.as_ref().and_then(|config| config.labels.as_ref());
    labels.and_then(|labels| labels.get(labels::HOST)).is_some_and(|host| host == request.labels.host.as_str())
}

/// The release label names environment and command; image and address are compared on their own, because
/// one may be loaded anew and the other allotted anew.
async fn is_the_same(
    client: &Docker,
    limits: &Limits,
    holder: &ContainerInspectResponse,
    request: &CreateRequest<'_>,
) -> Result<bool, EngineError> {
    let Some(found) = facts(holder) else { return Ok(false) };
    let image = images::image(client, limits, request.container.pin.reference()).await?;
    Ok(found.labels == request.labels
        && image.is_some_and(|image| image.id == found.image_id)
        && fixed_address(holder) == Some((request.network, request.address)))
}

fn body(request: &CreateRequest<'_>) -> ContainerCreateBody {
    let container = request.container;
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig { ipv4_address: Some(request.address.to_string()), ..Default::default() }),
        ..Default::default()
    };
    let log = [("max-size", LOG_FILE_BYTES_MAX), ("max-file", LOG_FILES_MAX)];
    ContainerCreateBody {
        image: Some(container.pin.reference().to_owned()),
        cmd: (!container.command.is_empty()).then(|| container.command.clone()),
        env: Some(container.environment.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(request.labels.to_map()),
        stop_timeout: Some(whole_seconds(container.stop_grace_period).into()),
        host_config: Some(HostConfig {
            network_mode: Some(request.network.to_owned()),
            // The agent owns restarts: Docker would bring back colours that were meant to be gone.
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(log.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            }),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            init: Some(false),
            ..Default::default()
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(request.network.to_owned(), endpoint)].into()),
        }),
        ..Default::default()
    }
}

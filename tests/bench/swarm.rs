//! The same update and rollback by Docker Swarm: three replicas on this one machine, `start-first`, set up as fast as
//! Swarm can be: all three at once, no image look-up, and the next step as soon as a task runs.
//!
//! Load needs Swarm's ingress, which needs IPVS in the kernel. Without it, tasks are published on ports of their own,
//! times are measured, and nothing can be said of requests.

use crate::Effort;
use crate::backends;
use crate::figures::Figures;
use crate::place::Place;
use crate::sample::Samples;
use anyhow::{Context, bail};
use bgctl_tests::images::REPOSITORY;
use bgctl_tests::load::{Load, LoadOptions, Target};
use bollard::models::{
    EndpointPortConfig, EndpointPortConfigPublishModeEnum as PublishMode, EndpointSpec, LocalNodeState, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecRollbackConfig, ServiceSpecRollbackConfigOrderEnum,
    ServiceSpecUpdateConfig, ServiceSpecUpdateConfigOrderEnum, ServiceUpdateStatusStateEnum as UpdateState,
    SwarmInitRequest, TaskSpec, TaskSpecContainerSpec, TaskState,
};
use bollard::query_parameters::{InspectServiceOptions, ListTasksOptionsBuilder, UpdateServiceOptionsBuilder};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// Updates, and as many rollbacks.
const ROUNDS: (usize, usize) = (5, 2);
const REPLICAS: usize = 3;
const SERVICE: &str = "bgctl-bench";
/// Where the sample service listens in its container.
const PORT: i64 = 8080;
/// The shortest that is not taken for "not set", which means 5 s.
const MONITOR_NANOS: i64 = 1_000_000;
/// For anything Swarm is asked to do.
const LIMIT: Duration = Duration::from_secs(60);
/// For the ingress to answer once all tasks run.
const INGRESS_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks at what Swarm does.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Between two measurements.
const PAUSE: Duration = Duration::from_secs(1);
/// Same as in the part on what is lost.
const REQUESTS_PER_SECOND: u32 = 2000;
/// There when the kernel has IPVS.
const IPVS: &str = "/proc/net/ip_vs";

/// Updates and rolls back, with load if the ingress works here.
pub async fn measure(place: &Place, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let info = place.docker.info().await.context("cannot talk to Docker")?;
    if !matches!(info.swarm.and_then(|swarm| swarm.local_node_state), None | Some(LocalNodeState::INACTIVE)) {
        figures.note("swarm: not measured, because this Docker is in a swarm already, which is not ours".to_owned());
        return Ok(());
    }
    place.mark_swarm().await?;
    let request = SwarmInitRequest {
        listen_addr: Some(format!("127.0.0.1:{}", place.port()?)),
        advertise_addr: Some("127.0.0.1".to_owned()),
        ..Default::default()
    };
    if let Err(error) = place.docker.init_swarm(request).await {
        figures.note(format!("swarm: not measured, because this Docker cannot begin one: {error}"));
        return Ok(());
    }
    let images = Images { old: image_id(place, "v1").await?, new: image_id(place, "v2").await? };
    let ingress = SocketAddr::from((Ipv4Addr::LOCALHOST, place.port()?));
    create(place, &images.old, Some(ingress.port())).await?;
    let lost = match backends::served(ingress, "v1", INGRESS_LIMIT).await {
        Ok(()) => Some(under_load(place, &images, effort, ingress, figures).await?),
        Err(_) => None,
    };
    if lost.is_none() {
        let cause = if Path::new(IPVS).exists() {
            format!("its published port does not answer within {INGRESS_LIMIT:?} although all tasks run")
        } else {
            format!("this kernel has no IPVS ({IPVS} is not there), which the ingress is made of")
        };
        figures.note(format!(
            "swarm: requests lost are not measured, because Swarm's ingress does not work here: {cause}. Times are of \
             tasks published in host mode"
        ));
        place.docker.delete_service(SERVICE).await.context("cannot remove a Swarm service")?;
        create(place, &images.old, None).await?;
        rounds(place, &images, effort, figures).await?;
    }
    Ok(())
}

struct Images {
    old: String,
    new: String,
}

async fn under_load(
    place: &Place,
    images: &Images,
    effort: Effort,
    ingress: SocketAddr,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let options = LoadOptions { rate_per_second: Some(REQUESTS_PER_SECOND), ..LoadOptions::default() };
    let load = Load::start(vec![Target::new(ingress)], options)?;
    load.warm(LIMIT).await?;
    let switches = rounds(place, images, effort, figures).await?;
    let total = load.stop().await.total;
    figures.set("lost_swarm_per_switch", total.failed as f64 / switches as f64);
    figures.set("closed_swarm_per_switch", total.closed_idle as f64 / switches as f64);
    Ok(())
}

async fn rounds(place: &Place, images: &Images, effort: Effort, figures: &mut Figures) -> anyhow::Result<usize> {
    let (mut updates, mut rollbacks) = (Samples::default(), Samples::default());
    let count = effort.pick(ROUNDS.0, ROUNDS.1);
    for _ in 0..count {
        updates.add_millis(turn(place, &images.new, None).await?);
        rollbacks.add_millis(turn(place, &images.old, Some("previous")).await?);
    }
    figures.set_min_p50_max("swarm_update", "ms", &updates);
    figures.set_min_p50_max("swarm_rollback", "ms", &rollbacks);
    Ok(2 * count)
}

/// From the call to Swarm's own word that it is done and only tasks of this image running.
async fn turn(place: &Place, image: &str, rollback: Option<&str>) -> anyhow::Result<Duration> {
    let service = place.docker.inspect_service(SERVICE, None::<InspectServiceOptions>).await;
    let version = service.context("cannot look at a Swarm service")?.version.and_then(|version| version.index);
    let options = UpdateServiceOptionsBuilder::new().version(version.context("a service's version")? as i32);
    let options = match rollback {
        Some(rollback) => options.rollback(rollback).build(),
        None => options.build(),
    };
    let published = place.docker.inspect_service(SERVICE, None::<InspectServiceOptions>).await;
    let endpoint = published.context("cannot look at a Swarm service")?.spec.and_then(|spec| spec.endpoint_spec);
    let start = Instant::now();
    let spec = ServiceSpec { endpoint_spec: endpoint, ..spec(image, None) };
    place.docker.update_service(SERVICE, spec, options, None).await.context("cannot update a Swarm service")?;
    wait("the update", async || {
        let service = place.docker.inspect_service(SERVICE, None::<InspectServiceOptions>).await?;
        let state = service.update_status.and_then(|status| status.state);
        let is_done = match state {
            Some(UpdateState::COMPLETED) => rollback.is_none(),
            Some(UpdateState::ROLLBACK_COMPLETED) => rollback.is_some(),
            Some(
                UpdateState::EMPTY
                | UpdateState::UPDATING
                | UpdateState::PAUSED
                | UpdateState::ROLLBACK_STARTED
                | UpdateState::ROLLBACK_PAUSED,
            )
            | None => false,
        };
        Ok(is_done && runs_only(place, image).await?)
    })
    .await?;
    let took = start.elapsed();
    tokio::time::sleep(PAUSE).await;
    Ok(took)
}

async fn create(place: &Place, image: &str, ingress: Option<u16>) -> anyhow::Result<()> {
    place.docker.create_service(spec(image, ingress), None).await.context("cannot create a Swarm service")?;
    wait("the service", async || runs_only(place, image).await).await
}

/// `ingress`: the port that all tasks share; None: each is published on one of its own.
fn spec(image: &str, ingress: Option<u16>) -> ServiceSpec {
    let port = EndpointPortConfig {
        target_port: Some(PORT),
        published_port: ingress.map(i64::from),
        publish_mode: Some(if ingress.is_some() { PublishMode::INGRESS } else { PublishMode::HOST }),
        ..Default::default()
    };
    let container = TaskSpecContainerSpec { image: Some(image.to_owned()), ..Default::default() };
    ServiceSpec {
        name: Some(SERVICE.to_owned()),
        task_template: Some(TaskSpec { container_spec: Some(container), ..Default::default() }),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(REPLICAS as i64) }),
            ..Default::default()
        }),
        update_config: Some(ServiceSpecUpdateConfig {
            parallelism: Some(REPLICAS as i64),
            order: Some(ServiceSpecUpdateConfigOrderEnum::START_FIRST),
            monitor: Some(MONITOR_NANOS),
            ..Default::default()
        }),
        rollback_config: Some(ServiceSpecRollbackConfig {
            parallelism: Some(REPLICAS as i64),
            order: Some(ServiceSpecRollbackConfigOrderEnum::START_FIRST),
            monitor: Some(MONITOR_NANOS),
            ..Default::default()
        }),
        endpoint_spec: Some(EndpointSpec { ports: Some(vec![port]), ..Default::default() }),
        ..Default::default()
    }
}

/// All replicas run this image, and nothing else runs.
async fn runs_only(place: &Place, image: &str) -> Result<bool, bollard::errors::Error> {
    let filters = HashMap::from([("service".to_owned(), vec![SERVICE.to_owned()])]);
    let tasks = place.docker.list_tasks(Some(ListTasksOptionsBuilder::new().filters(&filters).build())).await?;
    let running = tasks
        .into_iter()
        .filter(|task| task.status.as_ref().and_then(|status| status.state) == Some(TaskState::RUNNING));
    let images: Vec<_> =
        running.filter_map(|task| task.spec.and_then(|spec| spec.container_spec).and_then(|c| c.image)).collect();
    Ok(images.len() == REPLICAS && images.iter().all(|running| running == image))
}

/// Its id, which Swarm takes without asking a registry.
async fn image_id(place: &Place, version: &str) -> anyhow::Result<String> {
    let image = place.docker.inspect_image(&format!("{REPOSITORY}:{version}")).await;
    image.context("cannot look at an image")?.id.context("an image without an id")
}

async fn wait(what: &str, mut holds: impl AsyncFnMut() -> Result<bool, bollard::errors::Error>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds().await.with_context(|| format!("cannot ask Swarm about {what}"))? {
        if Instant::now() >= deadline {
            bail!("Swarm is not done with {what} within {LIMIT:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

//! One service's containers: fetched, made, started, and healthy for as long as the spec asks.

use super::clear::clear;
use super::job::{Failure, JobService, Step, Tools};
use super::vacate::{start_or_remove, strays, vacate};
use crate::docker::{Condition, ContainerFacts, CreateRequest, Labels};
use crate::health;
use crate::release::{Container, Release};
use bgctl_proto::crashpoint;
use futures_util::future::try_join_all;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::time::Instant;

/// How often a container that is being checked is looked at for having died: its probes alone would only
/// say that nobody answers.
const DEATH_WATCH: Duration = Duration::from_millis(150);

/// Upper bound on a health check whatever the spec says; the controller's deadline comes long before.
const HEALTHY_WITHIN_MAX: Duration = Duration::from_secs(3600);

/// What is warm answers within milliseconds; what does not by then is brought up the slow way.
const WARM_WITHIN: Duration = Duration::from_secs(2);

/// Lines of a failed container's output that go into the vote.
pub const LOG_LINES: usize = 20;

/// Makes one service's containers ready, in a berth where nothing of value stands: leftovers of a process
/// that died go first.
pub async fn bring_up(tools: &Tools, service: JobService, step: &(dyn Fn(Step) + Send + Sync)) -> Result<(), Failure> {
    let JobService { release, generation, colour, addresses, berth, is_adopted, is_warm } = service;
    if is_warm && is_well(tools, &release, &addresses, step).await {
        return Ok(());
    }
    let _turn = tools.turns.take(&(release.service.clone(), berth)).await;
    let there = tools.engine.list(&tools.host).await?;
    let lost = strays(tools, &addresses).await?;
    let is_mine = |facts: &ContainerFacts| {
        let labels = &facts.labels;
        let mut places = release.containers.iter().zip(&addresses);
        let is_in_place =
            |(container, address): (&Container, &Ipv4Addr)| container.name == labels.container && facts.is_at(*address);
        labels.release == release.digest
            && !lost.iter().any(|stray| stray.id == facts.id)
            && labels.colour == colour
            && (is_adopted || labels.generation == generation)
            && places.any(is_in_place)
    };
    let (mine, leftovers): (Vec<_>, Vec<_>) = there
        .into_iter()
        .filter(|facts| facts.labels.service == release.service && facts.labels.berth == berth)
        .partition(is_mine);
    clear(tools, &leftovers, None, &[]).await?;
    vacate(tools, &addresses).await?;
    let made = release.containers.iter().zip(&addresses).map(|(container, address)| {
        let labels = Labels {
            host: tools.host.clone(),
            service: release.service.clone(),
            container: container.name.clone(),
            colour,
            berth,
            generation,
            release: release.digest,
        };
        let found = mine.iter().find(|facts| facts.labels.container == container.name);
        make(tools, container, labels, *address, found, step)
    });
    let ids = try_join_all(made).await?;
    let started = release.containers.iter().zip(&addresses).zip(&ids).map(|((container, address), id)| async move {
        let outcome = start_and_check(tools, container, *address, id, step).await;
        match outcome {
            Ok(()) => Ok(()),
            Err(failure) => Err(with_log(tools, id, failure).await),
        }
    });
    try_join_all(started).await?;
    Ok(())
}

/// Where a release's containers are reached in a berth with these addresses.
pub fn sockets(release: &Release, addresses: &[Ipv4Addr]) -> Vec<SocketAddrV4> {
    let each = release.containers.iter().zip(addresses);
    each.map(|(container, address)| SocketAddrV4::new(*address, container.port)).collect()
}

/// The fast way, and the way back: what is warm is asked for its health and nothing else. Docker has no part
/// in it, so that a rollback works while Docker does not.
async fn is_well(
    tools: &Tools,
    release: &Release,
    addresses: &[Ipv4Addr],
    step: &(dyn Fn(Step) + Send + Sync),
) -> bool {
    let deadline = Instant::now() + WARM_WITHIN;
    let asked = release.containers.iter().zip(addresses).map(|(container, address)| {
        let check = &container.healthcheck;
        step(Step::Probing(format!("{address}:{}, warm", check.port)));
        health::wait_until_healthy(&*tools.prober, SocketAddrV4::new(*address, check.port), check, deadline, |_| {})
    });
    try_join_all(asked).await.is_ok()
}

async fn make(
    tools: &Tools,
    container: &Container,
    labels: Labels,
    address: Ipv4Addr,
    found: Option<&ContainerFacts>,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<String, Failure> {
    if let Some(facts) = found
        && (facts.condition == Condition::Running || start_or_remove(tools, container, &facts.id).await?.is_some())
    {
        return Ok(facts.id.clone());
    }
    crashpoint!("before_pull");
    if tools.engine.image(container.pin.reference()).await?.is_none() {
        step(Step::Pulling(container.image.clone()));
        tools.engine.pull(&container.pin, &|line| step(Step::Pulling(line))).await?;
    }
    crashpoint!("after_pull");
    step(Step::Starting(container.name.clone()));
    let request = CreateRequest { labels, container, network: &tools.network, address };
    crashpoint!("before_create");
    let id = tools.engine.create(&request).await?;
    crashpoint!("after_create");
    Ok(id)
}

async fn start_and_check(
    tools: &Tools,
    container: &Container,
    address: Ipv4Addr,
    id: &str,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<(), Failure> {
    crashpoint!("before_start");
    tools.engine.start(id).await?;
    crashpoint!("after_start");
    let started = Instant::now();
    step(Step::Probing(format!("{address}:{}", container.healthcheck.port)));
    let address = SocketAddrV4::new(address, container.healthcheck.port);
    let deadline = started + HEALTHY_WITHIN_MAX;
    crashpoint!("before_health");
    let healthy = health::wait_until_healthy(&*tools.prober, address, &container.healthcheck, deadline, |probe| {
        let (Ok(answer) | Err(answer)) = &probe.answer;
        step(Step::Probing(format!("probe {}: {answer}", probe.number)));
    });
    tokio::select! {
        healthy = healthy => match healthy {
            Ok(_) => {
                crashpoint!("after_health");
                Ok(())
            }
            Err(unhealthy) => Err(Failure {
                reason: format!("{} ({}) {unhealthy}", container.name, container.image),
                log_tail: Vec::new(),
            }),
        },
        died = death(tools, id) => Err(Failure {
            reason: format!("{} ({}) {died} {:.1} s after it was started", container.name, container.image, started.elapsed().as_secs_f64()),
            log_tail: Vec::new(),
        }),
    }
}

/// Returns when the container no longer runs, with how it ended.
async fn death(tools: &Tools, id: &str) -> String {
    loop {
        tokio::time::sleep(DEATH_WATCH).await;
        match tools.engine.inspect(id).await {
            Ok(Some(facts)) => match facts.condition {
                Condition::Running | Condition::Created => {}
                Condition::Exited { exit_code, out_of_memory: true } => {
                    return format!("ran out of memory and was killed (exit code {exit_code})");
                }
                Condition::Exited { exit_code, out_of_memory: false } => {
                    return format!("exited with code {exit_code}");
                }
            },
            Ok(None) => return "was removed".to_owned(),
            // Docker being slow is no death; the probes go on telling the truth.
            Err(error) => tracing::warn!(%error, "cannot look at a container that is being checked"),
        }
    }
}

async fn with_log(tools: &Tools, id: &str, failure: Failure) -> Failure {
    match tools.engine.log_tail(id, LOG_LINES).await {
        Ok(log_tail) => Failure { log_tail, ..failure },
        Err(error) => {
            tracing::warn!(%error, "cannot read the log of the container that failed");
            failure
        }
    }
}

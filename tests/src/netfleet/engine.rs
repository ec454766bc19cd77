//! The hosts' Dockers, and the sample service's images in them.

use super::{Machine, NetFleet, NetFleetError, REGISTRY_PORT};
use crate::images;
use bollard::query_parameters::{
    ImportImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::TryStreamExt;
use std::time::{Duration, Instant};

/// Where a host's Docker listens, on the host.
pub(super) const SOCKET: &str = "/run/docker.sock";
/// What a container's version follows in its environment, and an image's.
pub(super) const VERSION: &str = "APP_VERSION=";
/// For a Docker to start, also while five of them do.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Longest answer of a Docker.
const ANSWER_SECONDS: u64 = 120;

pub(super) fn client(host: &Machine) -> Result<Docker, NetFleetError> {
    let path = host.path(SOCKET)?;
    let connected = Docker::connect_with_unix(&path.to_string_lossy(), ANSWER_SECONDS, API_DEFAULT_VERSION);
    connected.map_err(NetFleetError::docker("find the socket", host.name()))
}

pub(super) fn repository(fleet: &NetFleet) -> String {
    match fleet.registry() {
        Some(registry) => format!("{}:{REGISTRY_PORT}/{}", registry.address(), images::REPOSITORY),
        None => images::REPOSITORY.to_owned(),
    }
}

/// Made in one Docker, and from there pushed to the registry or copied to the others: everywhere it must be the same.
pub(super) async fn provide_images(fleet: &NetFleet) -> Result<(), NetFleetError> {
    for host in fleet.hosts() {
        wait_for_docker(host).await?;
    }
    let Some((first, others)) = fleet.hosts().split_first() else { return Ok(()) };
    let maker = client(first)?;
    drop(images::ensure(&maker).await?);
    let of = |tag: &str| format!("{}:{tag}", images::REPOSITORY);
    let names: Vec<_> = images::IMAGES.iter().map(|(tag, _)| of(tag)).collect();
    if fleet.registry().is_some() {
        for (tag, _) in images::IMAGES {
            push(&maker, first.name(), &of(tag), &repository(fleet), tag).await?;
        }
        return Ok(());
    }
    let failed = NetFleetError::docker("copy the images", first.name());
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let archive: Vec<_> = maker.export_images(&names).try_collect().await.map_err(failed)?;
    let archive = archive.concat();
    for host in others {
        let body = bollard::body_full(archive.clone().into());
        let options = ImportImageOptionsBuilder::new().build();
        let loaded = client(host)?.import_image(options, body, None).try_collect::<Vec<_>>().await;
        loaded.map_err(NetFleetError::docker("load the images", host.name()))?;
    }
    Ok(())
}

/// Also what the tag stood for: nobody has the image under another name.
pub(super) async fn forget_image(fleet: &NetFleet, host: usize, version: &str) -> Result<(), NetFleetError> {
    let host = &fleet.hosts()[host];
    let docker = client(host)?;
    let name = format!("{}:{version}", repository(fleet));
    let failed = NetFleetError::docker("look at an image", host.name());
    // The agent pulls by digest: its image may have no tag.
    let everything = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await.map_err(failed)?;
    let marker = format!("{VERSION}{version}");
    for image in everything {
        let facts = match docker.inspect_image(&image.id).await {
            Ok(facts) => facts,
            Err(error) if images::has_status(&error, 404) => continue,
            Err(source) => return Err(NetFleetError::docker("look at an image", host.name())(source)),
        };
        let environment = facts.config.and_then(|config| config.env).unwrap_or_default();
        let is_it = environment.contains(&marker) || image.repo_tags.contains(&name);
        if is_it && fleet.registry().is_some() {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            match docker.remove_image(&image.id, Some(options), None).await {
                Ok(_) => {}
                Err(error) if images::has_status(&error, 404) => {}
                Err(source) => return Err(NetFleetError::docker("remove an image", host.name())(source)),
            }
        }
    }
    Ok(())
}

async fn push(docker: &Docker, host: &str, image: &str, repository: &str, tag: &str) -> Result<(), NetFleetError> {
    let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
    docker.tag_image(image, Some(options)).await.map_err(NetFleetError::docker("tag an image", host))?;
    let options = PushImageOptionsBuilder::new().tag(tag).build();
    let pushed = docker.push_image(repository, Some(options), None).try_collect::<Vec<_>>().await;
    pushed.map(drop).map_err(NetFleetError::docker("push an image", host))
}

async fn wait_for_docker(host: &Machine) -> Result<(), NetFleetError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let answer = match client(host) {
            Ok(docker) => docker.ping().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let Err(said) = answer else { return Ok(()) };
        if Instant::now() >= deadline {
            let what = format!(
                "a Docker within the namespaces of {} ({said}); it needs iptables and control groups that can be \
                 written, its log is below",
                host.name()
            );
            return Err(NetFleetError::Deadline { what, limit: START_LIMIT });
        }
        tokio::time::sleep(super::LOOK_EVERY).await;
    }
}

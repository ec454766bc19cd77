//! What a host has to run and route: typed, checked on arrival, and kept in the journal in the encoding
//! its digest was taken of.

use bgctl_proto::convert::{WireError, parse};
use bgctl_proto::session as wire;
use cutover::ids::{ReleaseDigest, ServiceName};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A version of a service, made exact.
#[derive(Clone, PartialEq, Eq)]
pub struct Release {
    /// Whose.
    pub service: ServiceName,
    /// Names the content.
    pub digest: ReleaseDigest,
    /// What the operator calls it.
    pub version: String,
    /// Exactly one in this version of bgctl.
    pub containers: Vec<Container>,
    /// Where its traffic comes in.
    pub routes: Vec<Route>,
    /// How long requests that were under way at the switch may take before their colour may be stopped.
    pub drain: Duration,
    /// How long the colour that was active before stays warm.
    pub keep_standby: Duration,
    /// After so long without a controller the host is not ready for it; none: it stays ready.
    pub partition_grace: Option<Duration>,
    /// What the digest was taken of.
    pub encoded: Arc<[u8]>,
}

/// One container of a release. Its environment may hold secrets: no `Debug` on this type.
#[derive(Clone, PartialEq, Eq)]
pub struct Container {
    /// Unique in the release; a DNS label.
    pub name: String,
    /// As written in the spec.
    pub image: String,
    /// What exactly runs.
    pub pin: ImagePin,
    /// Given to the process.
    pub environment: BTreeMap<String, String>,
    /// Replaces the image's command when not empty.
    pub command: Vec<String>,
    /// Where it listens.
    pub port: u16,
    /// When it is well.
    pub healthcheck: Healthcheck,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace_period: Duration,
}

/// An image made exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagePin {
    /// `repository@sha256:...`: can be pulled.
    RepoDigest(String),
    /// `sha256:...`: the image's own id, never pulled.
    ImageId(String),
}

impl ImagePin {
    /// As the Docker API takes it.
    pub fn reference(&self) -> &str {
        match self {
            Self::RepoDigest(reference) | Self::ImageId(reference) => reference,
        }
    }
}

/// When a container is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What is asked.
    pub probe: Probe,
    /// Where: the container's port unless the spec names another.
    pub port: u16,
    /// Longest pause between probes.
    pub interval: Duration,
    /// Longest a probe may take.
    pub timeout: Duration,
    /// Good answers in a row that make it healthy.
    pub successes: u32,
    /// Bad answers in a row that make it unhealthy.
    pub retries: u32,
    /// Time to boot, in which a bad answer is no failure.
    pub start_period: Duration,
    /// How long it must stay healthy before the host votes yes.
    pub settle: Duration,
}

/// What is asked of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET on this path, answered with 200 to 399.
    Http(String),
    /// The connection opens.
    Tcp,
}

/// Where traffic comes in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// One address, or all.
    pub address: Option<IpAddr>,
    /// 1 to 65535.
    pub port: u16,
    /// Host names; empty: every name.
    pub server_names: Vec<String>,
}

impl Release {
    /// Reads a release that came with this digest.
    pub fn from_wire(release: &wire::Release, digest: ReleaseDigest) -> Result<Self, WireError> {
        let encoded = release.encode_to_vec();
        if Sha256::digest(&encoded).as_slice() != digest.0 {
            return Err(WireError::new("release", "its content does not fit its digest: agent and controller differ"));
        }
        if release.containers.is_empty() {
            return Err(WireError::new("release.containers", "there is none"));
        }
        let names: BTreeSet<_> = release.containers.iter().map(|container| &container.name).collect();
        if names.len() < release.containers.len() {
            return Err(WireError::new("release.containers", "two have one name"));
        }
        Ok(Self {
            service: parse("release.service", &release.service)?,
            digest,
            version: release.version.clone(),
            containers: release.containers.iter().map(container).collect::<Result<_, _>>()?,
            routes: release.routes.iter().map(route).collect::<Result<_, _>>()?,
            drain: Duration::from_millis(release.drain_millis),
            keep_standby: Duration::from_millis(release.keep_standby_millis),
            partition_grace: release.fail_closed.map(|closed| Duration::from_millis(closed.grace_millis)),
            encoded: encoded.into(),
        })
    }

    /// Reads a release as the journal kept it.
    pub fn decode(encoded: &[u8]) -> Result<Self, WireError> {
        let release = wire::Release::decode(encoded).map_err(|error| WireError::new("release", error))?;
        Self::from_wire(&release, ReleaseDigest(Sha256::digest(encoded).into()))
    }
}

fn port(field: &'static str, port: u32) -> Result<u16, WireError> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| WireError::new(field, format!("{port} is not from 1 to 65535")))
}

fn container(container: &wire::Container) -> Result<Container, WireError> {
    // A DNS label, as services' names are: it becomes part of a name of Docker's, and of a key in the journal.
    let name: ServiceName = parse("container.name", &container.name)?;
    let own_port = port("container.port", container.port)?;
    let missing = |field| move || WireError::new(field, "it is not set");
    let pin = match container.pin.as_ref().ok_or_else(missing("container.pin"))? {
        wire::container::Pin::RepoDigest(reference) => ImagePin::RepoDigest(reference.clone()),
        wire::container::Pin::ImageId(id) => ImagePin::ImageId(id.clone()),
    };
    let check = container.healthcheck.as_ref().ok_or_else(missing("container.healthcheck"))?;
    let probe = match check.kind.as_ref().ok_or_else(missing("healthcheck.kind"))? {
        wire::healthcheck::Kind::HttpPath(path) => Probe::Http(path.clone()),
        wire::healthcheck::Kind::Tcp(_) => Probe::Tcp,
    };
    let environment = container.environment.iter().map(|entry| (entry.name.clone(), entry.value.clone()));
    Ok(Container {
        name: name.to_string(),
        image: container.image.clone(),
        pin,
        environment: environment.collect(),
        command: container.command.clone(),
        port: own_port,
        healthcheck: Healthcheck {
            probe,
            port: if check.port == 0 { own_port } else { port("healthcheck.port", check.port)? },
            interval: Duration::from_millis(check.interval_millis),
            timeout: Duration::from_millis(check.timeout_millis),
            successes: check.successes.max(1),
            retries: check.retries.max(1),
            start_period: Duration::from_millis(check.start_period_millis),
            settle: Duration::from_millis(check.settle_millis),
        },
        stop_grace_period: Duration::from_millis(container.stop_grace_period_millis),
    })
}

fn route(route: &wire::Route) -> Result<Route, WireError> {
    let address = match route.address.as_str() {
        "" => None,
        text => Some(parse("route.address", text)?),
    };
    Ok(Route { address, port: port("route.port", route.port)?, server_names: route.server_names.clone() })
}

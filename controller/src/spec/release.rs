//! From a spec and a version to a release: exactly what hosts run.

use super::image::ImagePin;
use super::names::Version;
use super::{Container, Healthcheck, OnPartition, Probe, PullPolicy, Route, Spec};
use bgctl_proto::session as wire;
use cutover::ids::ReleaseDigest;
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// An image to be made exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// The container it is for.
    pub container: String,
    /// `repository:tag`, or with a digest.
    pub reference: String,
    /// When the registry is asked.
    pub pull_policy: PullPolicy,
}

/// A release that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Nobody said what exactly an image is.
    #[error("container {container}: image {reference} is not resolved to a digest")]
    NotPinned {
        /// Whose.
        container: String,
        /// Which.
        reference: String,
    },
}

impl Spec {
    /// The images of a version, one for each container, in the order of the spec.
    pub fn image_references(&self, version: &Version) -> Vec<ImageReference> {
        let reference = |container: &Container| ImageReference {
            container: container.name.clone(),
            reference: container.image.reference(version),
            pull_policy: container.pull_policy,
        };
        self.containers.iter().map(reference).collect()
    }

    /// The release of a version, given what exactly each of its image references is.
    pub fn release(&self, version: &Version, pins: &BTreeMap<String, ImagePin>) -> Result<wire::Release, ReleaseError> {
        let containers = self.containers.iter().map(|container| container.release(version, pins));
        Ok(wire::Release {
            service: self.service.to_string(),
            version: version.to_string(),
            containers: containers.collect::<Result<_, _>>()?,
            routes: self.routes.iter().map(Route::release).collect(),
            drain_millis: millis(self.drain),
            keep_standby_millis: millis(self.keep_standby),
            fail_closed: match self.on_partition {
                OnPartition::KeepOld => None,
                OnPartition::FailClosed(grace) => Some(wire::FailClosed { grace_millis: millis(grace) }),
            },
        })
    }
}

impl Spec {
    /// Bytes of the longest release that can be made of it: with the longest version, and each image by a digest.
    pub(super) fn release_bytes_max(&self) -> usize {
        let version = Version::longest();
        let pin =
            |image: ImageReference| (image.reference, ImagePin::RepoDigest(format!("{:r>255}@sha256:{:0>64}", "", "")));
        let pins = self.image_references(&version).into_iter().map(pin).collect();
        self.release(&version, &pins).map_or(usize::MAX, |release| release.encoded_len())
    }
}

/// Names the content of a release.
pub fn digest(release: &wire::Release) -> ReleaseDigest {
    ReleaseDigest(Sha256::digest(release.encode_to_vec()).into())
}

impl Container {
    fn release(&self, version: &Version, pins: &BTreeMap<String, ImagePin>) -> Result<wire::Container, ReleaseError> {
        let image = self.image.reference(version);
        let pin = match pins.get(&image) {
            Some(ImagePin::RepoDigest(reference)) => wire::container::Pin::RepoDigest(reference.clone()),
            Some(ImagePin::ImageId(id)) => wire::container::Pin::ImageId(id.clone()),
            None => return Err(ReleaseError::NotPinned { container: self.name.clone(), reference: image }),
        };
        let variable = |(name, value): (&String, &super::Template)| wire::EnvironmentEntry {
            name: name.clone(),
            value: value.fill(version),
        };
        Ok(wire::Container {
            name: self.name.clone(),
            image,
            pin: Some(pin),
            environment: self.environment.0.iter().map(variable).collect(),
            port: self.port.into(),
            healthcheck: Some(self.healthcheck.release()),
            stop_grace_period_millis: millis(self.stop_grace_period),
            command: self.command.iter().map(|argument| argument.fill(version)).collect(),
        })
    }
}

impl Healthcheck {
    fn release(&self) -> wire::Healthcheck {
        wire::Healthcheck {
            kind: Some(match &self.probe {
                Probe::Http(path) => wire::healthcheck::Kind::HttpPath(path.clone()),
                Probe::Tcp => wire::healthcheck::Kind::Tcp(true),
            }),
            port: self.port.map_or(0, u32::from),
            interval_millis: millis(self.interval),
            timeout_millis: millis(self.timeout),
            successes: self.successes,
            retries: self.retries,
            start_period_millis: millis(self.start_period),
            settle_millis: millis(self.settle),
        }
    }
}

impl Route {
    fn release(&self) -> wire::Route {
        wire::Route {
            address: self.address.map(|address| address.to_string()).unwrap_or_default(),
            port: self.port.into(),
            server_names: self.server_names.clone(),
        }
    }
}

/// Every time in a spec is bounded far below what this cannot hold.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! The service spec: what an operator writes about a service, checked once, and from then on typed.
//!
//! Nothing of it is ever pasted into another language: what reaches nginx is made only of characters that
//! mean nothing to it. `deploy/config/web.yaml` shows every key.

mod image;
mod missing;
mod names;
mod read;
mod release;
mod template;
#[cfg(test)]
mod tests;

pub use crate::config::{Fault, Faults};
pub use image::{Image, ImagePin, PinError};
pub use missing::{MissingHosts, MissingHostsError};
pub use names::{Version, VersionError};
pub use release::{ImageReference, ReleaseError, digest};
pub use template::Template;

use cutover::ids::ServiceName;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A service as its operator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What switches as one.
    pub service: ServiceName,
    /// Labels a host must carry, all of them, to run it. At least one.
    pub hosts: BTreeMap<String, String>,
    /// Exactly one in this version of bgctl.
    pub containers: Vec<Container>,
    /// Where its traffic comes in. At least one; no two answer the same name at the same address and port.
    pub routes: Vec<Route>,
    /// How long requests that were under way at the switch may take before their colour may be stopped.
    pub drain: Duration,
    /// How long the colour that was active before stays warm.
    pub keep_standby: Duration,
    /// How long hosts may take to make ready; longer than any container may take to boot and settle.
    pub prepare_timeout: Duration,
    /// How long after the switch a dead or unhealthy container takes the deployment back.
    pub watch: Duration,
    /// How many of its hosts a deployment may do without.
    pub missing_hosts: MissingHosts,
    /// What its hosts do when no controller is heard of.
    pub on_partition: OnPartition,
    text: SourceText,
}

/// What a host does that hears of no controller. Either way it goes on serving what it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPartition {
    /// It stays ready for load balancers.
    KeepOld,
    /// It tells load balancers that it is not ready, after this long: it may serve what is no longer committed.
    FailClosed(Duration),
}

/// What the operator wrote. May hold secrets: prints its length only.
#[derive(Clone, PartialEq, Eq)]
struct SourceText(String);

/// One container of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// A DNS label, unique in the service.
    pub name: String,
    /// What runs; the version fills it in.
    pub image: Image,
    /// When hosts ask the registry.
    pub pull_policy: PullPolicy,
    /// Given to the process.
    pub environment: Environment,
    /// Replaces the image's command when not empty.
    pub command: Vec<Template>,
    /// Where it listens, in its own network namespace; not 0.
    pub port: u16,
    /// When it is well.
    pub healthcheck: Healthcheck,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace_period: Duration,
}

/// Variables of a container by name. May hold secrets: prints names only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment(pub BTreeMap<String, Template>);

/// When a host asks the registry for an image. Compose's names and meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the image is not on the host.
    Missing,
    /// Each time a version is resolved.
    Always,
    /// Never: the image is put on the hosts by other means.
    Never,
}

/// When a container is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What is asked.
    pub probe: Probe,
    /// Where, if not at the container's port; not 0.
    pub port: Option<u16>,
    /// Longest pause between probes; the first ones come faster.
    pub interval: Duration,
    /// Longest a probe may take.
    pub timeout: Duration,
    /// Bad answers in a row that make a healthy container unhealthy; from 1.
    pub retries: u32,
    /// Time to boot, in which a bad answer is no failure.
    pub start_period: Duration,
    /// Good answers in a row that make it healthy; from 1.
    pub successes: u32,
    /// How long it must stay healthy before the host votes yes.
    pub settle: Duration,
}

/// What is asked of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET on this path, answered with 200 to 399. Begins with '/', and holds only `A-Z a-z 0-9 / _ . ~ -`.
    Http(String),
    /// The connection opens.
    Tcp,
}

/// Where traffic comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// One address, or all.
    pub address: Option<IpAddr>,
    /// Not 0.
    pub port: u16,
    /// RFC 1123 names in lower case, one leading `*.` allowed; empty: answers every name.
    pub server_names: Vec<String>,
}

/// A spec that cannot be used, with everything that is wrong with it. It may show lines of the spec: it is
/// for the person who sent it, not for a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub Faults);

impl Spec {
    /// Reads a spec. `file_name` is what errors call it.
    ///
    /// # Errors
    /// Every fault that can be found, each with line, column and field; if the text is not YAML, that alone.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, SpecError> {
        let read = crate::config::read(text, file_name, |root| read::spec(root, text));
        read.map_err(SpecError)
    }

    /// The text it was read from, comments and all: what is kept as the revision.
    pub fn text(&self) -> &str {
        &self.text.0
    }

    /// Whether a host with these labels runs the service.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.hosts.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

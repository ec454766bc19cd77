//! The few names of the model's fleet, made once.

use cutover::ids::{DeploymentId, HostId, ReleaseDigest, ServiceName};
use std::sync::LazyLock;

/// Most hosts of a model: what is exhaustive with three is out of reach with four.
pub const HOSTS_MAX: usize = 3;

static HOSTS: LazyLock<Vec<HostId>> = LazyLock::new(|| named("h", HOSTS_MAX));
static DEPLOYMENTS: LazyLock<Vec<DeploymentId>> = LazyLock::new(|| named("d", 9));

fn named<T: std::str::FromStr>(letter: &str, count: usize) -> Vec<T> {
    (1..=count).filter_map(|number| format!("{letter}{number}").parse().ok()).collect()
}

/// `h1`, `h2`, `h3`.
pub fn host(index: usize) -> &'static HostId {
    &HOSTS[index]
}

/// Where a host stands among them.
pub fn index_of(host: &HostId) -> Option<usize> {
    HOSTS.iter().position(|known| known == host)
}

/// `d1`, `d2`, ...
pub fn deployment(index: usize) -> &'static DeploymentId {
    &DEPLOYMENTS[index]
}

/// `web` or `api`.
pub fn service(name: &str) -> ServiceName {
    name.parse().expect("the model's own names are names")
}

/// A release, by one number.
pub fn release(content: u8) -> ReleaseDigest {
    ReleaseDigest([content; 32])
}

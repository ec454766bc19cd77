//! Health checks, straight at the container's address.
//!
//! [`wait_until_healthy`] brings a new container to its vote: it asks often at first, so that a fast start
//! is seen at once. [`Monitor`] judges one that serves.

mod probe;
mod wait;
mod monitor;

pub use monitor::{Change, Monitor};
pub use probe::{NetworkProber, REFUSED};
pub use wait::{HealthReport, ProbeLog, ProbeReport, Reason, Unhealthy, wait_until_healthy};

use crate::release::Healthcheck;
use async_trait::async_trait;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Asks a container whether it is well. [`NetworkProber`] does it for real; the fake engine answers for
/// its own containers.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// One probe, over within `check.timeout`. Ok: what it answered, such as `200 in 1.2 ms`.
    /// Err: why that is no good answer, such as `connection refused` or `503 in 0.8 ms`.
    async fn probe(&self, address: SocketAddrV4, check: &Healthcheck) -> Result<String, String>;
    /// Whether anybody has this address: it answers, if only that nobody listens. Over within 50 ms.
    async fn is_anybody(&self, address: Ipv4Addr) -> bool;
}

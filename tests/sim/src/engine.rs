//! A host's Docker: the fake, with somebody who looks at what is taken away.

use crate::check::Checks;
use async_trait::async_trait;
use bgctl_agent::docker::fake::FakeEngine;
use bgctl_agent::docker::{
    ContainerFacts, CreateRequest, Engine, EngineError, EngineEvent, ImageFacts, Network, Occupant,
};
use bgctl_agent::health::Prober;
use bgctl_agent::release::{Healthcheck, ImagePin};
use cutover::ids::HostId;
use futures_util::stream::BoxStream;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Clones are the same Docker.
#[derive(Clone)]
pub struct SimEngine {
    host: HostId,
    /// The fake behind it.
    pub fake: FakeEngine,
    checks: Checks,
    /// Sabotage: who has an address is not seen, and nobody is ended past Docker.
    spares_strays: bool,
}

impl SimEngine {
    /// This host's.
    pub fn new(host: HostId, fake: FakeEngine, checks: Checks, spares_strays: bool) -> Self {
        Self { host, fake, checks, spares_strays }
    }

    fn takes_away(&self, id: &str) {
        if let Some(facts) = self.fake.listed(&self.host).into_iter().find(|facts| facts.id == id) {
            self.checks.takes_away(&self.host, &facts);
        }
    }
}

#[async_trait]
impl Engine for SimEngine {
    async fn version(&self) -> Result<String, EngineError> {
        self.fake.version().await
    }
    async fn spares_containers(&self) -> Result<bool, EngineError> {
        self.fake.spares_containers().await
    }
    async fn ensure_network(&self, network: &Network) -> Result<(), EngineError> {
        self.fake.ensure_network(network).await
    }
    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.fake.remove_network(name).await
    }
    async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, EngineError> {
        self.fake.image(reference).await
    }
    async fn registry_digest(&self, reference: &str) -> Result<String, EngineError> {
        self.fake.registry_digest(reference).await
    }
    async fn pull(&self, pin: &ImagePin, progress: &(dyn Fn(String) + Send + Sync)) -> Result<(), EngineError> {
        self.fake.pull(pin, progress).await
    }
    async fn create(&self, request: &CreateRequest<'_>) -> Result<String, EngineError> {
        self.fake.create(request).await
    }
    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.fake.start(id).await
    }
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        self.takes_away(id);
        self.fake.stop(id, grace).await
    }
    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.takes_away(id);
        self.fake.remove(id).await
    }
    async fn inspect(&self, id: &str) -> Result<Option<ContainerFacts>, EngineError> {
        self.fake.inspect(id).await
    }
    async fn list(&self, host: &HostId) -> Result<Vec<ContainerFacts>, EngineError> {
        self.fake.list(host).await
    }
    async fn log_tail(&self, id: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        self.fake.log_tail(id, lines).await
    }
    async fn occupants(&self, network: &str, addresses: &[Ipv4Addr]) -> Result<Vec<Occupant>, EngineError> {
        if self.spares_strays {
            return Ok(Vec::new());
        }
        self.fake.occupants(network, addresses).await
    }
    async fn evict(&self, id: &str) -> Result<(), EngineError> {
        if self.spares_strays {
            return Ok(());
        }
        self.takes_away(id);
        self.fake.evict(id).await
    }
    async fn events(&self, host: &HostId) -> Result<BoxStream<'static, EngineEvent>, EngineError> {
        self.fake.events(host).await
    }
}

#[async_trait]
impl Prober for SimEngine {
    async fn probe(&self, address: SocketAddrV4, check: &Healthcheck) -> Result<String, String> {
        self.fake.probe(address, check).await
    }
    async fn is_anybody(&self, address: Ipv4Addr) -> bool {
        self.fake.is_anybody(address).await
    }
}

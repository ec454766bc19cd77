//! A private nginx and its switch, through the agent's own module: what an agent does, and nothing else.

use super::{Pair, START_LIMIT, door};
use crate::backends;
use crate::place::Place;
use anyhow::Context;
use bgctl_agent::berth::Berth;
use bgctl_agent::nginx::{Flag, Flags, NginxConfig, NginxKind, Proxy, ServiceShape, Shape, SwitchTimes, open};
use bgctl_agent::release::Route;
use bgctl_tests::workspace::system_program;
use cutover::ids::{Colour, Generation, ServiceName};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a spec calls the port; the host makes it another.
const SPEC_PORT: u16 = 80;

/// Our nginx.
pub struct Ours {
    proxy: Arc<dyn Proxy>,
    service: ServiceName,
    address: SocketAddr,
    state_dir: PathBuf,
    generation: u64,
}

impl Ours {
    /// On blue.
    pub async fn start(place: &Place, pair: &Pair) -> anyhow::Result<Self> {
        let (state_dir, address) = (place.folder("ours")?, door(place)?);
        let config = NginxConfig {
            kind: NginxKind::Private,
            binary: system_program("nginx", "nginx")?,
            workers: NonZeroU16::new(1),
            listen: [(SPEC_PORT, address)].into(),
            ..NginxConfig::default()
        };
        let proxy = open(&config, None, &state_dir)?;
        let service: ServiceName = "web".parse().context("a service name")?;
        let shape = ServiceShape {
            routes: vec![Route { address: None, port: SPEC_PORT, server_names: Vec::new() }],
            berths: [pair.address(Colour::Blue), pair.address(Colour::Green), pair.nobody()],
        };
        let ours = Self { proxy, service: service.clone(), address, state_dir, generation: 1 };
        ours.proxy.restore(&ours.flags(Colour::Blue)).await?;
        ours.proxy.ensure_running().await?;
        ours.proxy.reshape(&Shape { services: [(service, shape)].into() }).await?;
        backends::served(address, super::version(Colour::Blue), START_LIMIT).await?;
        Ok(ours)
    }

    /// Where users come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it keeps.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// As an agent does before its vote.
    pub async fn stage(&mut self, to: Colour) -> anyhow::Result<()> {
        self.generation += 1;
        Ok(self.proxy.stage(&self.flags(to)).await?)
    }

    /// To what was staged.
    pub async fn switch(&mut self, to: Colour) -> anyhow::Result<SwitchTimes> {
        Ok(self.proxy.switch(&self.flags(to)).await?)
    }

    fn flags(&self, colour: Colour) -> Flags {
        let berth = match colour {
            Colour::Blue => Berth::A,
            Colour::Green => Berth::B,
        };
        let flag = Flag { colour, berth, generation: Generation(self.generation) };
        Flags { services: [(self.service.clone(), Some(flag))].into() }
    }
}

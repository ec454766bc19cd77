//! Three ways to move traffic from one container to another: ours, the one every guide has, and the one
//! that HAProxy's users have. All with one worker, the same limits, and the same two containers.

mod haproxy;
mod ours;
mod reload;

pub use ours::Ours;
pub use reload::Static;

use crate::backends::{self, Backend};
use crate::place::Place;
use bgctl_agent::nginx::SwitchTimes;
use cutover::ids::Colour;
use haproxy::Haproxy;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// A proxy that was started answers within milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The two containers behind a proxy.
#[derive(Debug, Clone)]
pub struct Pair {
    blue: Backend,
    green: Backend,
}

/// One of the three, running.
pub enum Contender {
    /// The agent's own nginx module.
    Ours(Ours),
    /// Another upstream file, and `nginx -s reload`.
    Reload(Static),
    /// `set map` on HAProxy's stats socket.
    Haproxy(Haproxy),
}

impl Pair {
    /// v1 is blue, v2 is green.
    pub async fn start(place: &Place) -> anyhow::Result<Self> {
        let network = backends::network(place).await?;
        let blue = backends::start(place, &network, 2, version(Colour::Blue)).await?;
        let green = backends::start(place, &network, 3, version(Colour::Green)).await?;
        Ok(Self { blue, green })
    }

    /// Where this colour's container is.
    pub fn address(&self, colour: Colour) -> SocketAddrV4 {
        match colour {
            Colour::Blue => self.blue.address,
            Colour::Green => self.green.address,
        }
    }

    /// An address beside them that nobody has.
    fn nobody(&self) -> SocketAddrV4 {
        let [a, b, c, d] = self.green.address.ip().octets();
        SocketAddrV4::new(Ipv4Addr::new(a, b, c, d + 1), self.green.address.port())
    }
}

/// What this colour's container answers.
pub fn version(colour: Colour) -> &'static str {
    match colour {
        Colour::Blue => "v1",
        Colour::Green => "v2",
    }
}

/// All three in front of the pair, on blue.
pub async fn all(place: &Place, pair: &Pair) -> anyhow::Result<[Contender; 3]> {
    let ours = Ours::start(place, pair).await?;
    let reload = Static::start(place, pair, &ours).await?;
    let haproxy = Haproxy::start(place, pair).await?;
    Ok([Contender::Ours(ours), Contender::Reload(reload), Contender::Haproxy(haproxy)])
}

impl Contender {
    /// As in the names of figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::Reload(_) => "reload",
            Self::Haproxy(_) => "haproxy",
        }
    }

    /// Where users come in.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(ours) => ours.address(),
            Self::Reload(reload) => reload.address(),
            Self::Haproxy(haproxy) => haproxy.address(),
        }
    }

    /// What is done long before the switch: only ours has something to do.
    pub async fn prepare(&mut self, to: Colour) -> anyhow::Result<()> {
        match self {
            Self::Ours(ours) => ours.stage(to).await,
            Self::Reload(_) | Self::Haproxy(_) => Ok(()),
        }
    }

    /// Moves the traffic; only ours says more of it.
    pub async fn switch(&mut self, to: Colour) -> anyhow::Result<Option<SwitchTimes>> {
        match self {
            Self::Ours(ours) => ours.switch(to).await.map(Some),
            Self::Reload(reload) => reload.switch(to).await.map(|()| None),
            Self::Haproxy(haproxy) => haproxy.switch(to).await.map(|()| None),
        }
    }
}

fn door(place: &Place) -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, place.port()?)))
}

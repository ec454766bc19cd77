//! What the tests of this module stand on: addresses of their own, containers that are tasks, clients that
//! never try twice, and nginx of both kinds in a directory that goes away.

pub(super) mod backend;
pub(super) mod client;
pub(super) mod host;
pub(super) mod load;

use super::{Flag, Flags, ServiceShape, Shape};
use crate::berth::Berth;
use crate::release::Route;
use cutover::ids::{Generation, ServiceName};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Nobody waits longer for anything in a test.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Where the containers of the tests listen; below the ports that the kernel hands out.
const CONTAINER_PORT: u16 = 21080;
/// Where nginx listens.
const LISTEN_PORT: u16 = 21081;

/// A loopback network of this test's own: all of 127/8 is there on Linux, and tests run side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    base: [u8; 3],
}

impl Network {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        // nextest gives each test a process, cargo test gives them a number in one process.
        let pid = std::process::id();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { base: [64 + (pid >> 8 & 0x7f) as u8, (pid & 0xff) as u8, number] }
    }

    pub(super) fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.base;
        // 127.a.b.0/24 with c as part of the host: 32 tests of 8 addresses in one process.
        assert!(c < 32 && host < 8, "the tests of one process have used up their addresses");
        Ipv4Addr::new(127, a, b, c * 8 + host)
    }

    /// Where users come in.
    pub(super) fn door(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(1), LISTEN_PORT)
    }

    /// Where load balancers ask.
    pub(super) fn ready(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(1), LISTEN_PORT + 10)
    }

    /// Where a berth of the first or second service stands.
    pub(super) fn place(&self, service: u8, berth: Berth) -> SocketAddrV4 {
        let berth = match berth {
            Berth::A => 0,
            Berth::B => 1,
            Berth::C => 2,
        };
        SocketAddrV4::new(self.address(2 + 3 * service + berth), CONTAINER_PORT)
    }

    /// These services, in this order, behind one door; all but the first by name.
    pub(super) fn shape(&self, names: &[&str]) -> Shape {
        let services = names.iter().zip(0u8..).map(|(name, number)| {
            let server_names = if number == 0 { Vec::new() } else { vec![format!("{name}.example")] };
            let door = self.door();
            let route = Route { address: Some((*door.ip()).into()), port: door.port(), server_names };
            let berths = Berth::ALL.map(|berth| self.place(number, berth));
            (service(name), ServiceShape { routes: vec![route], berths })
        });
        Shape { services: services.collect() }
    }
}

pub(super) fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

/// `web green b 42, api none - 0`
pub(super) fn flags(text: &str) -> Flags {
    let flag = |text: &str| {
        let [name, colour, berth, generation] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let generation = Generation(generation.parse().unwrap());
        let parse = || Flag { colour: colour.parse().unwrap(), berth: berth.parse().unwrap(), generation };
        let flag = (colour != "none").then(parse);
        (service(name), flag)
    };
    Flags { services: text.split(", ").filter(|text| !text.is_empty()).map(flag).collect() }
}

/// Waits for a state.
pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

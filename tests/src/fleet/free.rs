//! Ports and subnets that nobody uses.

use super::FleetError;
use bollard::Docker;
use rand::Rng;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which the system takes the local ports of clients: the load client's hundreds of
/// connections cannot be in the way of a server that restarts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// So many attempts find a free port unless something is badly wrong.
const ATTEMPTS_MAX: usize = 1000;
/// Where subnets are looked for, in this order: the first two octets and the first third one. The first is
/// Docker's own range, at its far end; the second helps hosts whose own network is there.
const SUBNETS: [(u8, u8, u8); 2] = [(172, 31, 241), (10, 213, 1)];

/// Nobody listens there.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port on 127.0.0.1 that is not among those `taken`, and is from now on.
pub(super) fn free_port(taken: &mut BTreeSet<u16>) -> Result<u16, FleetError> {
    for _ in 0..ATTEMPTS_MAX {
        let port = rand::rng().random_range(PORTS);
        if is_free(port) && taken.insert(port) {
            return Ok(port);
        }
    }
    Err(FleetError::NoPort)
}

/// So many /24 networks that neither Docker nor the machine itself uses.
pub(super) async fn free_subnets(count: usize) -> Result<Vec<String>, FleetError> {
    let docker = Docker::connect_with_unix_defaults().map_err(FleetError::docker("connect to Docker"))?;
    let networks = docker.list_networks(None).await.map_err(FleetError::docker("list Docker's networks"))?;
    let configs = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
    let mut used: Vec<Net> = configs.filter_map(|config| Net::parse(&config.subnet?)).collect();
    used.extend(routes());
    let mut found = Vec::with_capacity(count);
    for (first, second, from) in SUBNETS {
        // Upwards to the end of the range, then what is below.
        for third in (from..=255).chain((0..from).rev()) {
            let candidate = Net { address: u32::from(Ipv4Addr::new(first, second, third, 0)), bits: 24 };
            if !used.iter().any(|net| net.overlaps(candidate)) {
                found.push(format!("{first}.{second}.{third}.0/24"));
            }
            if found.len() == count {
                return Ok(found);
            }
        }
    }
    Err(FleetError::NoSubnet)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net {
    address: u32,
    bits: u32,
}

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Self { address: u32::from(address), bits: bits.parse().ok().filter(|bits| *bits <= 32)? })
    }

    fn overlaps(self, other: Self) -> bool {
        let shift = 32 - self.bits.min(other.bits);
        self.address.checked_shr(shift).unwrap_or(0) == other.address.checked_shr(shift).unwrap_or(0)
    }
}

/// What the machine has routes to, the default route left out.
fn routes() -> Vec<Net> {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        // In the byte order of the machine, as the kernel holds them.
        let mut number = |nth| u32::from_str_radix(fields.nth(nth)?, 16).ok().map(u32::from_be);
        Some(Net { address: number(1)?, bits: number(5)?.count_ones() })
    });
    rows.filter(|net| net.bits > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        Net::parse(text).expect("a subnet")
    }

    #[test]
    fn a_subnet_overlaps_what_it_is_within() {
        assert!(net("172.31.0.0/16").overlaps(net("172.31.241.0/24")));
        assert!(net("172.31.241.128/25").overlaps(net("172.31.241.0/24")));
        assert!(net("0.0.0.0/0").overlaps(net("172.31.241.0/24")));
        assert!(!net("172.31.240.0/24").overlaps(net("172.31.241.0/24")));
        assert!(!net("172.17.0.0/16").overlaps(net("172.31.241.0/24")));
    }

    #[test]
    fn drawn_ports_are_free_and_differ() {
        let mut taken = BTreeSet::new();
        for _ in 0..50 {
            let port = free_port(&mut taken).expect("a port");
            assert!(PORTS.contains(&port));
        }
        assert_eq!(taken.len(), 50);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(!is_free(listener.local_addr().expect("its address").port()));
    }

    #[tokio::test]
    async fn subnets_found_are_not_in_use() {
        let subnets = free_subnets(5).await.expect("Docker runs; see `make install-packages`");
        let distinct: BTreeSet<_> = subnets.iter().collect();
        assert_eq!(distinct.len(), 5);
        let used = routes();
        assert!(subnets.iter().all(|subnet| !used.iter().any(|route| route.overlaps(net(subnet)))));
    }
}

//! An IPv4 subnet, checked where it enters.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Below 8 bits it would swallow whole address classes; above 29 there is no room for two colours beside
/// the network, bridge and broadcast addresses.
const PREFIX_BITS: std::ops::RangeInclusive<u8> = 8..=29;

/// An IPv4 subnet in CIDR notation, such as `172.31.240.0/24`. Host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    address: Ipv4Addr,
    prefix_bits: u8,
}

/// A text that is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subnet {text:?}: {reason}, expected something like 172.31.240.0/24")]
pub struct SubnetError {
    text: String,
    reason: String,
}

impl Subnet {
    /// The lowest address for hosts. Docker gives it to the bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) + 1)
    }

    /// The addresses that containers can have, lowest first.
    pub fn hosts(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let network = u32::from(self.address);
        (network + 2..network + self.size() - 1).map(Ipv4Addr::from)
    }

    /// Whether a container can have this address.
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.address));
        (2..self.size() - 1).contains(&offset)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shorter = self.prefix_bits.min(other.prefix_bits);
        (u32::from(self.address) ^ u32::from(other.address)) >> (32 - shorter) == 0
    }

    fn size(&self) -> u32 {
        1 << (32 - self.prefix_bits)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let error = |reason: String| SubnetError { text: text.chars().take(40).collect(), reason };
        let (address, bits) = text.split_once('/').ok_or_else(|| error("there is no prefix length".to_owned()))?;
        let address: Ipv4Addr = address.parse().map_err(|_| error("the address is not IPv4".to_owned()))?;
        let prefix_bits: u8 = bits.parse().map_err(|_| error("the prefix length is not a number".to_owned()))?;
        if !PREFIX_BITS.contains(&prefix_bits) {
            let (least, most) = (PREFIX_BITS.start(), PREFIX_BITS.end());
            return Err(error(format!("the prefix length is not {least} to {most}")));
        }
        let subnet = Self { address, prefix_bits };
        let network = Ipv4Addr::from(u32::from(address) & !(subnet.size() - 1));
        if network != address {
            return Err(error(format!("host bits are set, the network is {network}/{prefix_bits}")));
        }
        Ok(subnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.address, self.prefix_bits))
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for text in ["172.31.240.0/24", "10.0.0.0/8", "192.168.7.8/29", "255.255.255.248/29"] {
            assert_eq!(text.parse::<Subnet>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, reason) in [
            ("172.31.240.0", "no prefix length"),
            ("web/24", "not IPv4"),
            ("fd00::/24", "not IPv4"),
            ("10.0.0.0/x", "not a number"),
            ("10.0.0.0/7", "not 8 to 29"),
            ("10.0.0.0/30", "not 8 to 29"),
            ("10.0.0.1/24", "the network is 10.0.0.0/24"),
        ] {
            let error = text.parse::<Subnet>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn leaves_out_network_bridge_and_broadcast() {
        let subnet: Subnet = "10.1.2.8/29".parse().unwrap();
        let hosts: Vec<_> = subnet.hosts().map(|address| address.octets()[3]).collect();
        assert_eq!(hosts, [10, 11, 12, 13, 14]);
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 1, 2, 9));
        let inside: Vec<_> = (0..=255u8).filter(|last| subnet.is_host(Ipv4Addr::new(10, 1, 2, *last))).collect();
        assert_eq!(inside, hosts);
        assert!(!subnet.is_host(Ipv4Addr::new(10, 1, 3, 10)));
    }

    #[test]
    fn sees_overlap_both_ways() {
        let subnet = |text: &str| text.parse::<Subnet>().unwrap();
        for (one, other, overlap) in [
            ("10.1.2.0/24", "10.1.2.128/25", true),
            ("10.1.2.0/25", "10.1.2.128/25", false),
            ("10.0.0.0/8", "10.200.0.0/16", true),
        ] {
            assert_eq!(subnet(one).overlaps(&subnet(other)), overlap);
            assert_eq!(subnet(other).overlaps(&subnet(one)), overlap);
        }
    }
}

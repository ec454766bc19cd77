//! Fixed addresses: one for each service, container and berth of this host, for as long as the service
//! is here. Docker's own choice changes when a container restarts; these never do, so nginx can name all
//! berths at all times.

mod subnet;

pub use subnet::{Subnet, SubnetError};

use crate::berth::Berth;
use cutover::ids::ServiceName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Who has which address. Kept in the journal: it reads back exactly, or refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct Addresses {
    subnet: Subnet,
    held: BTreeMap<Place, Ipv4Addr>,
}

type Place = (ServiceName, String, Berth);

/// Why there is no address, or why a kept table is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressesError {
    /// All addresses are held.
    #[error(
        "no address is left for {service}/{container}/{berth}: all {size} of {subnet} are held; \
         give the agent a larger subnet"
    )]
    Full {
        /// For which service.
        service: ServiceName,
        /// For which of its containers.
        container: String,
        /// For which berth.
        berth: Berth,
        /// The network's subnet.
        subnet: Subnet,
        /// How many addresses containers can have in it.
        size: usize,
    },
    /// A kept entry is not `service/container/berth`.
    #[error("address table: {0:?} is not service/container/berth")]
    Place(String),
    /// A kept address cannot be a container's.
    #[error("address table: {address} of {place:?} is not an address for containers in {subnet}")]
    Outside {
        /// The entry.
        place: String,
        /// Its address.
        address: Ipv4Addr,
        /// The network's subnet.
        subnet: Subnet,
    },
    /// Two kept entries have one address.
    #[error("address table: {address} is held twice")]
    Twice {
        /// The address.
        address: Ipv4Addr,
    },
}

impl Addresses {
    /// Nobody has one yet.
    pub fn new(subnet: Subnet) -> Self {
        Self { subnet, held: BTreeMap::new() }
    }

    /// The network's subnet.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The address of this berth, the lowest free one if it has none yet. Asking again answers the same.
    ///
    /// # Errors
    /// [`AddressesError::Full`].
    pub fn allocate(
        &mut self,
        service: &ServiceName,
        container: &str,
        berth: Berth,
    ) -> Result<Ipv4Addr, AddressesError> {
        let place = (service.clone(), container.to_owned(), berth);
        if let Some(address) = self.held.get(&place) {
            return Ok(*address);
        }
        let free = self.subnet.hosts().find(|address| !self.held.values().any(|held| held == address));
        let address = free.ok_or_else(|| AddressesError::Full {
            service: service.clone(),
            container: container.to_owned(),
            berth,
            subnet: self.subnet,
            size: self.subnet.hosts().count(),
        })?;
        self.held.insert(place, address);
        Ok(address)
    }

    /// The address of this berth, if it has one.
    pub fn get(&self, service: &ServiceName, container: &str, berth: Berth) -> Option<Ipv4Addr> {
        self.held.get(&(service.clone(), container.to_owned(), berth)).copied()
    }

    /// Every address that is held.
    pub fn all(&self) -> Vec<Ipv4Addr> {
        self.held.values().copied().collect()
    }

    /// Gives back all addresses of a service that left this host.
    pub fn release(&mut self, service: &ServiceName) {
        self.held.retain(|(holder, _, _), _| holder != service);
    }
}

/// As it stands in the journal: `"web/app/a": "172.31.240.2"`.
#[derive(Serialize, Deserialize)]
struct Kept {
    subnet: Subnet,
    held: BTreeMap<String, Ipv4Addr>,
}

impl From<Addresses> for Kept {
    fn from(addresses: Addresses) -> Self {
        let text = |((service, container, berth), address)| (format!("{service}/{container}/{berth}"), address);
        Self { subnet: addresses.subnet, held: addresses.held.into_iter().map(text).collect() }
    }
}

impl TryFrom<Kept> for Addresses {
    type Error = AddressesError;

    fn try_from(kept: Kept) -> Result<Self, AddressesError> {
        let mut addresses = Self::new(kept.subnet);
        for (text, address) in kept.held {
            let place = place(&text).ok_or_else(|| AddressesError::Place(text.clone()))?;
            if !kept.subnet.is_host(address) {
                return Err(AddressesError::Outside { place: text, address, subnet: kept.subnet });
            }
            if addresses.held.values().any(|held| *held == address) {
                return Err(AddressesError::Twice { address });
            }
            addresses.held.insert(place, address);
        }
        Ok(addresses)
    }
}

fn place(text: &str) -> Option<Place> {
    let mut parts = text.split('/');
    let (service, container, berth) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && !container.is_empty();
    whole.then_some((service.parse().ok()?, container.to_owned(), berth.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    fn small() -> Addresses {
        Addresses::new("10.1.2.8/29".parse().unwrap())
    }

    #[test]
    fn lowest_free_first_and_the_same_again() {
        let mut addresses = small();
        let first = addresses.allocate(&name("web"), "app", Berth::A).unwrap();
        let second = addresses.allocate(&name("web"), "app", Berth::B).unwrap();
        let other = addresses.allocate(&name("api"), "app", Berth::A).unwrap();
        assert_eq!([first, second, other].map(|a| a.octets()[3]), [10, 11, 12]);
        assert_eq!(addresses.allocate(&name("web"), "app", Berth::A), Ok(first));
        assert_eq!(addresses.get(&name("web"), "app", Berth::B), Some(second));
        addresses.release(&name("web"));
        assert_eq!(addresses.get(&name("web"), "app", Berth::B), None);
        assert_eq!(addresses.allocate(&name("new"), "app", Berth::A), Ok(first));
    }

    #[test]
    fn full_says_so() {
        let mut addresses = small();
        for number in 0..5 {
            addresses.allocate(&name(&format!("s{number}")), "app", Berth::A).unwrap();
        }
        let error = addresses.allocate(&name("one-more"), "app", Berth::B).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no address is left for one-more/app/b: all 5 of 10.1.2.8/29 are held; \
             give the agent a larger subnet"
        );
    }

    #[test]
    fn kept_and_read_back() {
        let mut addresses = small();
        addresses.allocate(&name("web"), "app", Berth::A).unwrap();
        let text = serde_json::to_string(&addresses).unwrap();
        assert_eq!(text, r#"{"subnet":"10.1.2.8/29","held":{"web/app/a":"10.1.2.10"}}"#);
        assert_eq!(serde_json::from_str::<Addresses>(&text).unwrap(), addresses);
    }

    #[test]
    fn damage_is_refused() {
        for (held, expected) in [
            (r#""web/app":"10.1.2.10""#, "is not service/container/berth"),
            (r#""web/app/red":"10.1.2.10""#, "is not service/container/berth"),
            (r#""web/app/a":"10.1.2.9""#, "is not an address for containers"),
            (r#""web/app/a":"10.1.2.15""#, "is not an address for containers"),
            (r#""web/app/a":"10.1.2.10","web/app/b":"10.1.2.10""#, "is held twice"),
        ] {
            let text = format!(r#"{{"subnet":"10.1.2.8/29","held":{{{held}}}}}"#);
            let error = serde_json::from_str::<Addresses>(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{held}: {error}");
        }
    }
}

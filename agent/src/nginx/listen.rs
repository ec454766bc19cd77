//! Which service answers where: every contradiction between services is found here, before nginx sees
//! it. nginx itself only warns of most of them and then sends the traffic to one of the two.

use super::{ProxyError, Shape};
use crate::release::Route;
use cutover::ids::ServiceName;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

/// More would be a mistake: each costs up to four stat(2) calls on a request to the control server.
const SERVICES_MAX: usize = 500;
/// A page of names; more belong into a wildcard.
const SERVER_NAMES_MAX: usize = 100;
/// RFC 1035.
const SERVER_NAME_BYTES_MAX: usize = 253;
/// RFC 1035.
const LABEL_BYTES_MAX: usize = 63;

/// What the host does with a port of a spec: the address it becomes here.
pub(super) type ListenMap = BTreeMap<u16, SocketAddr>;

/// One `server` block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Door<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) addresses: Vec<SocketAddr>,
    /// Empty: it answers for every name that nobody else has.
    pub(super) server_names: &'a [String],
}

/// All doors of a shape, by service and then as written. `ipv6`: a route without an address opens on
/// `[::]` too.
pub(super) fn doors<'a>(shape: &'a Shape, map: &ListenMap, ipv6: bool) -> Result<Vec<Door<'a>>, ProxyError> {
    if shape.services.len() > SERVICES_MAX {
        return Err(refused(format!("{} services; at most {SERVICES_MAX} fit on one host", shape.services.len())));
    }
    check_upstreams(shape)?;
    let mut taken: BTreeMap<(SocketAddr, Option<&str>), &ServiceName> = BTreeMap::new();
    let mut doors = Vec::new();
    for (service, shape) in &shape.services {
        for route in &shape.routes {
            check_names(service, route)?;
            let addresses = addresses(service, route, map, ipv6)?;
            for address in &addresses {
                let names = route.server_names.iter().map(|name| Some(name.as_str()));
                let names: Vec<_> = if route.server_names.is_empty() { vec![None] } else { names.collect() };
                for name in names {
                    if let Some(other) = taken.insert((*address, name), service) {
                        return Err(twice(*address, name, other, service));
                    }
                }
            }
            doors.push(Door { service, addresses, server_names: &route.server_names });
        }
    }
    Ok(doors)
}

fn addresses(service: &ServiceName, route: &Route, map: &ListenMap, ipv6: bool) -> Result<Vec<SocketAddr>, ProxyError> {
    let addresses = match (map.get(&route.port), route.address) {
        (Some(here), _) => vec![*here],
        (None, Some(address)) => vec![SocketAddr::new(address, route.port)],
        (None, None) => {
            let mut all = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), route.port)];
            if ipv6 {
                all.push(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), route.port));
            }
            all
        }
    };
    if addresses.iter().any(|address| address.port() == 0) {
        return Err(refused(format!("service {service} listens on port 0; give a port from 1 to 65535")));
    }
    Ok(addresses)
}

fn check_upstreams(shape: &Shape) -> Result<(), ProxyError> {
    let mut taken: BTreeMap<SocketAddrV4, &ServiceName> = BTreeMap::new();
    for (service, shape) in &shape.services {
        for address in shape.berths {
            let ip = address.ip();
            if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || address.port() == 0 {
                return Err(refused(format!("service {service}: no container can stand at {address}")));
            }
            if let Some(other) = taken.insert(address, service) {
                return Err(refused(format!("container address {address} is given to {other} and to {service}")));
            }
        }
    }
    Ok(())
}

/// A name goes into nginx's text: it was checked with the spec, and is checked again here.
fn check_names(service: &ServiceName, route: &Route) -> Result<(), ProxyError> {
    if route.server_names.len() > SERVER_NAMES_MAX {
        let count = route.server_names.len();
        return Err(refused(format!("service {service}: {count} server names; at most {SERVER_NAMES_MAX} on a route")));
    }
    for name in &route.server_names {
        if !is_server_name(name) {
            let name: String = name.chars().take(SERVER_NAME_BYTES_MAX).collect();
            return Err(refused(format!(
                "service {service}: {name:?} is not a server name; expected lower case letters, digits, '-' and '.', \
                 and '*' only as the whole first or last label"
            )));
        }
    }
    Ok(())
}

fn is_server_name(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    let last = labels.len() - 1;
    let stars = labels.iter().filter(|label| **label == "*").count();
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let fits = |(at, label): (usize, &&str)| plain(label) || (*label == "*" && last > 0 && (at == 0 || at == last));
    name.len() <= SERVER_NAME_BYTES_MAX && stars <= 1 && labels.iter().enumerate().all(fits)
}

fn twice(address: SocketAddr, name: Option<&str>, first: &ServiceName, second: &ServiceName) -> ProxyError {
    refused(match name {
        Some(name) => format!("{address} with server name {name} belongs to {first} and to {second}"),
        None => format!(
            "{address} without a server name belongs to {first} and to {second}; give one of them a server_name"
        ),
    })
}

fn refused(detail: String) -> ProxyError {
    ProxyError::Refused { detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::ServiceShape;

    fn route(port: u16, names: &[&str]) -> Route {
        Route { address: None, port, server_names: names.iter().map(|name| name.to_string()).collect() }
    }

    fn shape(services: &[(&str, Vec<Route>)]) -> Shape {
        let services = services.iter().zip(1u8..).map(|((name, routes), n)| {
            let at = |host| SocketAddrV4::new(Ipv4Addr::new(10, 0, n, host), 8080);
            (name.parse().unwrap(), ServiceShape { routes: routes.clone(), berths: [at(2), at(3), at(4)] })
        });
        Shape { services: services.collect() }
    }

    fn refusal(shape: &Shape, map: &ListenMap) -> String {
        doors(shape, map, false).unwrap_err().to_string()
    }

    #[test]
    fn the_host_moves_a_port_elsewhere_also_from_a_named_address() {
        let map = ListenMap::from([(80, "127.0.0.1:8081".parse().unwrap())]);
        let mut named = route(80, &["b.example"]);
        named.address = Some("10.9.9.9".parse().unwrap());
        let shape = shape(&[("a", vec![route(80, &[])]), ("b", vec![named])]);
        for door in doors(&shape, &map, true).unwrap() {
            assert_eq!(door.addresses, ["127.0.0.1:8081".parse().unwrap()]);
        }
    }

    #[test]
    fn a_route_without_an_address_opens_on_both_families_where_there_are_both() {
        let shape = shape(&[("a", vec![route(80, &[])])]);
        let addresses = |ipv6| doors(&shape, &ListenMap::new(), ipv6).unwrap().remove(0).addresses;
        assert_eq!(addresses(false), ["0.0.0.0:80".parse().unwrap()]);
        assert_eq!(addresses(true), ["0.0.0.0:80".parse().unwrap(), "[::]:80".parse().unwrap()]);
    }

    #[test]
    fn one_port_is_shared_by_names_and_at_most_one_service_without() {
        let shared = shape(&[("a", vec![route(80, &["a.example"])]), ("b", vec![route(80, &[])])]);
        assert_eq!(doors(&shared, &ListenMap::new(), false).unwrap().len(), 2);
        let same_name = shape(&[("a", vec![route(80, &["x.example"])]), ("b", vec![route(80, &["x.example"])])]);
        let said = refusal(&same_name, &ListenMap::new());
        assert!(said.contains("x.example belongs to a and to b"), "{said}");
        let both_unnamed = shape(&[("a", vec![route(80, &[])]), ("b", vec![route(80, &[])])]);
        let said = refusal(&both_unnamed, &ListenMap::new());
        assert!(said.contains("belongs to a and to b; give one of them a server_name"), "{said}");
    }

    #[test]
    fn two_ports_that_the_host_moves_to_one_address_meet_there() {
        let map = ListenMap::from([(80, "127.0.0.1:8081".parse().unwrap()), (81, "127.0.0.1:8081".parse().unwrap())]);
        let meeting = shape(&[("a", vec![route(80, &[])]), ("b", vec![route(81, &[])])]);
        assert!(refusal(&meeting, &map).contains("belongs to a and to b"));
    }

    #[test]
    fn what_is_no_server_name_never_reaches_nginx() {
        for good in ["a", "a.example", "*.example.com", "www.example.*", "xn--bcher-kva.example", "10.0.0.1"] {
            assert!(is_server_name(good), "{good}");
        }
        let long = "a.".repeat(127) + "a";
        for bad in
            ["", ".", "a..b", "*", "a.*.b", "*.a.*", "a*.b", "A.b", "a b", "a;", "a{", "$host", "~^a$", "a\n", "\"a\""]
        {
            assert!(!is_server_name(bad), "{bad:?}");
        }
        assert!(!is_server_name(&long));
        let shape = shape(&[("web", vec![route(80, &["a; } evil {"])])]);
        assert!(refusal(&shape, &ListenMap::new()).contains("service web: \"a; } evil {\" is not a server name"));
    }

    #[test]
    fn no_two_berths_stand_at_one_address() {
        let mut same = shape(&[("a", vec![]), ("b", vec![])]);
        let taken = same.services.values().next().unwrap().berths[2];
        same.services.values_mut().last().unwrap().berths[0] = taken;
        assert!(refusal(&same, &ListenMap::new()).contains("10.0.1.4:8080 is given to a and to b"));
        let mut nowhere = shape(&[("a", vec![])]);
        nowhere.services.values_mut().next().unwrap().berths[1] = "0.0.0.0:8080".parse().unwrap();
        assert!(refusal(&nowhere, &ListenMap::new()).contains("no container can stand at 0.0.0.0:8080"));
    }
}

//! The keys of a spec: which there are, what may stand in them, and what they mean when absent.

mod container;

use super::names::{is_dns_label, server_name};
use super::{Container, MissingHosts, OnPartition, Route, SourceText, Spec};
use crate::config::{Field, Keys, quote};
use crate::identity::{LABELS_MAX, is_label};
use crate::store::VALUE_BYTES_MAX;
use cutover::ids::ServiceName;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

const fn seconds(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

/// An hour: longer requests than that outlive any deployment, and their colour would never be stopped.
const DRAIN: RangeInclusive<Duration> = seconds(0, 3600);
/// A week: the standby takes memory all that time.
const KEEP_STANDBY: RangeInclusive<Duration> = seconds(0, 7 * 24 * 3600);
/// A second is less than a container takes; a day is a deployment that was forgotten.
const PREPARE_TIMEOUT: RangeInclusive<Duration> = seconds(1, 24 * 3600);
/// An hour: until then no other deployment of the service can begin.
const WATCH: RangeInclusive<Duration> = seconds(0, 3600);
/// What hosts get of it. Written in hexadecimal, it takes half of a value of the store; hosts and ways back share
/// the other half.
const RELEASE_BYTES_MAX: usize = VALUE_BYTES_MAX / 4;
/// Ten seconds are the grain in which an answer to load balancers runs out; after an hour nobody waits for it.
const PARTITION_GRACE: RangeInclusive<Duration> = seconds(10, 3600);
const PORT: RangeInclusive<u16> = 1..=u16::MAX;

/// Each is a `server` block in the nginx config of every host.
const ROUTES_MAX: usize = 32;
/// Of one route. nginx keeps names in a hash of limited size, and a release has a size limit of its own.
const SERVER_NAMES_MAX: usize = 32;
/// Keys that people bring along from Compose files and other tools, where a spec has other words.
fn foreign_to_service(key: &str) -> Option<&'static str> {
    match key {
        "services" => Some("a spec describes one service; expected `service: NAME` and `containers`"),
        "name" => Some("expected `service: NAME`"),
        "version" => Some("a spec is for all versions; expected ${VERSION} in `image`, and `--version` when deploying"),
        "volumes" | "networks" | "secrets" | "configs" => Some(NOT_YET),
        _ => None,
    }
}

const NOT_YET: &str = "this version of bgctl does not have it";

/// The whole spec.
pub(super) fn spec(root: &Field<'_>, text: &str) -> Option<Spec> {
    let mut keys = root.keys("a map that begins with `service: NAME`")?;
    let service = keys.required("service", "the service's name").and_then(|field| service_name(&field));
    let hosts = keys.required("hosts", "labels that select hosts, such as `role: web`").and_then(|field| hosts(&field));
    let containers = keys.required("containers", "one container").and_then(|field| containers(&field));
    let routes = keys.required("routes", "at least one, such as `- listen: 80`").and_then(|field| routes(&field));
    let drain = duration(&mut keys, "drain", 10, DRAIN);
    let keep_standby = duration(&mut keys, "keep_standby", 30 * 60, KEEP_STANDBY);
    let prepare_timeout = duration(&mut keys, "prepare_timeout", 5 * 60, PREPARE_TIMEOUT);
    let watch = duration(&mut keys, "watch", 10, WATCH);
    let missing_hosts = keys.or("missing_hosts", MissingHosts::None, missing_hosts);
    let on_partition = on_partition(&mut keys);
    keys.close(foreign_to_service);
    let spec = Spec {
        service: service?,
        hosts: hosts?,
        containers: containers?,
        routes: routes?,
        drain: drain?,
        keep_standby: keep_standby?,
        prepare_timeout: prepare_timeout?,
        watch: watch?,
        missing_hosts: missing_hosts?,
        on_partition: on_partition?,
        text: SourceText(text.to_owned()),
    };
    if let Some(container) = spec.containers.iter().find(|c| c.healthcheck.settle >= spec.prepare_timeout) {
        return root.fault(format!(
            "expected prepare_timeout ({:?}) to be longer than settle ({:?}) of container {}: it could never be ready",
            spec.prepare_timeout, container.healthcheck.settle, container.name
        ));
    }
    let bytes = spec.release_bytes_max();
    if bytes > RELEASE_BYTES_MAX {
        return root.fault(format!(
            "with its environment, command and server names a release takes up to {bytes} bytes, expected at most \
             {RELEASE_BYTES_MAX}"
        ));
    }
    Some(spec)
}

fn on_partition(keys: &mut Keys<'_>) -> Option<OnPartition> {
    let closes = keys.or("on_partition", false, |field| {
        field.parse("keep-old or fail-closed", |text| match text {
            "keep-old" => Some(false),
            "fail-closed" => Some(true),
            _ => None,
        })
    });
    // Read also where it means nothing, so that a mistake in it is found.
    let grace = duration(keys, "partition_grace", 30, PARTITION_GRACE);
    Some(if closes? { OnPartition::FailClosed(grace?) } else { grace.map(|_| OnPartition::KeepOld)? })
}

fn service_name(field: &Field<'_>) -> Option<ServiceName> {
    field.parse(&format!("a name: {DNS_LABEL}"), |text| text.parse().ok())
}

const DNS_LABEL: &str = "1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit";

fn hosts(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let expected = "labels that a host must carry, such as `role: web`";
    let entries = field.entries(expected, LABELS_MAX)?;
    if entries.is_empty() {
        return field.fault(format!("expected {expected}; without one, no host is meant"));
    }
    let label = "1 to 63 of A-Z, a-z, 0-9, '_', '.' and '-', starting and ending with a letter or digit";
    let read = |(_, key, value): (String, Field<'_>, Field<'_>)| {
        let key = key.parse(&format!("a label's key: {label}"), |text| is_label(text).then(|| text.to_owned()));
        let value = value.parse(&format!("a label's value: {label}"), |text| is_label(text).then(|| text.to_owned()));
        Some((key?, value?))
    };
    all(entries.into_iter().map(read))
}

fn missing_hosts(field: &Field<'_>) -> Option<MissingHosts> {
    let expected =
        "none, or how many hosts a deployment may do without: a number from 0 to 65535, or 0% to 99% of them";
    field.parse(expected, |text| text.parse().ok())
}

fn containers(field: &Field<'_>) -> Option<Vec<Container>> {
    let entries = field.entries("one container, such as `app: {image: ...}`", usize::MAX)?;
    let count = entries.len();
    let read = |(_, key, value): (String, Field<'_>, Field<'_>)| {
        let name =
            key.parse(&format!("a container's name: {DNS_LABEL}"), |text| is_dns_label(text).then(|| text.to_owned()));
        container::read(name, &value)
    };
    let containers = all(entries.into_iter().map(read));
    if count != 1 {
        return field.fault(format!("expected exactly one container in this version of bgctl, found {count}"));
    }
    containers
}

fn routes(field: &Field<'_>) -> Option<Vec<Route>> {
    let items = field.list("a list such as `- listen: 80`", ROUTES_MAX)?;
    if items.is_empty() {
        return field.fault("expected at least one route, such as `- listen: 80`");
    }
    let mut taken = BTreeSet::new();
    let read = |item: Field<'_>| {
        let route = route(&item)?;
        let every_name = [String::new()];
        let names = if route.server_names.is_empty() { &every_name[..] } else { &route.server_names };
        for name in names {
            // Without an address nginx listens on these, and a host refuses what is asked of an address twice.
            let every_address = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            let addresses = route.address.as_ref().map_or(&every_address[..], std::slice::from_ref);
            let at = |address: &IpAddr| (*address, route.port, name.clone());
            let is_second = addresses.iter().filter(|address| !taken.insert(at(address))).count() > 0;
            if is_second {
                let what = if name.is_empty() { "every name".to_owned() } else { quote(name) };
                return item.fault(format!("expected one answer to {what} at this address and port, found a second"));
            }
        }
        Some(route)
    };
    all(items.into_iter().map(read))
}

fn route(field: &Field<'_>) -> Option<Route> {
    let mut keys = field.keys("a map with `listen`")?;
    let listen = keys.required("listen", "a port such as 80, or \"127.0.0.1:8080\"").and_then(|field| listen(&field));
    let server_names = keys.or("server_name", Vec::new(), server_names);
    keys.close(|_| None);
    let (address, port) = listen?;
    Some(Route { address, port, server_names: server_names? })
}

fn listen(field: &Field<'_>) -> Option<(Option<IpAddr>, u16)> {
    field.parse("a port from 1 to 65535, or an address with one: \"127.0.0.1:8080\", \"[::1]:80\"", |text| {
        let is_port = text.bytes().all(|b| b.is_ascii_digit());
        let (address, port) = match is_port {
            true => (None, text.parse().ok()?),
            false => {
                // A scope id would reach nginx as text of its own.
                let address: SocketAddr = text.parse().ok().filter(|_| !text.contains('%'))?;
                (Some(address.ip()), address.port())
            }
        };
        PORT.contains(&port).then_some((address, port))
    })
}

fn server_names(field: &Field<'_>) -> Option<Vec<String>> {
    let expected = "a host name such as example.com or *.example.com; without the key, every name is answered";
    let name = |field: &Field<'_>| field.parse(expected, server_name);
    if field.is_list() {
        let items = field.list(expected, SERVER_NAMES_MAX)?;
        if items.is_empty() {
            return field.fault(format!("expected {expected}"));
        }
        return all(items.iter().map(name));
    }
    Some(vec![name(field)?])
}

fn duration(
    keys: &mut Keys<'_>,
    key: &'static str,
    absent_seconds: u64,
    range: RangeInclusive<Duration>,
) -> Option<Duration> {
    keys.or(key, Duration::from_secs(absent_seconds), |field| field.duration(range))
}

/// Reads every entry, even after one was at fault, so that all faults are found.
fn all<T, C: FromIterator<T>>(entries: impl Iterator<Item = Option<T>>) -> Option<C> {
    entries.collect::<Vec<_>>().into_iter().collect()
}

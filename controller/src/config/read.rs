//! The keys of the controller's config: which there are, and what may stand in them.

use super::{Config, Field};
use crate::replica::is_name;
use crate::store::StoreConfig;
use crate::store::etcd::{EtcdConfig, EtcdTls};
use bgctl_proto::redirect::is_address;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Members of an etcd cluster; more than nine do not make it safer, and slower.
const ENDPOINTS_MAX: usize = 9;

/// Longest prefix, in bytes: what etcd's limits of a transaction leave for it.
const PREFIX_BYTES_MAX: usize = 64;

/// Under 2 s etcd itself raises it; over a minute nobody would lead for that long after a controller died.
const LEASE_TTL: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);

/// From what a few deployments fill to what etcd advises at most, with room above.
const QUOTA_BYTES: RangeInclusive<u64> = 1024 * 1024..=64 * 1024 * 1024 * 1024;

/// Under 100 ms a busy disk looks like a dead store.
const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// The whole config.
pub(super) fn config(root: &Field<'_>) -> Option<Config> {
    if root.is_empty() {
        return Some(Config::default());
    }
    let absent = Config::default();
    let mut keys = root.keys("a map, such as `listen: 0.0.0.0:7443`")?;
    let listen = keys.or("listen", absent.listen, listen);
    let name = keys.or("name", None, |field| name(field).map(Some));
    let advertise = keys.or("advertise", None, |field| advertise(field).map(Some));
    let state_dir = keys.or("state_dir", absent.state_dir, path);
    let identity = keys.or("identity", absent.identity, path);
    let store = keys.or("store", absent.store, store);
    keys.close(|_| None);
    Some(Config {
        listen: listen?,
        name: name?,
        advertise: advertise?,
        state_dir: state_dir?,
        identity: identity?,
        store: store?,
    })
}

fn listen(field: &Field<'_>) -> Option<SocketAddr> {
    // Port 0 is any free one, which is of use to tests.
    field.parse("an address with a port, such as 0.0.0.0:7443 or \"[::]:7443\"", |text| text.parse().ok())
}

fn name(field: &Field<'_>) -> Option<String> {
    let expected = "1 to 63 of A-Z, a-z, 0-9, '_', '.' and '-', beginning with a letter or digit";
    field.parse(expected, |text| is_name(text).then(|| text.to_owned()))
}

fn advertise(field: &Field<'_>) -> Option<String> {
    field.parse("HOST:PORT, such as 10.0.0.5:7443", |text| is_address(text).then(|| text.to_owned()))
}

fn path(field: &Field<'_>) -> Option<PathBuf> {
    field.parse("an absolute path", |text| Path::new(text).is_absolute().then(|| PathBuf::from(text)))
}

fn store(field: &Field<'_>) -> Option<StoreConfig> {
    let expected = "`embedded`, or a map with `embedded` or `etcd`";
    if !field.is_map() {
        return field.parse(expected, |text| (text == "embedded").then(StoreConfig::default));
    }
    let mut keys = field.keys(expected)?;
    let embedded = keys.optional("embedded").map(|field| {
        let mut keys = field.keys("a map with `path`")?;
        let file = keys.or("path", None, |field| path(field).map(Some));
        keys.close(|_| None);
        Some(StoreConfig::Embedded { path: file? })
    });
    let etcd = keys.optional("etcd").map(|field| etcd(&field).map(StoreConfig::Etcd));
    keys.close(|_| None);
    match (embedded, etcd) {
        (Some(store), None) | (None, Some(store)) => store,
        (Some(_), Some(_)) => field.fault("expected `embedded` or `etcd`, found both"),
        (None, None) => field.fault("expected `embedded` or `etcd`, found neither"),
    }
}

fn etcd(field: &Field<'_>) -> Option<EtcdConfig> {
    let mut keys = field.keys("a map with `endpoints`")?;
    let absent = EtcdConfig::new(Vec::new());
    let prefix = keys.or("prefix", absent.prefix, |field| {
        let expected = format!("2 to {PREFIX_BYTES_MAX} of A-Z, a-z, 0-9, '/', '_', '.' and '-', ending with '/'");
        field.parse(&expected, |text| is_prefix(text).then(|| text.to_owned()))
    });
    let ca = keys.or("ca", None, |field| path(field).map(Some));
    let certificate = keys.or("certificate", None, |field| path(field).map(Some));
    let key = keys.or("key", None, |field| path(field).map(Some));
    let scheme = if ca.as_ref().is_none_or(Option::is_some) { "https://" } else { "http://" };
    let endpoints = keys
        .required("endpoints", &format!("at least one, such as [{scheme}10.0.0.1:2379]"))
        .and_then(|field| endpoints(&field, scheme));
    let lease_ttl = Duration::from_secs(absent.lease_ttl_seconds.into());
    let lease_ttl = keys.or("lease_ttl", lease_ttl, |field| field.duration(LEASE_TTL));
    let quota_bytes = keys.or("quota_bytes", absent.quota_bytes, |field| field.number(QUOTA_BYTES));
    let request_timeout = Duration::from_millis(absent.request_timeout_milliseconds);
    let request_timeout = keys.or("request_timeout", request_timeout, |field| field.duration(REQUEST_TIMEOUT));
    keys.close(|key| (key == "tls").then_some("expected `ca`, `certificate` and `key` beside `endpoints`"));
    let (ca, cert, key, lease_ttl) = (ca?, certificate?, key?, lease_ttl?);
    if cert.is_some() != key.is_some() || (cert.is_some() && ca.is_none()) {
        return field.fault("expected `certificate` and `key` together, and `ca` with them");
    }
    if lease_ttl.subsec_millis() != 0 {
        return field.fault(format!("expected lease_ttl in whole seconds, found {lease_ttl:?}"));
    }
    Some(EtcdConfig {
        endpoints: endpoints?,
        prefix: prefix?,
        tls: ca.map(|ca| EtcdTls { ca, cert, key }),
        quota_bytes: quota_bytes?,
        lease_ttl_seconds: u32::try_from(lease_ttl.as_secs()).ok()?,
        request_timeout_milliseconds: u64::try_from(request_timeout?.as_millis()).ok()?,
    })
}

fn endpoints(field: &Field<'_>, scheme: &str) -> Option<Vec<String>> {
    let expected = format!("{scheme}HOST:PORT ({} `ca`)", if scheme == "https://" { "with" } else { "https:// needs" });
    let items = field.list(&format!("a list of {expected}"), ENDPOINTS_MAX)?;
    if items.is_empty() {
        return field.fault("expected at least one endpoint");
    }
    let endpoint = |item: &Field<'_>| {
        item.parse(&expected, |text| {
            let (host, port) = text.strip_prefix(scheme)?.rsplit_once(':')?;
            let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_[]:".contains(c));
            (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| text.to_owned())
        })
    };
    items.iter().map(endpoint).collect::<Vec<_>>().into_iter().collect()
}

fn is_prefix(text: &str) -> bool {
    (2..=PREFIX_BYTES_MAX).contains(&text.len())
        && text.ends_with('/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c))
}

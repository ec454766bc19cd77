//! How to reach the cluster.

use super::super::StoreError;
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes in the prefix at most: what the limits of a transaction leave for it.
const PREFIX_BYTES_MAX: usize = 64;

/// Seconds a lease may live. Under 2, etcd itself raises it; over 60, nobody would lead for a minute.
const LEASE_TTL_SECONDS: std::ops::RangeInclusive<u32> = 2..=60;

/// Milliseconds a request may take.
const REQUEST_TIMEOUT_MILLISECONDS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// A host that does not answer at all is given up after this, so that there is time to ask another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause between two pings. etcd hangs up on clients that ping more than every 5 s, or without an open stream.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A connection whose ping is not answered within this is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The part of the controller's configuration that is about etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdConfig {
    /// `http://HOST:PORT` or `https://HOST:PORT` of every member; at least one.
    pub endpoints: Vec<String>,
    /// What all keys start with: 2 to 64 bytes, a slash at the end. Two fleets on one cluster need two.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// For `https`.
    #[serde(default)]
    pub tls: Option<EtcdTls>,
    /// Seconds until another controller may lead after this one died: 2 to 60. With a change of etcd's own leader at
    /// the wrong moment it can be twice that.
    #[serde(default = "default_lease_ttl_seconds")]
    pub lease_ttl_seconds: u32,
    /// Bytes at which the members take no more: what they are started with (`--quota-backend-bytes`). From 3.6 on they
    /// say so themselves, and this is not used.
    #[serde(default = "default_quota_bytes")]
    pub quota_bytes: u64,
    /// Milliseconds until a request counts as not answered: 100 to 60,000.
    #[serde(default = "default_request_timeout_milliseconds")]
    pub request_timeout_milliseconds: u64,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// Who signed the certificates of the servers.
    pub ca: PathBuf,
    /// Our certificate. Left out, with `key`, if the servers ask for none.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

impl EtcdConfig {
    /// Everything but the endpoints at its default.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            prefix: default_prefix(),
            tls: None,
            lease_ttl_seconds: default_lease_ttl_seconds(),
            quota_bytes: default_quota_bytes(),
            request_timeout_milliseconds: default_request_timeout_milliseconds(),
        }
    }

    /// What makes `etcdctl` ask the same members, as the controller does.
    pub(super) fn etcdctl_flags(&self) -> String {
        let mut flags = format!("--endpoints={}", self.endpoints.join(","));
        if let Some(EtcdTls { ca, cert, key }) = &self.tls {
            let files = [("cacert", Some(ca)), ("cert", cert.as_ref()), ("key", key.as_ref())];
            for (name, file) in files.iter().filter_map(|(name, file)| Some((name, (*file)?))) {
                flags.push_str(&format!(" --{name}={}", file.display()));
            }
        }
        flags
    }

    /// Checks all fields and reads the files.
    pub(super) async fn connect_options(&self) -> Result<ConnectOptions, StoreError> {
        self.check()?;
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            // A member that has lost the others must say so instead of leaving a watch silent.
            .with_require_leader(true);
        let Some(tls) = &self.tls else { return Ok(options) };
        let mut wanted = TlsOptions::new().ca_certificate(Certificate::from_pem(self.read("tls.ca", &tls.ca).await?));
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            let (cert, key) = (self.read("tls.cert", cert).await?, self.read("tls.key", key).await?);
            wanted = wanted.identity(Identity::from_pem(cert, key));
        }
        Ok(options.with_tls(wanted))
    }

    /// The error for a setting that cannot work.
    pub(super) fn unusable(&self, what: &str) -> StoreError {
        StoreError::Unusable { detail: format!("etcd: {what}") }
    }

    fn check(&self) -> Result<(), StoreError> {
        let scheme = if self.tls.is_some() { "https://" } else { "http://" };
        if self.endpoints.is_empty() {
            return Err(self.unusable("`endpoints` is empty; name at least one"));
        }
        if let Some(wrong) = self.endpoints.iter().find(|endpoint| !endpoint.starts_with(scheme)) {
            let hint = if self.tls.is_some() { "because `tls` is set" } else { "or set `tls`" };
            return Err(self.unusable(&format!("the endpoint `{wrong}` must start with `{scheme}`, {hint}")));
        }
        if !(2..=PREFIX_BYTES_MAX).contains(&self.prefix.len()) || !self.prefix.ends_with('/') {
            let prefix = &self.prefix;
            return Err(self.unusable(&format!(
                "`prefix` is `{prefix}`; it must have 2 to {PREFIX_BYTES_MAX} bytes and end with a slash"
            )));
        }
        if !LEASE_TTL_SECONDS.contains(&self.lease_ttl_seconds) {
            return Err(self.unusable(&format!("`lease_ttl_seconds` is {}; 2 to 60 can be", self.lease_ttl_seconds)));
        }
        if !REQUEST_TIMEOUT_MILLISECONDS.contains(&self.request_timeout_milliseconds) {
            let given = self.request_timeout_milliseconds;
            return Err(self.unusable(&format!("`request_timeout_milliseconds` is {given}; 100 to 60000 can be")));
        }
        if self.tls.as_ref().is_some_and(|tls| tls.cert.is_some() != tls.key.is_some()) {
            return Err(self.unusable("`tls.cert` and `tls.key` go together; set both or neither"));
        }
        Ok(())
    }

    async fn read(&self, setting: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
        let content = tokio::fs::read(path).await;
        content.map_err(|error| self.unusable(&format!("`{setting}`: `{}` cannot be read: {error}", path.display())))
    }
}

fn default_prefix() -> String {
    "/bg/v1/".to_owned()
}

fn default_lease_ttl_seconds() -> u32 {
    5
}

/// etcd's own.
fn default_quota_bytes() -> u64 {
    2 * 1024 * 1024 * 1024
}

fn default_request_timeout_milliseconds() -> u64 {
    2_000
}

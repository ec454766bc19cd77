//! The store in an etcd cluster, for several controllers. All keys stand under one prefix.
//!
//! The client has no time limits of its own, so every request gets one here, around connecting, asking and reading
//! the answer. A request that ran out of time may still land.

pub mod config;
mod refusal;
mod request;
mod watching;
mod election;
mod health;
#[cfg(test)]
mod tests;

pub use config::{EtcdConfig, EtcdTls};

use super::{Change, Health, Leadership, Range, Reply, Store, StoreError, Transaction, limits};
use async_trait::async_trait;
use bgctl_proto::ambient::{Ambient, Machine};
use etcd_client::{Channel, Client, Error, GetOptions, KvClient, LeaseClient, WatchClient};
use futures_util::stream::BoxStream;
use health::Members;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes in an answer at most. A prefix is read whole, at one revision: 10,000 hosts make a few megabytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Attempts at a request that has not left this machine, for each endpoint: the client picks one at random, dead or not.
const ATTEMPTS_PER_ENDPOINT: usize = 4;

/// A connection to the cluster; clones share it.
#[derive(Clone)]
pub struct Etcd {
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    prefix: String,
    endpoints: Vec<String>,
    request_timeout: Duration,
    lease_ttl_seconds: u32,
    members: Members,
    ambient: Arc<dyn Ambient>,
    /// The newest revision an answer told of.
    seen: Arc<AtomicU64>,
}

impl Etcd {
    /// Connects, and asks once, so that a wrong address or certificate is seen at the start.
    pub async fn connect(config: &EtcdConfig) -> Result<Self, StoreError> {
        let options = config.connect_options().await?;
        let client = Client::connect(&config.endpoints, Some(options))
            .await
            .map_err(|error| config.unusable(&format!("`endpoints` cannot be used: {error}")))?;
        let members = Members::of(&client, config).await?;
        Self::asked(&client, members, config, Machine::ambient()).await
    }

    /// The same over a channel that is there already, in place of one to the endpoints: for a network that is not the
    /// machine's, and a clock that is not.
    pub async fn over(channel: Channel, config: &EtcdConfig, ambient: Arc<dyn Ambient>) -> Result<Self, StoreError> {
        let options = config.connect_options().await?;
        let client = Client::from_channel(channel, Some(options))
            .await
            .map_err(|error| config.unusable(&format!("the channel cannot be used: {error}")))?;
        Self::asked(&client, Members::unknown(config), config, ambient).await
    }

    async fn asked(
        client: &Client,
        members: Members,
        config: &EtcdConfig,
        ambient: Arc<dyn Ambient>,
    ) -> Result<Self, StoreError> {
        let etcd = Self {
            kv: client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX),
            watch: client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX),
            lease: client.lease_client(),
            prefix: config.prefix.clone(),
            endpoints: config.endpoints.clone(),
            request_timeout: Duration::from_millis(config.request_timeout_milliseconds),
            lease_ttl_seconds: config.lease_ttl_seconds,
            members,
            ambient,
            seen: Arc::default(),
        };
        etcd.range(super::LEADER_KEY).await?;
        Ok(etcd)
    }

    /// Asks within the time limit. What certainly was not sent is asked again at once: beside a dead endpoint
    /// there may be a live one.
    async fn ask<T, F>(&self, request: impl Fn() -> F + Send + Sync) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let asking = async {
            let mut attempts = ATTEMPTS_PER_ENDPOINT * self.endpoints.len();
            loop {
                attempts -= 1;
                match request().await {
                    Err(error) if attempts > 0 && refusal::was_not_sent(&error) => {}
                    answer => return answer.map_err(|error| refusal::classify(&error, &self.endpoints)),
                }
            }
        };
        match tokio::time::timeout(self.request_timeout, asking).await {
            Ok(answer) => answer.map_err(|error| health::advise(self, error)),
            Err(_) => Err(self.unanswered(&format!("nothing within {:?}", self.request_timeout))),
        }
    }

    fn unanswered(&self, detail: &str) -> StoreError {
        StoreError::Unknown { detail: format!("etcd at {}: {detail}", self.endpoints.join(", ")) }
    }

    fn note(&self, revision: Option<u64>) -> Result<u64, StoreError> {
        let revision = revision.ok_or_else(|| self.unanswered("an answer without a revision"))?;
        self.seen.fetch_max(revision, Ordering::Relaxed);
        Ok(revision)
    }

    /// The newest revision.
    async fn newest(&self) -> Result<u64, StoreError> {
        Ok(self.range(super::LEADER_KEY).await?.revision)
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[async_trait]
impl Store for Etcd {
    async fn transact(&self, transaction: &Transaction) -> Result<Reply, StoreError> {
        limits::check(transaction)?;
        let txn = request::txn(transaction, &self.prefix);
        let answer = self
            .ask(|| {
                let (mut kv, txn) = (self.kv.clone(), txn.clone());
                async move { kv.txn(txn).await }
            })
            .await?;
        self.note(request::revision(answer.header()))?;
        request::reply(&answer, &self.prefix).ok_or_else(|| self.unanswered("an answer without a revision"))
    }

    async fn cluster(&self) -> Result<Option<String>, StoreError> {
        let key = self.full_key(super::LEADER_KEY);
        let answer = self
            .ask(|| {
                let (mut kv, key) = (self.kv.clone(), key.clone());
                async move { kv.get(key, None).await }
            })
            .await?;
        let cluster = answer.header().map(|header| header.cluster_id()).filter(|id| *id != 0);
        Ok(cluster.map(|id| format!("{id:x}")))
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        let key = self.full_key(prefix);
        let answer = self
            .ask(|| {
                let (mut kv, key) = (self.kv.clone(), key.clone());
                async move { kv.get(key, Some(GetOptions::new().with_prefix())).await }
            })
            .await?;
        let revision = self.note(request::revision(answer.header()))?;
        Ok(Range { revision, entries: request::entries(answer.kvs(), &self.prefix) })
    }

    async fn watch(
        &self,
        prefix: &str,
        from_revision: u64,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        watching::open(self.clone(), prefix, from_revision).await
    }

    async fn campaign(&self, candidate: &str) -> Result<Box<dyn Leadership>, StoreError> {
        election::campaign(self, candidate).await
    }

    async fn health(&self) -> Health {
        health::ask(self).await
    }
}

//! The suite on a real server, and what only a cluster can do.

mod same_meaning;
mod losing;
mod breaking;
mod leading;
mod refusing;

use super::super::contract::{self, Ground};
use super::super::etcd_server::EtcdServer;
use super::super::{Operation, Store, Transaction};
use super::{Etcd, EtcdConfig};
use async_trait::async_trait;
use etcd_client::Client;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time for anything that must happen. Reached only when it never would.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server, a prefix for each store.
struct Prefixes {
    server: EtcdServer,
    count: Mutex<usize>,
}

impl Prefixes {
    fn latest(&self) -> EtcdConfig {
        let prefix = format!("/contract/{}/", self.count.lock().expect("not poisoned"));
        EtcdConfig { prefix, lease_ttl_seconds: 2, ..self.server.config() }
    }
}

#[async_trait]
impl Ground for Prefixes {
    async fn fresh(&self) -> Arc<dyn Store> {
        *self.count.lock().expect("not poisoned") += 1;
        Arc::new(connect(&self.latest()).await)
    }

    async fn reopened(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        Arc::new(connect(&self.latest()).await)
    }

    async fn forget(&self, store: &dyn Store) -> u64 {
        compact(&self.server, store).await
    }
}

#[tokio::test]
async fn passes_the_contract() {
    contract::all(&Prefixes { server: EtcdServer::start().await, count: Mutex::default() }).await;
}

async fn connect(config: &EtcdConfig) -> Etcd {
    Etcd::connect(config).await.expect("a connection")
}

/// The bare client, for what the store does not offer.
async fn client(server: &EtcdServer) -> Client {
    Client::connect([server.endpoint()], None).await.expect("a connection")
}

/// Answers with the oldest revision that is kept.
async fn compact(server: &EtcdServer, store: &dyn Store) -> u64 {
    let revision = store.range("").await.expect("a range").revision;
    client(server).await.compact(revision.try_into().expect("small"), None).await.expect("a compaction");
    revision + 1
}

fn putting(key: &str, value: &str) -> Transaction {
    let operations = vec![Operation::Put(key.to_owned(), value.as_bytes().to_vec())];
    Transaction { operations, ..Transaction::default() }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

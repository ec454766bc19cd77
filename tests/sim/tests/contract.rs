//! The fake etcd does what the real one does, as far as the store uses it: the suite of every store, over a real
//! connection.

use async_trait::async_trait;
use bgctl_controller::store::contract::{self, Ground};
use bgctl_controller::store::etcd::{Etcd, EtcdConfig};
use bgctl_controller::store::{Reply, Store};
use bgctl_sim::etcd::FakeEtcd;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_stream::wrappers::TcpListenerStream;

/// How often leases are looked at, as etcd does twice a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Servers {
    /// By the store that was handed out.
    known: Mutex<BTreeMap<usize, (FakeEtcd, String)>>,
}

fn name(store: &dyn Store) -> usize {
    std::ptr::from_ref(store).cast::<()>().addr()
}

impl Servers {
    async fn connect(&self, etcd: FakeEtcd, endpoint: String) -> Arc<dyn Store> {
        let store = Etcd::connect(&EtcdConfig::new(vec![endpoint.clone()])).await.expect("the fake answers");
        let store: Arc<dyn Store> = Arc::new(store);
        self.known.lock().expect("no panic").insert(name(&*store), (etcd, endpoint));
        store
    }

    fn of(&self, store: &dyn Store) -> (FakeEtcd, String) {
        self.known.lock().expect("no panic")[&name(store)].clone()
    }
}

#[async_trait]
impl Ground for Servers {
    async fn fresh(&self) -> Arc<dyn Store> {
        let etcd = FakeEtcd::new(SmallRng::seed_from_u64(1));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(etcd.router().serve_with_incoming(TcpListenerStream::new(listener)));
        let (ticked, begun) = (etcd.clone(), Instant::now());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                ticked.tick(begun.elapsed());
            }
        });
        self.connect(etcd, endpoint).await
    }

    async fn reopened(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        let (etcd, endpoint) = self.of(&*store);
        drop(store);
        self.connect(etcd, endpoint).await
    }

    async fn forget(&self, store: &dyn Store) -> u64 {
        self.of(store).0.compact()
    }
}

#[tokio::test]
async fn the_fake_etcd_passes_the_suite_of_every_store() {
    contract::all(&Servers::default()).await;
}

#[tokio::test]
async fn over_its_quota_it_refuses_puts_and_leases_and_takes_deletions() {
    use bgctl_controller::store::{Operation, StoreError, Transaction};
    let servers = Servers::default();
    let store = servers.fresh().await;
    let (etcd, _) = servers.of(&*store);
    let of = |operation| Transaction { operations: vec![operation], ..Transaction::default() };
    let put = of(Operation::Put("a".to_owned(), b"1".to_vec()));
    assert!(matches!(store.transact(&put).await, Ok(Reply::Done { .. })));
    etcd.state().set_full(true);
    assert!(matches!(store.transact(&put).await, Err(StoreError::Refused { .. })));
    assert!(matches!(store.campaign("c1").await.map(drop), Err(StoreError::Refused { .. })));
    let delete = of(Operation::Delete("a".to_owned()));
    assert!(matches!(store.transact(&delete).await, Ok(Reply::Done { .. })));
}

//! Leading when etcd or the leader dies.

use super::super::super::etcd_server::EtcdServer;
use super::super::super::{Field, Guard, LEADER_KEY, Reply, Standing, Store, Transaction};
use super::super::EtcdConfig;
use super::{client, connect, putting, within};
use futures_util::FutureExt;
use std::time::{Duration, Instant};

#[tokio::test]
async fn another_leads_when_the_lease_of_the_dead_has_run_out() {
    let server = EtcdServer::start().await;
    let config = EtcdConfig { lease_ttl_seconds: 2, ..server.config() };
    let (first, second) = (connect(&config).await, connect(&config).await);
    let dead = first.campaign("one").await.expect("an election");
    let epoch = dead.epoch();
    // As if its process had been killed: nothing is renewed, and nothing given back.
    drop(dead);
    let since = Instant::now();
    let alive = within("the election of the second", second.campaign("two")).await.expect("an election");
    assert!(alive.epoch() > epoch);
    assert!(since.elapsed() > Duration::from_secs(1), "the lease counts");
    let stale = Transaction { guards: vec![leads(epoch)], ..putting("decision", "stale") };
    assert!(matches!(first.transact(&stale).await, Ok(Reply::Refused { .. })));
}

#[tokio::test]
async fn a_leader_without_etcd_is_in_doubt_and_loses_nothing_by_it() {
    let mut server = EtcdServer::start().await;
    let store = connect(&EtcdConfig { lease_ttl_seconds: 6, ..server.config() }).await;
    let mut leading = store.campaign("one").await.expect("an election");
    let mut standing = leading.standing();
    assert_eq!(*standing.borrow_and_update(), Standing::Firm);
    server.kill();
    let doubt = within("doubt", standing.wait_for(|standing| *standing != Standing::Firm)).await.expect("it is told");
    assert!(matches!(&*doubt, Standing::Doubtful(why) if why.contains("last renewed")), "{doubt:?}");
    drop(doubt);
    // etcd gives every lease its whole life again when it has a leader again.
    server.restart().await;
    within("no more doubt", standing.wait_for(|standing| *standing == Standing::Firm)).await.expect("it is told");
    assert!(leading.lost().now_or_never().is_none());
    let write = Transaction { guards: vec![leads(leading.epoch())], ..putting("decision", "commit") };
    assert!(matches!(store.transact(&write).await, Ok(Reply::Done { .. })));
}

#[tokio::test]
async fn a_leader_whose_lease_was_revoked_steps_down() {
    let server = EtcdServer::start().await;
    let store = connect(&server.config()).await;
    let mut leading = store.campaign("one").await.expect("an election");
    client(&server).await.lease_revoke(lease(&server).await).await.expect("revoked");
    let why = within("stepping down", leading.lost()).await;
    assert!(why.contains("removed") || why.contains("ran out"), "{why}");
    leading.resign().await.expect("resigning is fine");
}

#[tokio::test]
async fn a_leader_goes_on_when_etcd_is_back_in_time() {
    let mut server = EtcdServer::start().await;
    let store = connect(&EtcdConfig { lease_ttl_seconds: 9, ..server.config() }).await;
    let mut leading = store.campaign("one").await.expect("an election");
    let lease = lease(&server).await;
    server.restart().await;
    within("a renewal after the restart", renewed(&server, lease)).await;
    assert!(leading.lost().now_or_never().is_none());
    let decide = Transaction { guards: vec![leads(leading.epoch())], ..putting("decision", "commit") };
    assert!(matches!(store.transact(&decide).await, Ok(Reply::Done { .. })));
}

fn leads(epoch: u64) -> Guard {
    Guard { key: LEADER_KEY.to_owned(), field: Field::CreateRevision, equals: epoch }
}

/// The lease of the leader key.
async fn lease(server: &EtcdServer) -> i64 {
    let key = format!("{}{LEADER_KEY}", server.config().prefix);
    let found = client(server).await.get(key, None).await.expect("a range");
    found.kvs()[0].lease()
}

/// Returns when the seconds that are left of a lease have gone up.
async fn renewed(server: &EtcdServer, lease: i64) {
    let mut client = client(server).await;
    let mut least = i64::MAX;
    loop {
        let left = client.lease_time_to_live(lease, None).await.expect("an answer").ttl();
        assert!(left > 0, "the lease ran out");
        if left > least {
            return;
        }
        least = left;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

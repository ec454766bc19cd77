//! Servers that die and come back.

use super::super::super::etcd_server::EtcdServer;
use super::super::super::{
    Change, Field, Guard, Operation, Reply, Store, StoreError, Transaction, write_until_answered,
};
use super::super::EtcdConfig;
use super::{client, compact, connect, putting, within};
use futures_util::StreamExt;
use std::net::{Ipv4Addr, TcpListener};

/// Writes while the cluster loses its leader.
const WRITES: u64 = 100;

#[tokio::test]
async fn works_again_after_the_server_was_killed() {
    let mut server = EtcdServer::start().await;
    let store = connect(&server.config()).await;
    let Ok(Reply::Done { revision }) = store.transact(&putting("a", "1")).await else { panic!("not written") };
    let mut changes = store.watch("a", revision).await.expect("a watch");
    assert_eq!(within("a change", changes.next()).await.expect("it goes on").expect("a change").revision(), revision);

    server.kill();
    let lost = store.transact(&putting("a", "lost")).await;
    assert!(matches!(&lost, Err(StoreError::Unknown { detail }) if detail.contains(server.endpoint())), "{lost:?}");
    assert!(matches!(store.range("a").await, Err(StoreError::Unknown { .. })));
    server.restart().await;

    let reply = within("an answer", write_until_answered(&store, &putting("a", "2"))).await;
    assert_eq!(reply, Ok(Reply::Done { revision: revision + 1 }));
    let change = within("the change after the restart", changes.next()).await;
    let Some(Ok(Change::Put(entry))) = change else { panic!("{change:?}") };
    assert_eq!((entry.value.as_slice(), entry.mod_revision), (b"2".as_slice(), revision + 1));
}

#[tokio::test]
async fn a_watch_that_missed_what_is_compacted_says_so_and_ends() {
    let mut server = EtcdServer::start().await;
    let store = connect(&server.config()).await;
    let Ok(Reply::Done { revision }) = store.transact(&putting("a", "1")).await else { panic!("not written") };
    let mut changes = store.watch("a", revision).await.expect("a watch");
    assert!(matches!(within("a change", changes.next()).await, Some(Ok(Change::Put(_)))));
    server.restart().await;
    for value in ["2", "3"] {
        within("an answer", write_until_answered(&store, &putting("a", value))).await.expect("written");
    }
    let oldest = compact(&server, &store).await;
    let told = within("the end", changes.next()).await;
    assert_eq!(told, Some(Err(StoreError::Compacted { asked: revision + 1, oldest })));
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn a_dead_endpoint_beside_a_live_one_costs_no_answer() {
    let server = EtcdServer::start().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let dead = format!("http://{}", taken.local_addr().expect("bound"));
    drop(taken);
    let store = connect(&EtcdConfig::new(vec![dead, server.endpoint().to_owned()])).await;
    for n in 0..50 {
        let reply = store.transact(&putting("a", &n.to_string())).await;
        assert!(matches!(reply, Ok(Reply::Done { .. })), "number {n}: {reply:?}");
    }
}

#[tokio::test]
async fn each_write_lands_once_while_the_cluster_changes_its_leader() {
    let mut servers = EtcdServer::start_cluster(3).await;
    let endpoints: Vec<String> = servers.iter().map(|server| server.endpoint().to_owned()).collect();
    let store = connect(&EtcdConfig::new(endpoints)).await;
    let mut changes = store.watch("counter", 0).await.expect("a watch");
    let mut expected = 0;
    for n in 0..WRITES {
        if n == WRITES / 2 {
            leader(&mut servers).await.kill();
        }
        expected = count_up(&store, expected, n).await;
    }
    for n in 0..WRITES {
        let change = within("a change", changes.next()).await;
        let Some(Ok(Change::Put(entry))) = change else { panic!("{change:?}") };
        assert_eq!(entry.value, n.to_string().into_bytes(), "each value once, in order");
    }
    assert_eq!(store.range("counter").await.expect("a range").entries[0].mod_revision, expected);
}

/// Writes the value on top of the one before, however often it takes, and answers with its revision.
async fn count_up(store: &dyn Store, before: u64, value: u64) -> u64 {
    let transaction = Transaction {
        guards: vec![Guard { key: "counter".to_owned(), field: Field::ModRevision, equals: before }],
        operations: vec![Operation::Put("counter".to_owned(), value.to_string().into_bytes())],
        otherwise: vec!["counter".to_owned()],
    };
    match within("an answer", write_until_answered(store, &transaction)).await.expect("an answer") {
        Reply::Done { revision } => revision,
        // It had landed unseen.
        Reply::Refused { read, .. } => {
            assert_eq!(read[0].value, value.to_string().into_bytes());
            read[0].mod_revision
        }
    }
}

async fn leader(servers: &mut [EtcdServer]) -> &mut EtcdServer {
    for server in servers {
        let status = client(server).await.status().await.expect("a status");
        if status.header().expect("a header").member_id() == status.leader() {
            return server;
        }
    }
    panic!("no server leads");
}

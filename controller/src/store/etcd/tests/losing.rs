//! Answers that are lost on the wire, after etcd has written.

use super::super::super::etcd_server::EtcdServer;
use super::super::super::{
    Change, Field, Guard, LEADER_KEY, Reply, Store, StoreError, Transaction, write_until_answered,
};
use super::super::EtcdConfig;
use super::{connect, putting, within};
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Long enough to see a write by another way before its answer is through.
const ANSWERS_TAKE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_found_by_asking_again() {
    let server = EtcdServer::start().await;
    let wire = Wire::to(&server, Duration::ZERO).await;
    let store = connect(&EtcdConfig { request_timeout_milliseconds: 500, ..wire.config() }).await;
    let direct = connect(&server.config()).await;
    let decide = Transaction {
        guards: vec![Guard { key: "outcome".to_owned(), field: Field::CreateRevision, equals: 0 }],
        otherwise: vec!["outcome".to_owned()],
        ..putting("outcome", "commit")
    };
    wire.lose(true);
    let answer = store.transact(&decide).await;
    assert!(matches!(answer, Err(StoreError::Unknown { .. })), "{answer:?}");
    let landed = direct.range("outcome").await.expect("a range").entries;
    assert_eq!(landed.len(), 1, "it had landed");
    wire.lose(false);
    let reply = within("an answer", write_until_answered(&store, &decide)).await.expect("an answer");
    assert!(matches!(&reply, Reply::Refused { read, .. } if *read == landed), "{reply:?}");
}

#[tokio::test]
async fn a_candidate_who_did_not_hear_that_it_won_finds_out() {
    let server = EtcdServer::start().await;
    let wire = Wire::to(&server, ANSWERS_TAKE).await;
    let store = connect(&EtcdConfig { lease_ttl_seconds: 20, ..wire.config() }).await;
    let direct = connect(&server.config()).await;
    let mut changes = direct.watch(LEADER_KEY, 0).await.expect("a watch");
    let seen = async {
        let change = within("the leader key", changes.next()).await;
        wire.lose(true);
        within("a lost answer", wire.lost_one()).await;
        wire.lose(false);
        change
    };
    let (leading, change) = tokio::join!(within("an election", store.campaign("one")), seen);
    let Some(Ok(Change::Put(entry))) = change else { panic!("{change:?}") };
    assert_eq!(leading.expect("an election").epoch(), entry.create_revision, "elected once, by the first write");
}

/// A wire to the server that can lose what the server says.
struct Wire {
    endpoint: String,
    state: Arc<State>,
    _listening: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    losing: AtomicBool,
    lost: AtomicUsize,
}

impl Wire {
    async fn to(server: &EtcdServer, answers_take: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::<State>::default();
        let (shared, target) = (Arc::clone(&state), server.endpoint().trim_start_matches("http://").to_owned());
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&target).await.expect("the server is there");
                tokio::spawn(carry(near, far, Arc::clone(&shared), answers_take));
            }
        });
        Self { endpoint, state, _listening: AbortOnDropHandle::new(listening) }
    }

    fn config(&self) -> EtcdConfig {
        EtcdConfig::new(vec![self.endpoint.clone()])
    }

    fn lose(&self, losing: bool) {
        self.state.losing.store(losing, Ordering::SeqCst);
    }

    async fn lost_one(&self) {
        while self.state.lost.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Carries both ways until something was lost: then nothing more comes through, and both ends are hung up on when the
/// wire is whole again.
async fn carry(near: TcpStream, far: TcpStream, state: Arc<State>, answers_take: Duration) {
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let questions = tokio::io::copy(&mut near_read, &mut far_write);
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = far_read.read(&mut buffer).await {
            tokio::time::sleep(answers_take).await;
            if state.losing.load(Ordering::SeqCst) {
                state.lost.fetch_add(1, Ordering::SeqCst);
                while state.losing.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                return;
            }
            if near_write.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = questions => {}
        () = answers => {}
    }
}

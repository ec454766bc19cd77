//! Users, all the time: what was lost, what was closed, and who was answered from the wrong berth.

use super::client::Client;
use crate::berth::Berth;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs until it is stopped.
pub(crate) struct Load {
    stop: CancellationToken,
    clients: JoinSet<()>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Odd while a switch is under way.
    turn: AtomicUsize,
    requests: AtomicUsize,
    failed: AtomicUsize,
    closed: AtomicUsize,
    wrong: AtomicUsize,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Result {
    /// Not answered with 200.
    pub(crate) failed: usize,
    /// Connections that nginx closed without a word.
    pub(crate) closed: usize,
    /// Answers from a berth that was not active at any moment of the request.
    pub(crate) wrong: usize,
}

/// What is active, one after the other and then from the start again: each way from one berth to another.
const CYCLE: [Berth; 6] = [Berth::A, Berth::B, Berth::C, Berth::A, Berth::C, Berth::B];

/// What is active after so many switches.
pub(crate) fn active(switches: usize) -> Berth {
    CYCLE[switches % CYCLE.len()]
}

impl Load {
    /// `active(0)` must be active.
    pub(crate) fn start(address: SocketAddrV4, connections: usize) -> Self {
        let mut load = Self { stop: CancellationToken::new(), clients: JoinSet::new(), seen: Arc::default() };
        for _ in 0..connections {
            load.clients.spawn(user(address, load.stop.clone(), Arc::clone(&load.seen)));
        }
        load
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Called right before a switch and right after it.
    pub(crate) fn turn(&self) {
        self.seen.turn.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) async fn stop(mut self) -> Result {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        Result { failed: count(&self.seen.failed), closed: count(&self.seen.closed), wrong: count(&self.seen.wrong) }
    }
}

async fn user(address: SocketAddrV4, stop: CancellationToken, seen: Arc<Seen>) {
    let mut client = Client::connect(address).await.unwrap();
    while !stop.is_cancelled() {
        if client.is_last {
            client = Client::connect(address).await.unwrap();
        }
        if !client.is_open().await {
            seen.closed.fetch_add(1, Ordering::SeqCst);
            client = Client::connect(address).await.unwrap();
            continue;
        }
        let before = seen.turn.load(Ordering::SeqCst);
        let answer = client.post(&[("host", "users.example")]).await;
        let after = seen.turn.load(Ordering::SeqCst);
        seen.requests.fetch_add(1, Ordering::SeqCst);
        match answer {
            Ok((http::StatusCode::OK, body)) => {
                // A switch under way counts with what it comes from and with what it leads to.
                let mut allowed = (before / 2..=after.div_ceil(2)).map(active);
                if !allowed.any(|berth| body.lines().next() == Some(berth.as_str())) {
                    seen.wrong.fetch_add(1, Ordering::SeqCst);
                }
            }
            Ok(_) | Err(_) => {
                seen.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

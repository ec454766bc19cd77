//! An etcd in memory, behind its real wire protocol: what the store's client uses of it, with etcd's meaning, and with
//! the troubles etcd can have. The suite every store must pass runs against it.

mod kv;
mod lease;
pub mod state;
mod watch;

pub use state::{Applied, Change, State};

use etcd_client::proto::{PbKvServer, PbLeaseServer, PbResponseHeader, PbWatchServer};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch as signal;
use tonic::Status;
use tonic::transport::server::{Router, Server};

/// An answer that is lost stays away for longer than any client waits.
const LOST_FOR: Duration = Duration::from_secs(90);

/// A request that lands late does so when its client has given it up.
const LATE_BY: std::ops::Range<u64> = 500..8_000;

/// How often, of a thousand requests, each of these happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// The request is lost.
    pub before: u32,
    /// It is applied, and the answer is lost.
    pub after: u32,
    /// It is applied when nobody waits for it any more.
    pub late: u32,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Applied and answered.
    Well,
    /// Lost before it was applied.
    Before,
    /// Applied, and not answered.
    After,
    /// Applied after this long, and not answered.
    Late(Duration),
}

/// The cluster. Clones are the same one.
#[derive(Clone)]
pub struct FakeEtcd {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    trouble: Mutex<Trouble>,
    /// Raised with every change, and when watches have something else to look at.
    changed: signal::Sender<u64>,
}

struct Trouble {
    rates: Rates,
    chance: SmallRng,
    fates: BTreeMap<Fate, u64>,
    /// Watches say nothing.
    stalled: bool,
    /// Each time watches are cut.
    cut: u64,
}

impl FakeEtcd {
    /// An empty one.
    pub fn new(chance: SmallRng) -> Self {
        let trouble = Trouble { rates: Rates::default(), chance, fates: BTreeMap::new(), stalled: false, cut: 0 };
        let shared =
            Shared { state: Mutex::new(State::new()), trouble: Mutex::new(trouble), changed: signal::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// What it holds.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on requests fare so.
    pub fn set_rates(&self, rates: Rates) {
        self.trouble().rates = rates;
    }

    /// How many requests had each trouble: before, after, late.
    pub fn troubled(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for (fate, count) in &self.trouble().fates {
            match fate {
                Fate::Well => {}
                Fate::Before => counts[0] += count,
                Fate::After => counts[1] += count,
                Fate::Late(_) => counts[2] += count,
            }
        }
        counts
    }

    /// Watches say nothing from now on, or catch up.
    pub fn stall_watches(&self, stalled: bool) {
        self.trouble().stalled = stalled;
        self.changed();
    }

    /// Every stream of changes breaks.
    pub fn cut_watches(&self) {
        self.trouble().cut += 1;
        self.changed();
    }

    /// Forgets every change up to now.
    pub fn compact(&self) -> u64 {
        let oldest = self.state().compact();
        self.changed();
        oldest
    }

    /// Time goes on: leases that have run out are gone. Answers how many.
    pub fn tick(&self, now: Duration) -> usize {
        let gone = self.state().expire(now);
        if gone > 0 {
            self.changed();
        }
        gone
    }

    /// The leader's lease ends now, as after a restore or by an operator's hand. False: there is none.
    pub fn end_leases(&self) -> bool {
        let ended = self.state().end_leases();
        self.changed();
        ended
    }

    fn changed(&self) {
        self.shared.changed.send_modify(|count| *count += 1);
    }

    fn fate(&self) -> Fate {
        let mut trouble = self.trouble();
        let Rates { before, after, late } = trouble.rates;
        let drawn = trouble.chance.random_range(0..1000);
        let fate = if drawn < before {
            Fate::Before
        } else if drawn < before + after {
            Fate::After
        } else if drawn < before + after + late {
            Fate::Late(Duration::from_millis(trouble.chance.random_range(LATE_BY)))
        } else {
            Fate::Well
        };
        if trouble.rates != Rates::default() {
            *trouble.fates.entry(fate).or_default() += 1;
        }
        fate
    }

    /// Applies a request as its fate wants, and answers it or not.
    async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let etcd = self.clone();
        let apply = move || {
            let answer = act(&mut etcd.state());
            etcd.changed();
            answer
        };
        match self.fate() {
            Fate::Well => return apply(),
            Fate::Before => {}
            Fate::After => drop(apply()),
            Fate::Late(by) => drop(tokio::spawn(async move {
                tokio::time::sleep(by).await;
                drop(apply());
            })),
        }
        tokio::time::sleep(LOST_FOR).await;
        Err(Status::unavailable("etcdserver: request timed out"))
    }

    /// Its services, to be served on any listener.
    pub fn router(&self) -> Router {
        Server::builder()
            .add_service(PbKvServer::new(self.clone()).max_decoding_message_size(4 * 1024 * 1024))
            .add_service(PbLeaseServer::new(self.clone()))
            .add_service(PbWatchServer::new(self.clone()))
    }
}

fn header(state: &State) -> PbResponseHeader {
    PbResponseHeader { cluster_id: 1, member_id: 1, revision: state.revision(), raft_term: 1 }
}

//! Where those who ask are sent: to the leader in this process, or to wherever it is.

use crate::follower::Follower;
use crate::leader::Leader;
use crate::store::Store;
use bgctl_proto::redirect::{Elsewhere, LeaderAt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

/// A controller that has just started leads within milliseconds, or within a lease if one died before it: whoever
/// asks meanwhile is kept waiting rather than sent away.
pub const LEADER_WITHIN: Duration = Duration::from_secs(15);

/// A controller that the store has not answered for this long does not know who leads: whoever asks it is better off
/// with another one.
const BLIND_AFTER: Duration = Duration::from_secs(3);

/// How often that is looked at while somebody is kept waiting.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who could not reach the leader is kept waiting this long for another one, and is then sent there again: it may
/// have been the network.
const OTHER_WITHIN: Duration = Duration::from_secs(5);

/// The leader, if it is here, and who leads, if it is known.
#[derive(Clone)]
pub struct Seat {
    leader: watch::Receiver<Option<Arc<Leader>>>,
    store: Arc<dyn Store>,
    elsewhere: watch::Receiver<Option<LeaderAt>>,
    follower: Arc<Follower>,
}

impl Seat {
    /// Of this process.
    pub fn new(leader: watch::Receiver<Option<Arc<Leader>>>, store: Arc<dyn Store>, follower: Arc<Follower>) -> Self {
        Self { leader, store, elsewhere: follower.leader(), follower }
    }

    /// What this process knows of the store, leading or not.
    pub fn follower(&self) -> &Arc<Follower> {
        &self.follower
    }

    /// The store, to ask it how it is.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The leader, if it is here now.
    pub fn now(&self) -> Option<Arc<Leader>> {
        self.leader.borrow().clone()
    }

    /// The leader of this process; or, within the time given, a status that names another. `tried`: the epoch of
    /// one that the asking client could not reach.
    pub async fn leader(&self, tried: Option<u64>, within: Duration) -> Result<Arc<Leader>, Status> {
        let (mut here, mut elsewhere) = (self.leader.clone(), self.elsewhere.clone());
        let begun = Instant::now();
        let patient = begun + within;
        let impatient = begun + within.min(OTHER_WITHIN);
        loop {
            if let Some(leader) = here.borrow_and_update().clone() {
                return Ok(leader);
            }
            if self.follower.freshness().age.is_some_and(|age| age > BLIND_AFTER) {
                return Err(Elsewhere::Nobody.into_status());
            }
            let other = self.other(&elsewhere.borrow_and_update());
            let until = match &other {
                Some(other) if tried != Some(other.epoch) || Instant::now() >= impatient => {
                    return Err(Elsewhere::At(other.clone()).into_status());
                }
                Some(_) => impatient,
                None if Instant::now() >= patient => return Err(Elsewhere::Nobody.into_status()),
                None => patient,
            };
            let is_running = tokio::select! {
                changed = here.changed() => changed.is_ok(),
                changed = elsewhere.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)) => true,
            };
            if !is_running {
                return Err(Elsewhere::Nobody.into_status());
            }
        }
    }

    /// Who leads, if that is another one. The key still names this one when it has just been restarted, or has not
    /// taken over yet: nobody is sent from here to here.
    fn other(&self, known: &Option<LeaderAt>) -> Option<LeaderAt> {
        known.clone().filter(|leader| leader.address != self.follower.replica().address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Replica;
    use crate::store::embedded::Embedded;
    use crate::store::{LEADER_KEY, Operation, Transaction};
    use tokio_util::sync::CancellationToken;

    async fn seat_beside(leader: &str) -> (Seat, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
        let operations = vec![Operation::Put(LEADER_KEY.to_owned(), leader.as_bytes().to_vec())];
        store.transact(&Transaction { operations, ..Transaction::default() }).await.expect("written");
        let own = Replica { name: "one".to_owned(), address: "10.0.0.1:7443".to_owned() };
        let follower = Arc::new(Follower::new(own));
        let following = Arc::clone(&follower).follow(Arc::clone(&store), CancellationToken::new());
        tokio::spawn(following);
        follower.leader().wait_for(Option::is_some).await.expect("it follows");
        // Never told of a leader here; its sender stays.
        let (sender, here) = watch::channel(None);
        std::mem::forget(sender);
        (Seat::new(here, store, follower), directory)
    }

    async fn sent_to(seat: &Seat, tried: Option<u64>) -> Option<Elsewhere> {
        let status = seat.leader(tried, Duration::from_millis(200)).await.err().expect("nobody leads here");
        Elsewhere::of(&status)
    }

    #[tokio::test]
    async fn whoever_asks_is_sent_to_the_leader_also_when_it_could_not_be_reached() {
        let (seat, _directory) = seat_beside("two 10.0.0.2:7443").await;
        let Some(Elsewhere::At(leader)) = sent_to(&seat, None).await else { panic!("it is known") };
        assert_eq!(leader.address, "10.0.0.2:7443");
        let begun = Instant::now();
        assert_eq!(sent_to(&seat, Some(leader.epoch)).await, Some(Elsewhere::At(leader)));
        assert!(begun.elapsed() >= Duration::from_millis(200), "another one may lead soon");
    }

    /// The key still names a controller that was restarted: it leads when it is elected again, and not before.
    #[tokio::test]
    async fn nobody_is_sent_from_a_controller_to_itself() {
        let (seat, _directory) = seat_beside("one 10.0.0.1:7443").await;
        assert_eq!(sent_to(&seat, None).await, Some(Elsewhere::Nobody));
    }
}

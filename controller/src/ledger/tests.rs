//! Decisions on real stores: by a leader whose time is over, and in a store that is full.

use super::{Ledger, OpenError, Opening};
use crate::records::{self, AuditRecord, DeploymentRecord, Kind, ReleaseRecord, keys};
use crate::report::Phase;
use crate::store::etcd::Etcd;
use crate::store::etcd_server::EtcdServer;
use crate::store::faulty::{Faulty, Loss};
use crate::store::{Leadership, Operation, Reply, Store, StoreError, Transaction, VALUE_BYTES_MAX, embedded::Embedded};
use bgctl_proto::ambient::Machine;
use bgctl_proto::convert::hex;
use bgctl_proto::session as wire;
use cutover::coordinator::Answer;
use cutover::ids::Epoch;
use cutover::message::{Outcome, Participants};
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;

async fn led(store: &Arc<dyn Store>, name: &str) -> (Ledger, Box<dyn Leadership>) {
    let leadership = store.campaign(name).await.expect("an election");
    let epoch = Epoch(leadership.epoch());
    let ledger = Ledger::take_over(Arc::clone(store), Machine::ambient(), epoch).await.expect("taken over");
    (ledger, leadership)
}

async fn opened(ledger: &Ledger) -> Opening {
    try_open(ledger).await.expect("opened")
}

async fn try_open(ledger: &Ledger) -> Result<Opening, OpenError> {
    let content = wire::Release { service: "web".to_owned(), version: "v2".to_owned(), ..wire::Release::default() };
    let release = ReleaseRecord {
        version: "v2".to_owned(),
        digest: crate::spec::digest(&content).to_string(),
        encoded: hex(&content.encode_to_vec()),
        spec_revision: 1,
        hosts: BTreeMap::new(),
        watch_millis: 0,
        prepare_timeout_millis: 1000,
    };
    let record = DeploymentRecord {
        id: "web-1".to_owned(),
        kind: Kind::Deploy,
        services: BTreeMap::from([("web".to_owned(), release)]),
        from: BTreeMap::new(),
        participants: BTreeMap::new(),
        may_be_missing: 0,
        left_out: BTreeMap::new(),
        actor: "alice".to_owned(),
        request: "request".to_owned(),
        opened_unix_millis: 0,
    };
    ledger.open(record, None).await
}

async fn pending(store: &Arc<dyn Store>) -> usize {
    store.range("pending/").await.expect("a range").entries.len()
}

/// Nothing but the epoch stands between the one that slept and its commit: the deployment is still open.
#[tokio::test]
async fn a_leader_whose_time_is_over_decides_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
    let (slept, leadership) = led(&store, "one").await;
    let opening = opened(&slept).await;
    leadership.resign().await.expect("resigned");
    let (leads, _leadership) = led(&store, "two").await;
    let report = crate::deployment::report(&opening);

    let answer = slept.commit(&opening, &Participants::new(), &report).await;
    assert_eq!(answer, Ok(Answer::Deposed));
    let answer = slept.abort(&opening, "asleep", &report).await;
    assert_eq!(answer, Ok(Answer::Deposed));
    assert_eq!(pending(&store).await, 1, "it is still open");
    assert_eq!(leads.abort(&opening, "by the one that leads", &report).await, Ok(Answer::Done));
}

#[tokio::test]
async fn a_full_store_takes_an_abort_and_a_leader_leads_on_in_it() {
    let server = EtcdServer::start_with(&["--quota-backend-bytes=8388608"], None).await;
    let store: Arc<dyn Store> = Arc::new(Etcd::connect(&server.config()).await.expect("a connection"));
    let (ledger, leadership) = led(&store, "one").await;
    let opening = opened(&ledger).await;
    let report = crate::deployment::report(&opening);
    let large = Operation::Put("large".to_owned(), vec![b'x'; VALUE_BYTES_MAX]);
    let large = Transaction { operations: vec![large], ..Transaction::default() };
    while matches!(store.transact(&large).await, Ok(Reply::Done { .. })) {}

    let committed = ledger.commit(&opening, &Participants::new(), &report).await;
    let Err(super::LedgerError::Store(StoreError::Refused { detail })) = committed else { panic!("{committed:?}") };
    let endpoint = server.endpoint();
    for command in ["compact ", "defrag", "alarm disarm"] {
        assert!(detail.contains(&format!("etcdctl --endpoints={endpoint} {command}")), "{detail}");
    }
    // The same epoch may take over again, and finds what is open.
    assert_eq!(Ledger::mark(&*store, ledger.epoch()).await, Ok(false));
    let again = Ledger::lead_on(Arc::clone(&store), Machine::ambient(), Epoch(leadership.epoch())).await;
    let again = again.expect("taken over");
    assert_eq!(again.read(|truth| truth.pending.len()), 1);
    assert_eq!(again.abort(&opening, "full", &report).await, Ok(Answer::Done));
    assert_eq!(pending(&store).await, 0);
    // Nothing was written of it, and nothing means aborted.
    assert_eq!(store.range(&keys::outcome(&"web-1".parse().expect("an id"))).await.expect("a range").entries, []);
    let answer = ledger.commit(&opening, &Participants::new(), &report).await;
    assert!(matches!(answer, Ok(Answer::AlreadyDecided(Outcome::Abort)) | Err(_)), "{answer:?}");
    assert!(store.health().await.alarms == ["NOSPACE"], "{:?}", store.health().await);
    assert_eq!(report.phase, Phase::Preparing);
}

/// Whoever asked hears that it is open, and it goes on, instead of "refused" and a service that nothing is deployed to.
#[tokio::test]
async fn an_opening_that_landed_unseen_in_a_store_that_is_full_by_now_is_open() {
    let directory = tempfile::tempdir().expect("a directory");
    let live: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
    let faulty = Arc::new(Faulty::new(Arc::clone(&live)));
    let (ledger, _leadership) = led(&(Arc::clone(&faulty) as Arc<dyn Store>), "one").await;
    faulty.lose([Loss::AfterApplying, Loss::NoRoom]);
    let opening = opened(&ledger).await;
    assert_eq!(ledger.read(|truth| truth.pending.len()), 1);
    let report = crate::deployment::report(&opening);
    assert_eq!(ledger.abort(&opening, "full", &report).await, Ok(Answer::Done));
    assert_eq!(pending(&live).await, 0);
}

/// A reign in the history that began before what hosts heard under another would make them miss that, and follow nobody.
#[tokio::test]
async fn a_reign_that_was_not_answered_in_a_store_that_is_full_by_now_never_lands() {
    let directory = tempfile::tempdir().expect("a directory");
    let live: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
    let (before, leadership) = led(&live, "one").await;
    let reigns = |ledger: &Ledger| ledger.chronicle().expect("a history").reigns;
    leadership.resign().await.expect("resigned");
    let faulty = Arc::new(Faulty::new(Arc::clone(&live)));
    let store = Arc::clone(&faulty) as Arc<dyn Store>;

    faulty.lose([Loss::Passes, Loss::Late, Loss::NoRoom]);
    let (ledger, leadership) = led(&store, "two").await;
    assert_eq!(reigns(&ledger), reigns(&before), "it leads in the reign before");
    assert!(matches!(faulty.land_late().await[..], [Ok(Reply::Refused { .. })]), "it landed");
    ledger.outlived().await;

    // Landed, it is its reign.
    leadership.resign().await.expect("resigned");
    faulty.lose([Loss::Passes, Loss::AfterApplying, Loss::NoRoom]);
    let (ledger, leadership) = led(&store, "three").await;
    let last = reigns(&ledger).last().map(|reign| reign.epoch);
    assert_eq!(last, Some(ledger.epoch()));

    // Led on in the same epoch, no other begins, and a new epoch is wanted.
    let again = Ledger::lead_on(store, Machine::ambient(), Epoch(leadership.epoch())).await.expect("it leads");
    assert_eq!(reigns(&again), reigns(&ledger));
    again.outlived().await;
}

/// Whoever asks for the same again is not told that it was refused.
#[tokio::test]
async fn an_opening_that_may_land_yet_is_never_called_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let live: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
    let faulty = Arc::new(Faulty::new(live));
    let (ledger, _leadership) = led(&(Arc::clone(&faulty) as Arc<dyn Store>), "one").await;
    faulty.lose([Loss::Late, Loss::NoRoom, Loss::Passes, Loss::NoRoom]);
    for _ in 0..2 {
        let told = try_open(&ledger).await.err();
        let Some(OpenError::Ledger(super::LedgerError::Store(StoreError::Doubtful { .. }))) = told else {
            panic!("{told:?}")
        };
    }
    faulty.land_late().await;
    assert!(try_open(&ledger).await.is_ok(), "it landed, and is found");
}

/// Each leader counts its own entries from nought: what the ones before left is bounded all the same.
#[tokio::test]
async fn the_record_of_changes_is_bounded_over_all_leaders() {
    let directory = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
    let entries = super::AUDIT_ENTRIES_KEPT + 30;
    for chunk in (0..entries).collect::<Vec<_>>().chunks(100) {
        let put = |number: &usize| Operation::Put(keys::audit(1, *number as u64), b"{}".to_vec());
        let operations = chunk.iter().map(put).collect();
        store.transact(&Transaction { operations, ..Transaction::default() }).await.expect("written");
    }
    let (ledger, _leadership) = led(&store, "one").await;
    for _ in 0..20 {
        ledger.forget_replica("none", "alice").await.expect("written");
    }
    let kept = store.range("audit/").await.expect("a range").entries;
    assert_eq!(kept.len(), super::AUDIT_ENTRIES_KEPT);
    assert!(kept.last().is_some_and(|entry| entry.key == keys::audit(ledger.epoch().0, 19)), "the newest stay");
}

/// What was done on a host without asking is heard of later, and recorded with who did it.
#[tokio::test]
async fn what_is_noted_is_in_the_record_of_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
    let (ledger, _leadership) = led(&store, "one").await;
    let action = "web on h2 switched by hand to green (v1)";
    ledger.note("uid 0 on h2", action.to_owned()).await.expect("noted");
    let audit = store.range("audit/").await.expect("a range");
    let entries = audit.entries.iter().map(|entry| records::read::<AuditRecord>(&entry.key, &entry.value));
    let entries: Vec<_> = entries.collect::<Result<_, _>>().expect("entries");
    assert!(entries.iter().any(|entry| (entry.actor.as_str(), entry.action.as_str()) == ("uid 0 on h2", action)));
    assert_eq!(ledger.read(|truth| truth.revision), audit.revision, "the leader's memory is behind the store");
}

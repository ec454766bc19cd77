//! A leader in front of a store whose reads are one committed deployment old: it tells and decides what is committed.

use super::*;
use crate::fleet::HostStatus;
use crate::ledger::{Life, OpenError};
use crate::records::{DeploymentRecord, ReleaseRecord, keys};
use crate::store::embedded::Embedded;
use crate::store::faulty::{Faulty, Loss};
use crate::store::stale::Stale;
use crate::store::{Operation, Transaction};
use bgctl_proto::ambient::Machine;
use bgctl_proto::convert::hex;
use bgctl_proto::session as wire;
use bgctl_proto::session::controller_message::Kind as Told;
use cutover::coordinator::Answer;
use cutover::ids::{HostId, Incarnation};
use cutover::message::{Outcome, Participants};
use prost::Message as _;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Reads that are old, one after the other, before the store tells the truth again.
const OLD_READS: usize = 3;

/// For what comes within milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

const LIFE: Incarnation = Incarnation(7);

fn host() -> HostId {
    "h1".parse().expect("a name")
}

/// A store whose reads can be old, and the one behind it.
async fn stores() -> (Arc<Stale>, Arc<dyn Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let live: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join("store")).await.expect("a store"));
    (Arc::new(Stale::new(Arc::clone(&live))), live, directory)
}

async fn led(store: Arc<dyn Store>, leadership: &dyn Leadership) -> Result<Ledger, LedgerError> {
    Ledger::take_over(store, Machine::ambient(), Epoch(leadership.epoch())).await
}

async fn opened(ledger: &Ledger, version: &str) -> Opening {
    try_open(ledger, version).await.expect("opened")
}

async fn try_open(ledger: &Ledger, version: &str) -> Result<Opening, OpenError> {
    let content = wire::Release { service: "web".to_owned(), version: version.to_owned(), ..wire::Release::default() };
    let release = ReleaseRecord {
        version: version.to_owned(),
        digest: crate::spec::digest(&content).to_string(),
        encoded: hex(&content.encode_to_vec()),
        spec_revision: 1,
        hosts: BTreeMap::new(),
        watch_millis: 0,
        prepare_timeout_millis: 1000,
    };
    let record = DeploymentRecord {
        id: format!("web-{version}"),
        kind: Kind::Deploy,
        services: BTreeMap::from([("web".to_owned(), release)]),
        from: BTreeMap::new(),
        participants: BTreeMap::from([(host().to_string(), LIFE.to_string())]),
        may_be_missing: 0,
        left_out: BTreeMap::new(),
        actor: "alice".to_owned(),
        request: format!("request {version}"),
        opened_unix_millis: ledger.ambient().unix_millis(),
    };
    let service = "web".parse().expect("a name");
    let planned_on = ledger.read(|truth| truth.services.get(&service).map(|(record, _)| Generation(record.generation)));
    ledger.open(record, planned_on).await
}

async fn commit(ledger: &Ledger, opening: &Opening) -> Result<Answer, LedgerError> {
    ledger.commit(opening, &Participants::from([(host(), LIFE)]), &deployment::report(opening)).await
}

/// A leader before: v1 committed, v2 open. It leads on.
async fn reign_before(live: &Arc<dyn Store>) -> (Ledger, Opening, Box<dyn Leadership>) {
    let leadership = live.campaign("one").await.expect("an election");
    let ledger = led(Arc::clone(live), &*leadership).await.expect("taken over");
    let life = Life { incarnation: LIFE, machine: String::new(), labels: BTreeMap::new() };
    ledger.register(&host(), &life).await.expect("registered");
    let first = opened(&ledger, "v1").await;
    assert_eq!(commit(&ledger, &first).await, Ok(Answer::Done));
    let second = opened(&ledger, "v2").await;
    (ledger, second, leadership)
}

/// What the leader tells a host that links itself.
fn told(leader: &Leader) -> wire::State {
    let (outbox, mut messages) = mpsc::channel(16);
    let status = HostStatus { incarnation: Some(LIFE), ..HostStatus::default() };
    leader.fleet.connected(&host(), status, outbox, CancellationToken::new().drop_guard());
    leader.fleet.tell_state(&leader.ledger, &host());
    let message = messages.try_recv().expect("a message").expect("no end of the stream");
    let Some(Told::State(state)) = message.kind else { panic!("not its state: {message:?}") };
    state
}

#[tokio::test]
async fn a_new_leader_tells_and_decides_what_is_committed_though_its_reads_are_old() {
    let (stale, live, _directory) = stores().await;
    let (before, second, leadership) = reign_before(&live).await;
    stale.freeze(OLD_READS).await;
    assert_eq!(commit(&before, &second).await, Ok(Answer::Done));
    let first_epoch = leadership.epoch();
    leadership.resign().await.expect("resigned");

    let (sender, mut seat) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let store = Arc::clone(&stale) as Arc<dyn Store>;
    let leading = tokio::spawn(keep_leading(store, Machine::ambient(), "two".to_owned(), sender, shutdown.clone()));
    let leads = tokio::time::timeout(LIMIT, seat.wait_for(Option::is_some)).await.expect("in time");
    let leader = leads.expect("it runs").clone().expect("a leader");
    assert_ne!(stale.told(), 0, "no read was old, and nothing is shown");

    // It tells the host what is committed, and that nothing is open.
    let state = told(&leader);
    let services: Vec<_> =
        state.services.iter().map(|service| (service.generation, service.pending.as_str())).collect();
    assert_eq!(services, [(second.generation.0, "")]);
    let release = state.services[0].committed.as_ref().and_then(|committed| committed.release.as_ref());
    assert_eq!(release.map(|release| release.version.as_str()), Some("v2"));

    // It sees the commit through, and does not prepare it again.
    let id = "web-v2".parse().expect("an id");
    let story = leader.board.story(&id).expect("it goes on with it");
    assert!(!matches!(story.report().phase, Phase::Preparing | Phase::Deciding), "{:?}", story.report());

    // Its own decisions rest on it: v2 is the first way back.
    let third = opened(&leader.ledger, "v3").await;
    assert_eq!(commit(&leader.ledger, &third).await, Ok(Answer::Done));
    let entries = live.range(&keys::service(&"web".parse().expect("a name"))).await.expect("a range").entries;
    let record: crate::records::ServiceRecord = records::read("svc/web", &entries[0].value).expect("a record");
    let back: Vec<_> = record.previous.iter().map(|way| way.version.as_str()).collect();
    assert_eq!((record.release.version.as_str(), back), ("v3", vec!["v2", "v1"]));

    // And the history it continues has the leader before in it.
    let reigns = leader.ledger.chronicle().expect("a history").reigns;
    let epochs: Vec<_> = reigns.iter().map(|reign| reign.epoch.0).collect();
    assert_eq!(epochs, [first_epoch, leader.ledger.epoch().0]);
    drop((leader, seat));
    shutdown.cancel();
    leading.await.expect("it ends");
}

#[tokio::test]
async fn nobody_leads_by_reads_that_stay_old() {
    let (stale, live, _directory) = stores().await;
    let (before, second, leadership) = reign_before(&live).await;
    stale.freeze(usize::MAX).await;
    assert_eq!(commit(&before, &second).await, Ok(Answer::Done));
    let chronicle = live.range(keys::CHRONICLE).await.expect("a range").entries;
    leadership.resign().await.expect("resigned");

    let leadership = live.campaign("two").await.expect("an election");
    let refused = led(stale.clone(), &*leadership).await.err().expect("it leads by what is old");
    assert!(matches!(&refused, LedgerError::Store(StoreError::Unknown { .. })), "{refused:?}");
    assert!(refused.to_string().contains("upgrade"), "{refused}");
    assert_eq!(live.range(keys::CHRONICLE).await.expect("a range").entries, chronicle, "it wrote what it had read");
    stale.freeze(0).await;
    let ledger = led(stale, &*leadership).await.expect("it leads by what is new");
    assert_eq!(ledger.read(|truth| truth.pending.len()), 0);
}

/// Somebody may have written, or may write yet, what the leader does not know of: it does not lead on with less than
/// the store holds, and what comes late finds another epoch.
#[tokio::test]
async fn a_leader_that_may_not_know_all_of_its_writes_stands_again() {
    let (_, live, _directory) = stores().await;
    let faulty = Arc::new(Faulty::new(Arc::clone(&live)));
    let (sender, mut seat) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let store = Arc::clone(&faulty) as Arc<dyn Store>;
    let leading = tokio::spawn(keep_leading(store, Machine::ambient(), "one".to_owned(), sender, shutdown.clone()));
    let mut leader_after = async |epoch: u64| {
        let later =
            |leader: &Option<Arc<Leader>>| leader.as_ref().is_some_and(|leader| leader.ledger.epoch().0 > epoch);
        let leads = tokio::time::timeout(LIMIT, seat.wait_for(later)).await.expect("in time");
        leads.expect("it runs").clone().expect("a leader")
    };

    // The store takes it later, as far as anybody knows.
    let first = leader_after(0).await;
    faulty.lose([Loss::Late, Loss::NoRoom]);
    let noted = first.ledger.note("alice", "something".to_owned()).await;
    assert!(matches!(noted, Err(LedgerError::Store(StoreError::Doubtful { .. }))), "{noted:?}");
    let second = leader_after(first.ledger.epoch().0).await;
    assert!(matches!(faulty.land_late().await[..], [Ok(crate::store::Reply::Refused { .. })]), "it landed");

    // Something that this leader did not write refuses it.
    let request = Operation::Put(keys::request("request v1"), b"web-v1".to_vec());
    live.transact(&Transaction { operations: vec![request], ..Transaction::default() }).await.expect("written");
    let refused = try_open(&second.ledger, "v1").await.err();
    assert!(matches!(refused, Some(OpenError::Ledger(LedgerError::Deposed))), "{refused:?}");
    let third = leader_after(second.ledger.epoch().0).await;
    let refused = try_open(&third.ledger, "v1").await.err();
    assert!(matches!(refused, Some(OpenError::Repeated(_))), "{refused:?}");
    drop((first, second, third));
    shutdown.cancel();
    leading.await.expect("it ends");
}

/// The answer to a commit is lost, and what is read when it is asked again is older than the commit.
#[tokio::test]
async fn a_decision_that_landed_unseen_is_not_forgotten_by_an_old_read() {
    let (stale, live, _directory) = stores().await;
    let (before, _, leadership) = reign_before(&live).await;
    drop(before);
    let faulty = Arc::new(Faulty::new(stale.clone()));
    let ledger = led(faulty.clone(), &*leadership).await.expect("taken over");
    let record = ledger.read(|truth| truth.deployments.values().find(|record| record.id == "web-v2").cloned());
    let generation = ledger.read(|truth| truth.pending.values().next().map(|pending| pending.generation));
    let second = Opening { record: record.expect("it is open"), generation: generation.expect("it is open") };

    stale.freeze(OLD_READS).await;
    faulty.lose([Loss::AfterApplying]);
    assert_eq!(commit(&ledger, &second).await, Ok(Answer::Unknown));
    assert_eq!(commit(&ledger, &second).await, Ok(Answer::AlreadyDecided(Outcome::Commit)));
    assert_ne!(stale.told(), 0, "no read was old, and nothing is shown");
    let known = ledger.read(|truth| {
        let services = truth.services.values().map(|(record, _)| record.release.version.clone());
        (services.collect::<Vec<_>>(), truth.pending.len())
    });
    assert_eq!(known, (vec!["v2".to_owned()], 0));
}

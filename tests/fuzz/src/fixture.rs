//! A controller in the middle of its work: two hosts, one service that is committed and one that never was, a
//! deployment that is open, and some history. And that controller, leading.

use crate::shelf::Shelf;
use bgctl_controller::fleet::HostStatus;
use bgctl_controller::follower::Follower;
use bgctl_controller::leader::{Leader, keep_leading};
use bgctl_controller::records::{self, DeploymentRecord, HostRecord, Kind, OutcomeRecord, ReleaseRecord};
use bgctl_controller::records::{AuditRecord, ReplicaRecord, ServiceRecord, SpecRecord, keys};
use bgctl_controller::replica::Replica;
use bgctl_controller::report::{HostPhase, HostReport, Phase, Report, Summary};
use bgctl_controller::seat::Seat;
use bgctl_controller::spec::{self, ImagePin, Spec, Version};
use bgctl_proto::ambient::Machine;
use bgctl_proto::convert::hex;
use bgctl_proto::session as wire;
use cutover::ids::{Generation, HostId, Incarnation};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A spec as people write it.
pub const SPEC: &str = include_str!("../../../controller/src/spec/cases/base.yaml");

/// Of an image that never was in a registry.
pub const IMAGE_ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What is committed.
pub const COMMITTED: &str = "web-00000001";

/// What is open.
pub const OPEN: &str = "web-00000002";

/// The controller itself, as the leader key has it.
const REPLICA: &str = "main 127.0.0.1:7443";

/// The hosts, with their lives.
pub const HOSTS: [(&str, Incarnation); 2] = [("host-1", Incarnation(0x0a)), ("host-2", Incarnation(0x0b))];

/// Every image of a spec, made exact.
pub fn pins(spec: &Spec, version: &Version) -> BTreeMap<String, ImagePin> {
    let pin = |image: spec::ImageReference| (image.reference, ImagePin::ImageId(IMAGE_ID.to_owned()));
    spec.image_references(version).into_iter().map(pin).collect()
}

/// The release of a version of the fixture's spec.
pub fn release(version: &str) -> wire::Release {
    let spec = Spec::parse(SPEC, "web.yaml").expect("the fixture is a spec");
    let version = version.parse().expect("a version");
    spec.release(&version, &pins(&spec, &version)).expect("every image is exact")
}

fn release_record(version: &str) -> ReleaseRecord {
    let release = release(version);
    ReleaseRecord {
        version: version.to_owned(),
        digest: spec::digest(&release).to_string(),
        encoded: hex(&release.encode_to_vec()),
        spec_revision: 1,
        hosts: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
        watch_millis: 10_000,
        prepare_timeout_millis: 300_000,
    }
}

fn deployment(id: &str, version: &str, from: &str) -> DeploymentRecord {
    DeploymentRecord {
        id: id.to_owned(),
        kind: Kind::Deploy,
        services: BTreeMap::from([("web".to_owned(), release_record(version))]),
        from: BTreeMap::from([("web".to_owned(), from.to_owned())]),
        participants: HOSTS.iter().map(|(host, life)| ((*host).to_owned(), life.to_string())).collect(),
        may_be_missing: 1,
        left_out: BTreeMap::from([("host-3".to_owned(), "away".to_owned())]),
        actor: "alice".to_owned(),
        request: format!("request-{version}"),
        // Later than any clock: it never comes to its deadline by itself.
        opened_unix_millis: u64::MAX,
    }
}

fn report(id: &str, generation: u64) -> Report {
    let part = HostReport { phase: HostPhase::Switched, colour: "green".to_owned(), ..HostReport::default() };
    Report {
        id: id.to_owned(),
        generation,
        service: "web".to_owned(),
        kind: Kind::Deploy,
        version: "1".to_owned(),
        from_version: "0".to_owned(),
        phase: Phase::Switching,
        reason: String::new(),
        actor: "alice".to_owned(),
        started_unix_millis: 1,
        elapsed_micros: 2,
        rolled_back_by: String::new(),
        summary: Some(Summary::default()),
        hosts: HOSTS.iter().map(|(host, _)| ((*host).to_owned(), part.clone())).collect(),
    }
}

/// The store of such a controller: one value of each kind at least, as it writes them.
pub fn shelf() -> Shelf {
    let shelf = Shelf::default();
    let name = |text: &str| text.parse().expect("a service");
    let id = |text: &str| text.parse().expect("a deployment");
    let replica = ReplicaRecord { address: "127.0.0.1:7443".to_owned(), version: "0.1.0".to_owned() };
    shelf.put(&keys::replica("main"), records::write(&replica));
    shelf.put(keys::MEMBERS, b"host-2".to_vec());
    for (host, life) in HOSTS {
        let labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
        let record = HostRecord { incarnation: life.to_string(), labels, since_unix_millis: 1, machine: String::new() };
        shelf.put(&keys::agent(&host.parse().expect("a host")), records::write(&record));
    }
    for (service, text) in [("web", SPEC.to_owned()), ("api", SPEC.replace("service: web", "service: api"))] {
        let (actor, file_name) = ("alice".to_owned(), format!("{service}.yaml"));
        let record = SpecRecord { revision: 1, text, file_name, actor, at_unix_millis: 1 };
        shelf.put(&keys::spec(&name(service)), records::write(&record));
    }
    shelf.put(&keys::deployment(&id(COMMITTED)), records::write(&deployment(COMMITTED, "1", "0")));
    shelf.put(&keys::request("request-1"), COMMITTED.into());
    let generation = shelf.all().revision;
    let service = ServiceRecord {
        generation,
        deployment: COMMITTED.to_owned(),
        colour: "blue".to_owned(),
        release: release_record("1"),
        previous: vec![release_record("0")],
    };
    shelf.put(&keys::service(&name("web")), records::write(&service));
    let outcome = OutcomeRecord {
        outcome: "commit".to_owned(),
        epoch: 1,
        reason: String::new(),
        participants: HOSTS.iter().map(|(host, life)| ((*host).to_owned(), life.to_string())).collect(),
    };
    shelf.put(&keys::outcome(&id(COMMITTED)), records::write(&outcome));
    let history = keys::history(&name("web"), Generation(generation));
    shelf.put(&history, records::write(&report(COMMITTED, generation)));
    let audit = AuditRecord { actor: "alice".to_owned(), action: "open".to_owned(), at_unix_millis: 1 };
    shelf.put(&keys::audit(1, 0), records::write(&audit));
    shelf.put(&keys::deployment(&id(OPEN)), records::write(&deployment(OPEN, "2", "1")));
    shelf.put(&keys::request("request-2"), OPEN.into());
    shelf.put(&keys::pending(&name("web")), OPEN.into());
    shelf
}

/// The controller, and what is needed to see it end.
pub struct Lead {
    /// None: it does not lead, because it cannot read its store.
    pub leader: Option<Arc<Leader>>,
    /// Where its services find the leader.
    pub seat: Seat,
    shutdown: CancellationToken,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

/// Runs `work` on a clock that stands still until everybody waits, and then jumps.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime takes no resources but memory").block_on(work)
}

/// Lets everything that can go on do so, without letting time pass.
pub async fn let_all_run() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

impl Lead {
    /// On this store.
    pub async fn on(shelf: &Shelf) -> Self {
        let (sender, leader) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let store = Arc::new(shelf.clone());
        let replica: Replica = REPLICA.parse().expect("a replica");
        let follower = Arc::new(Follower::new(replica));
        let following = tokio::spawn(Arc::clone(&follower).follow(store.clone(), shutdown.clone()));
        let seat = Seat::new(leader, store.clone(), follower);
        let leading =
            tokio::spawn(keep_leading(store, Machine::ambient(), REPLICA.to_owned(), sender, shutdown.clone()));
        let_all_run().await;
        Self { leader: seat.now(), seat, shutdown, tasks: [leading, following] }
    }

    /// Ends it as a controller ends. Panics if one of its tasks did.
    pub async fn end(self) {
        self.shutdown.cancel();
        drop((self.leader, self.seat));
        for task in self.tasks {
            task.await.expect("a loop ends when it is told to, and not before");
        }
    }
}

/// Links a host to a leader. What is sent to it comes out of the receiver.
pub fn link(
    leader: &Leader,
    host: &HostId,
    life: Incarnation,
) -> mpsc::Receiver<Result<wire::ControllerMessage, tonic::Status>> {
    let (outbox, messages) = mpsc::channel(256);
    let status = HostStatus { incarnation: Some(life), ..HostStatus::default() };
    leader.fleet.connected(host, status, outbox, CancellationToken::new().drop_guard());
    leader.fleet.tell_state(&leader.ledger, host);
    messages
}

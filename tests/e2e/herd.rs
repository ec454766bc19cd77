//! A thousand agents and one controller that dies. What links them is the agent's own: its mTLS link, its pauses, its
//! hello. They have no host behind them and are all in this process; the controller is the real one.

use bgctl_agent::docker::Network;
use bgctl_agent::docker::fake::FakeEngine;
use bgctl_agent::executor::drain::KernelTraffic;
use bgctl_agent::journal::RealDisk;
use bgctl_agent::memory::{Introduction, Memory};
use bgctl_agent::nginx::fake::FakeProxy;
use bgctl_agent::session::{FromLink, Told, Versions, keep_linked};
use bgctl_agent::{Settings, World};
use bgctl_controller::identity::{self, HOST_FILES};
use bgctl_proto::ambient::Machine;
use bgctl_proto::link::{Identity, TcpDial};
use bgctl_proto::session::Images;
use bgctl_tests::fleet::{Fleet, FleetOptions};
use cutover::ids::{HostId, Incarnation};
use cutover::message::Hello;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Agents of this process; the fleet's one real agent comes back among them.
const AGENTS: usize = 1000;
/// For all of them, on two processors that others use too. An agent's longest pause is 10 s.
const LINKED_WITHIN: Duration = Duration::from_secs(120);
/// An operator who asks while they come back, and asks again if `bgctl` gives up: it does after 5 s without a handshake,
/// and here a thousand others want theirs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at what the agents have heard.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// `bgctl`: no controller answered.
const UNREACHABLE: i32 = 5;
/// Open files that the controller may have when it starts, fewer than it needs here: shells, with their 1024, are like
/// that for a fleet a little larger.
const FILES_AT_FIRST: u64 = 512;
/// What this process needs: a socket an agent, and as many again.
const FILES: u64 = 2 * AGENTS as u64;
/// Certificates made at one time.
const ISSUED_AT_ONCE: usize = 16;
/// Messages between an agent's link and whoever reads it.
const MESSAGES: usize = 16;

/// What the agents have seen.
#[derive(Default)]
struct Seen {
    /// Of each agent, the leader whose state it heard last; 0 while it has no stream.
    epochs: Vec<AtomicU64>,
    /// Streams that did not come up, or ended.
    downs: AtomicUsize,
}

impl Seen {
    /// Agents that a later leader than this has told what to serve.
    fn linked_after(&self, epoch: u64) -> usize {
        self.epochs.iter().filter(|last| last.load(Ordering::Relaxed) > epoch).count()
    }
}

/// How many files this process, and what it starts, may open: as many as it is allowed to, or fewer.
fn limit_files(wanted: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = wanted.or(maximum);
    assert!(current.is_none_or(|files| maximum.is_none_or(|most| files <= most)), "`ulimit -Hn` is {maximum:?}");
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("within the hard limit");
}

/// An identity of the fleet's own CA.
fn settled(fleet: &Fleet, folder: &Path, number: usize) -> (Settings, World) {
    let host: HostId = format!("herd-{number}").parse().expect("a name");
    let folder = folder.join(host.as_str());
    let labels = BTreeMap::from([("role".to_owned(), "herd".to_owned())]);
    identity::issue_host(&fleet.plan().dir.join("identity"), &host, &labels, &folder).expect("a certificate");
    let file = |name| folder.join(name);
    let identity = Identity::load(&file(identity::AUTHORITY_CERTIFICATE), &file(HOST_FILES.0), &file(HOST_FILES.1));
    let engine = Arc::new(FakeEngine::new());
    let world = World {
        engine: engine.clone(),
        proxy: Arc::new(FakeProxy::default()),
        prober: engine,
        disk: Arc::new(RealDisk),
        traffic: Arc::new(KernelTraffic),
        ambient: Machine::ambient(),
        dial: Arc::new(TcpDial),
        tls: identity.expect("an identity").client_config().expect("a config"),
    };
    let settings = Settings {
        host,
        controllers: vec![fleet.plan().controllers()],
        journal: folder.join("journal"),
        network: Network { name: "none".to_owned(), subnet: "10.255.0.0/24".parse().expect("a subnet") },
        machine: format!("machine-{number}"),
        socket: None,
        boot: String::new(),
    };
    (settings, world)
}

/// All of them. Each is flushed to the disk, so that many at once take a fraction of the time.
fn settle_all(fleet: &Fleet, folder: &Path) -> Vec<(Settings, World)> {
    let numbers: Vec<_> = (0..AGENTS).collect();
    std::thread::scope(|scope| {
        let some = numbers.chunks(AGENTS.div_ceil(ISSUED_AT_ONCE)).map(|some| {
            scope.spawn(move || some.iter().map(|number| settled(fleet, folder, *number)).collect::<Vec<_>>())
        });
        let some: Vec<_> = some.collect();
        some.into_iter().flat_map(|some| some.join().expect("certificates")).collect()
    })
}

/// One agent: linked, and linked again, until `shutdown`. It remembers what a host's disk would.
async fn agent(number: usize, (settings, world): (Settings, World), seen: Arc<Seen>, shutdown: CancellationToken) {
    let machine = settings.machine.clone();
    let incarnation = Incarnation(rand::random());
    let mut memory = Memory::default();
    let (sender, mut link) = mpsc::channel(MESSAGES);
    let linking = tokio::spawn(keep_linked(settings, world, sender, shutdown));
    let mut way_out = None;
    while let Some(event) = link.recv().await {
        match event {
            FromLink::Up { outbox, .. } => {
                let mark_before = memory.mark;
                memory = memory.after_hello(rand::random());
                let hello = Hello { incarnation, applied: BTreeMap::new(), prepared: BTreeMap::new() };
                let introduction = Introduction { memory, mark_before, is_kept: true, machine: machine.clone() };
                outbox.hello(hello, &Versions::default(), introduction);
                way_out = Some(outbox);
            }
            FromLink::Told(Told::Chronicle(chronicle)) => memory = memory.after_hearing(&chronicle, chronicle.revision),
            FromLink::Told(Told::State { message, .. }) => {
                seen.epochs[number].store(message.epoch.0, Ordering::Relaxed);
            }
            FromLink::Told(Told::FindImages(find)) => {
                let images = Images { request: find.request, images: Vec::new() };
                way_out.iter().for_each(|outbox| outbox.images(images.clone()));
            }
            FromLink::Told(Told::Prepare { message, .. }) => panic!("nothing is deployed: {message:?}"),
            FromLink::Down(_) => {
                seen.epochs[number].store(0, Ordering::Relaxed);
                seen.downs.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    linking.await.expect("no panic");
}

/// What an operator saw while the agents came.
#[derive(Debug, Default)]
struct Watched {
    answers: usize,
    unanswered: usize,
    slowest: Duration,
}

/// Asks `bgctl hosts` until it says that all are linked; it must answer all the time.
async fn until_all_are_linked(fleet: &Fleet, begun: Instant) -> Watched {
    let mut watched = Watched::default();
    let mut asked = Instant::now();
    loop {
        let ran = fleet.bgctl(&["hosts", "--json"]).await.expect("bgctl");
        let waited = asked.elapsed();
        watched.slowest = watched.slowest.max(waited);
        assert!(waited < ANSWERED_WITHIN, "an operator waited for {waited:?}: {}", ran.short());
        if ran.code == Some(UNREACHABLE) {
            watched.unanswered += 1;
            continue;
        }
        asked = Instant::now();
        watched.answers += 1;
        let answer = ran.success().expect("an answer").json().expect("a document");
        let hosts = answer["hosts"].as_array().expect("a list");
        let linked = hosts.iter().filter(|host| host["connected"] == true).count();
        if linked == AGENTS + fleet.hosts().len() {
            assert_eq!(hosts.len(), linked, "nobody else is known");
            return watched;
        }
        assert!(begun.elapsed() < LINKED_WITHIN, "{linked} are linked after {LINKED_WITHIN:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_agents_come_back_at_once() {
    let started = Instant::now();
    limit_files(Some(FILES_AT_FIRST));
    let fleet = Fleet::up(FleetOptions { hosts: 1, version: None, ..FleetOptions::default() }).await.expect("a fleet");
    limit_files(None);
    assert!(getrlimit(Resource::Nofile).current.is_none_or(|files| files >= FILES), "raise `ulimit -Hn` to {FILES}");
    eprintln!("a fleet: {:?}", started.elapsed());
    let begun = Instant::now();
    let folder = fleet.plan().dir.join("herd");
    let settled = settle_all(&fleet, &folder);
    eprintln!("{AGENTS} certificates: {:?}", begun.elapsed());

    let epochs = (0..AGENTS).map(|_| AtomicU64::new(0)).collect();
    let seen = Arc::new(Seen { epochs, ..Seen::default() });
    let shutdown = CancellationToken::new();
    let begun = Instant::now();
    let each = settled.into_iter().enumerate();
    let agents: Vec<_> =
        each.map(|(number, parts)| tokio::spawn(agent(number, parts, Arc::clone(&seen), shutdown.clone()))).collect();
    let watched = until_all_are_linked(&fleet, begun).await;
    let controller = fleet.process("controller").expect("it runs");
    let resident = controller.resident_bytes().expect("it runs") >> 20;
    let failed = seen.downs.swap(0, Ordering::Relaxed);
    let took = begun.elapsed();
    eprintln!(
        "{AGENTS} agents came for the first time in {took:?}, {failed} attempts failed; {watched:?}; {resident} MiB"
    );
    let before = seen.epochs.iter().map(|epoch| epoch.load(Ordering::Relaxed)).max().expect("there are some");

    let begun = Instant::now();
    let killed = fleet.kill_controller().await.expect("it runs");
    assert_eq!(killed, controller, "it died before");
    let restarted = fleet.wait_restarted("controller", killed, LINKED_WITHIN).await.expect("a restart");
    let watched = until_all_are_linked(&fleet, begun).await;
    let took = begun.elapsed();
    let resident = restarted.resident_bytes().expect("it did not die again") >> 20;
    let failed = seen.downs.load(Ordering::Relaxed);
    eprintln!(
        "killed, and all were linked again after {took:?}, {failed} attempts failed; {watched:?}; {resident} MiB"
    );
    // The controller knows of a link a moment before the agent has its first words.
    while seen.linked_after(before) < AGENTS {
        assert!(begun.elapsed() < LINKED_WITHIN, "{} were told by the next leader", seen.linked_after(before));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    assert_eq!(fleet.process("controller"), Some(restarted), "it died again");

    shutdown.cancel();
    for agent in agents {
        agent.await.expect("no panic");
    }
    eprintln!("all of it but the end: {:?}", started.elapsed());
    fleet.down().await.expect("nothing left");
}

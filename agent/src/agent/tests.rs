//! The whole agent beside fakes, on tokio's clock.

mod lost_track;

use super::run;
use crate::berth::Berth;
use crate::docker::fake::{Behaviour, FakeEngine};
use crate::docker::{CreateRequest, Engine, Labels, Network, Subnet};
use crate::executor::drain::Traffic;
use crate::journal::{Journal, RealDisk};
use crate::nginx::fake::{Call, FakeProxy};
use crate::nginx::{Flag, Flags, ProxyError};
use crate::release::Release;
use crate::retired::{Clocks, Retired};
use crate::state::{HostState, Standing, Written};
use crate::world::{Settings, World};
use async_trait::async_trait;
use bgctl_proto::ambient::Ambient;
use bgctl_proto::link::{Dial, Io};
use bgctl_proto::session as wire;
use cutover::Incarnation;
use cutover::ids::{Colour, Generation, HostId, Revision};
use cutover::message::Slot;
use cutover::participant::Prepared;
use prost::Message;
use std::io;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const DRAIN: Duration = Duration::from_secs(90);
const MIDDAY: Duration = Duration::from_secs(1_800_000_000);

/// The clock on the wall is tokio's.
struct Clock(Instant);

impl Ambient for Clock {
    fn since_1970(&self) -> Duration {
        MIDDAY + self.0.elapsed()
    }
    fn since_boot(&self) -> Duration {
        self.0.elapsed()
    }
    fn random(&self) -> u128 {
        7
    }
}

/// There is no controller.
struct Nobody;

#[async_trait]
impl Dial for Nobody {
    async fn dial(&self, _: &str) -> io::Result<Box<dyn Io>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// Somebody always talks: every drain takes its whole time.
#[derive(Default)]
struct Busy(Mutex<Vec<Duration>>);

#[async_trait]
impl Traffic for Busy {
    async fn drained(&self, _: &[SocketAddrV4], at_most: Duration) {
        self.0.lock().expect("nobody panics").push(at_most);
        tokio::time::sleep(at_most).await;
    }
}

struct Host {
    dir: tempfile::TempDir,
    engine: FakeEngine,
    proxy: FakeProxy,
    clock: Arc<Clock>,
    traffic: Arc<Busy>,
}

impl Host {
    fn new() -> Self {
        let clock = Arc::new(Clock(Instant::now()));
        let dir = tempfile::tempdir().expect("a folder");
        let (engine, proxy) = (FakeEngine::new(), FakeProxy::new(Default::default()));
        Self { dir, engine, proxy, clock, traffic: Arc::default() }
    }

    fn settings(&self) -> Settings {
        Settings {
            host: "h1".parse().expect("a name"),
            controllers: vec!["127.0.0.1:1".to_owned()],
            journal: self.dir.path().join("journal"),
            network: Network { name: "bgctl".to_owned(), subnet: subnet() },
            machine: String::new(),
            socket: None,
            boot: "one".to_owned(),
        }
    }

    fn world(&self) -> World {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("its own").with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        World {
            engine: Arc::new(self.engine.clone()),
            proxy: Arc::new(self.proxy.clone()),
            prober: Arc::new(self.engine.clone()),
            disk: Arc::new(RealDisk),
            traffic: Arc::clone(&self.traffic) as Arc<dyn Traffic>,
            ambient: Arc::clone(&self.clock) as Arc<dyn Ambient>,
            dial: Arc::new(Nobody),
            tls: Arc::new(tls),
        }
    }

    fn release(&self, version: &str) -> Release {
        let behaviour = Behaviour { healthy_after: Some(Duration::ZERO), ..Behaviour::default() };
        let pin = self.engine.load_image(version, behaviour).reference().to_owned();
        let healthcheck = wire::Healthcheck { kind: Some(wire::healthcheck::Kind::Tcp(true)), ..Default::default() };
        let container = wire::Container {
            name: "app".to_owned(),
            pin: Some(wire::container::Pin::ImageId(pin)),
            port: 8080,
            healthcheck: Some(healthcheck),
            ..Default::default()
        };
        let release = wire::Release {
            service: "web".to_owned(),
            version: version.to_owned(),
            containers: vec![container],
            drain_millis: DRAIN.as_millis() as u64,
            keep_standby_millis: 3_600_000,
            ..Default::default()
        };
        Release::decode(&release.encode_to_vec()).expect("a release")
    }

    /// Its container runs, where the state says.
    async fn stand(&self, state: &mut HostState, standing: &Standing, colour: Colour) {
        let Standing { release, berth, generation, .. } = standing;
        let container = &release.containers[0];
        for each in Berth::ALL {
            state.addresses.allocate(&release.service, &container.name, each).expect("room");
        }
        let labels = Labels {
            host: self.settings().host,
            service: release.service.clone(),
            container: container.name.clone(),
            colour,
            berth: *berth,
            generation: *generation,
            release: release.digest,
        };
        let address = state.addresses.get(&release.service, &container.name, *berth).expect("just taken");
        let created = self.engine.create(&CreateRequest { labels, container, network: "bgctl", address }).await;
        self.engine.start(&created.expect("it is created")).await.expect("it starts");
    }

    async fn write(&self, state: &HostState) {
        let (mut journal, _) = Journal::open::<Written>(&RealDisk, &self.settings().journal).await.expect("a new one");
        journal.write(&Written::from(state)).await.expect("it is written");
    }

    /// What the journal says is applied.
    async fn applied(&self) -> Option<Generation> {
        let (_, written) = Journal::open::<Written>(&RealDisk, &self.settings().journal).await.expect("it is there");
        let state = HostState::try_from(written.expect("it was written")).expect("it is good");
        state.record.applied.values().map(|slot| slot.generation).max()
    }

    fn berths(&self) -> Vec<Berth> {
        let host: HostId = self.settings().host;
        let mut berths: Vec<_> = self.engine.listed(&host).into_iter().map(|facts| facts.labels.berth).collect();
        berths.sort();
        berths
    }
}

fn subnet() -> Subnet {
    "198.18.224.0/24".parse().expect("a subnet")
}

/// v2 serves. v1 was displaced ten seconds before the agent died, and has requests under way.
#[tokio::test(start_paused = true)]
async fn what_was_leaving_when_the_agent_died_gets_the_rest_of_its_drain() {
    let host = Host::new();
    host.engine.ensure_network(&host.settings().network).await.expect("a network");
    let (v1, v2) = (host.release("v1"), host.release("v2"));
    let mut state = HostState::new(Incarnation(7), subnet());
    let slot = Slot { generation: Generation(20), release: v2.digest, colour: Colour::Green };
    state.record.applied.insert(v2.service.clone(), slot);
    let retired = Retired::at(Clocks::new(Arc::clone(&host.clock) as Arc<dyn Ambient>, "one").now(), &v1);
    let goes = Standing { release: v1.clone(), berth: Berth::A, generation: Generation(10), retired: Some(retired) };
    let stays = Standing { release: v2.clone(), berth: Berth::B, generation: Generation(20), retired: None };
    host.stand(&mut state, &goes, Colour::Blue).await;
    host.stand(&mut state, &stays, Colour::Green).await;
    state.places.insert((v2.service.clone(), Colour::Green), stays);
    state.leaving = vec![((v1.service.clone(), Colour::Blue), goes)];
    host.write(&state).await;
    let passed = Duration::from_secs(10);
    tokio::time::sleep(passed).await;

    let shutdown = CancellationToken::new();
    let looked_at = async {
        // Leftovers that nobody knows are looked for every thirty seconds.
        tokio::time::sleep(Duration::from_secs(75)).await;
        assert_eq!(host.berths(), [Berth::A, Berth::B], "it was taken away in the middle of its drain");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(host.berths(), [Berth::B]);
        shutdown.cancel();
    };
    let (ran, ()) = tokio::join!(run(host.settings(), host.world(), || {}, shutdown.clone()), looked_at);
    ran.expect("it runs");
    let drains = host.traffic.0.lock().expect("nobody panics").clone();
    assert!(matches!(drains[..], [one] if one <= DRAIN - passed && one > DRAIN - passed * 2), "{drains:?}");
}

/// v1 is applied. The host died after the rename to v2, which was promised, and before the record of it.
async fn died_after_the_rename() -> (Host, Flags) {
    let host = Host::new();
    host.engine.ensure_network(&host.settings().network).await.expect("a network");
    let (v1, v2) = (host.release("v1"), host.release("v2"));
    let web = v1.service.clone();
    let mut state = HostState::new(Incarnation(7), subnet());
    for (release, generation, colour, berth) in
        [(&v1, Generation(10), Colour::Blue, Berth::A), (&v2, Generation(20), Colour::Green, Berth::B)]
    {
        let standing = Standing { release: release.clone(), berth, generation, retired: None };
        host.stand(&mut state, &standing, colour).await;
        state.places.insert((web.clone(), colour), standing);
    }
    let slot = |release: &Release, generation, colour| Slot { generation, release: release.digest, colour };
    state.record.applied.insert(web.clone(), slot(&v1, Generation(10), Colour::Blue));
    let services = [(web.clone(), slot(&v2, Generation(20), Colour::Green))].into();
    let promised = Prepared { generation: Generation(20), revision: Revision(22), services };
    state.record.prepared.insert("web-2".parse().expect("an id"), promised);
    host.write(&state).await;
    let flag = Flag { colour: Colour::Green, berth: Berth::B, generation: Generation(20) };
    let flags = Flags { services: [(web, Some(flag))].into() };
    host.proxy.turn_by_hand(&flags);
    (host, flags)
}

#[tokio::test(start_paused = true)]
async fn a_switch_made_before_the_stop_is_applied_once_nginx_is_up_and_follows() {
    let (host, flags) = died_after_the_rename().await;
    let shutdown = CancellationToken::new();
    // Also with no controller: it is applied before the agent says that traffic is restored.
    let restored = || {
        assert!(host.proxy.is_running(), "nothing was asked of nginx");
        shutdown.cancel();
    };
    run(host.settings(), host.world(), restored, shutdown.clone()).await.expect("it runs");
    assert_eq!((host.applied().await, host.proxy.current()), (Some(Generation(20)), Some(flags)));
}

#[tokio::test(start_paused = true)]
async fn a_switch_made_before_the_stop_that_nginx_does_not_follow_stands_and_is_not_applied() {
    let (host, flags) = died_after_the_rename().await;
    let stuck = ProxyError::NotFollowing { expected: "the new flags".to_owned(), answered: "the old".to_owned() };
    host.proxy.fail(Call::Proof, Some(stuck));
    let shutdown = CancellationToken::new();
    let looked_at = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(host.applied().await, Some(Generation(10)), "written as applied, and nobody saw it followed");
            assert_eq!(host.proxy.current(), Some(flags.clone()), "it was taken back");
            assert_eq!(host.berths(), [Berth::A, Berth::B], "one of the two may serve users");
        }
        host.proxy.fail(Call::Proof, None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!((host.applied().await, host.proxy.current()), (Some(Generation(20)), Some(flags.clone())));
        shutdown.cancel();
    };
    let (ran, ()) = tokio::join!(run(host.settings(), host.world(), || {}, shutdown.clone()), looked_at);
    ran.expect("it runs");
}

//! The whole agent beside fakes, on tokio's clock.

use super::run;
use crate::berth::Berth;
use crate::docker::fake::{Behaviour, FakeEngine};
use crate::docker::{CreateRequest, Engine, Labels, Network, Subnet};
use crate::executor::drain::Traffic;
use crate::journal::{Journal, RealDisk};
use crate::nginx::fake::FakeProxy;
use crate::release::Release;
use crate::retired::{Clocks, Retired};
use crate::state::{HostState, Standing, Written};
use crate::world::{Settings, World};
use async_trait::async_trait;
use bgctl_proto::ambient::Ambient;
use bgctl_proto::link::{Dial, Io};
use bgctl_proto::session as wire;
use cutover::Incarnation;
use cutover::ids::{Colour, Generation, HostId};
use cutover::message::Slot;
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
    clock: Arc<Clock>,
    traffic: Arc<Busy>,
}

impl Host {
    fn new() -> Self {
        let clock = Arc::new(Clock(Instant::now()));
        Self { dir: tempfile::tempdir().expect("a folder"), engine: FakeEngine::new(), clock, traffic: Arc::default() }
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
            proxy: Arc::new(FakeProxy::new(Default::default())),
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
    let (mut journal, _) = Journal::open::<Written>(&RealDisk, &host.settings().journal).await.expect("a new one");
    journal.write(&Written::from(&state)).await.expect("it is written");
    drop(journal);
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

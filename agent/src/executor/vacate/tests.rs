use super::*;
use crate::berth::Berth;
use crate::docker::fake::{Behaviour, Call, FakeEngine, Fault, Left};
use crate::docker::{CreateRequest, Engine, Labels, Network};
use crate::executor::drain::KernelTraffic;
use crate::executor::job::Turns;
use crate::health::Prober;
use crate::release::{Container, Healthcheck, Probe};
use crate::retired::Clocks;
use async_trait::async_trait;
use bgctl_proto::ambient::Machine;
use cutover::ids::{Colour, Generation, HostId, ReleaseDigest};
use std::net::SocketAddrV4;
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

fn host() -> HostId {
    "h1".parse().unwrap()
}

/// The first address that containers can have.
fn address() -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 224, 2)
}

async fn tools(engine: &FakeEngine) -> Tools {
    let network = Network { name: "bgctl".to_owned(), subnet: "198.18.224.0/24".parse().unwrap() };
    engine.ensure_network(&network).await.unwrap();
    Tools {
        host: host(),
        engine: Arc::new(engine.clone()),
        prober: Arc::new(engine.clone()),
        traffic: Arc::new(KernelTraffic),
        clocks: Clocks::new(Arc::new(Machine), "one"),
        network: network.name,
        turns: Turns::default(),
    }
}

fn container(engine: &FakeEngine) -> Container {
    let behaviour = Behaviour { healthy_after: Some(Duration::ZERO), ..Behaviour::default() };
    Container {
        name: "app".to_owned(),
        image: "web:v1".to_owned(),
        pin: engine.load_image("web:v1", behaviour),
        environment: Default::default(),
        command: Vec::new(),
        port: 8080,
        healthcheck: check(),
        stop_grace_period: SECOND,
    }
}

async fn create(engine: &FakeEngine, generation: u64) -> String {
    let container = container(engine);
    let labels = Labels {
        host: host(),
        service: "web".parse().unwrap(),
        container: "app".to_owned(),
        colour: Colour::Blue,
        berth: Berth::A,
        generation: Generation(generation),
        release: ReleaseDigest([1; 32]),
    };
    engine.create(&CreateRequest { labels, container: &container, network: "bgctl", address: address() }).await.unwrap()
}

fn check() -> Healthcheck {
    Healthcheck {
        probe: Probe::Tcp,
        port: 8080,
        interval: SECOND,
        timeout: SECOND,
        successes: 1,
        retries: 1,
        start_period: SECOND,
        settle: SECOND,
    }
}

/// Its daemon is killed while it starts this one.
async fn lose_track(engine: &FakeEngine, id: &str, left: Left) {
    engine.fail(Call::Start, Fault::KilledMeanwhile(left));
    assert!(matches!(engine.start(id).await, Err(EngineError::Unreachable { .. })));
    engine.heal(Call::Start);
}

async fn answer(tools: &Tools) -> Result<String, String> {
    tools.prober.probe(SocketAddrV4::new(address(), 8080), &check()).await
}

#[tokio::test(start_paused = true)]
async fn what_docker_lost_track_of_is_ended_before_another_starts_there() {
    let engine = FakeEngine::new();
    let tools = tools(&engine).await;
    let lost = create(&engine, 1).await;
    lose_track(&engine, &lost, Left::Waiting).await;
    engine.remove(&lost).await.unwrap();
    assert!(engine.list(&host()).await.unwrap().is_empty(), "Docker knows nothing of it");

    // As it was before: both have the address, and every other request is refused.
    let next = create(&engine, 2).await;
    engine.start(&next).await.unwrap();
    let by_turns = [answer(&tools).await.is_ok(), answer(&tools).await.is_ok()];
    assert_eq!(by_turns, [true, false]);
    engine.stop(&next, SECOND).await.unwrap();

    vacate(&tools, &[address()]).await.unwrap();
    assert_eq!(engine.lost_track(), []);
    engine.start(&next).await.unwrap();
    assert!(answer(&tools).await.is_ok() && answer(&tools).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_runs_with_dockers_knowledge_and_what_is_elsewhere_stays() {
    let engine = FakeEngine::new();
    let tools = tools(&engine).await;
    let known = create(&engine, 1).await;
    engine.start(&known).await.unwrap();
    assert_eq!(strays(&tools, &[address()]).await, Ok(Vec::new()));
    engine.stop(&known, SECOND).await.unwrap();
    lose_track(&engine, &known, Left::Program).await;
    let elsewhere = Ipv4Addr::new(198, 18, 224, 3);
    vacate(&tools, &[elsewhere]).await.unwrap();
    assert_eq!(engine.lost_track().len(), 1);
    let strays = strays(&tools, &[elsewhere, address()]).await.unwrap();
    assert_eq!(strays, [Occupant { id: known.clone(), address: address() }]);

    // Docker lists it, so that its keeper, or whoever clears its berth, sees to it.
    sweep(&tools, &[address()]).await.unwrap();
    assert_eq!(engine.lost_track().len(), 1);
    engine.remove(&known).await.unwrap();
    sweep(&tools, &[address()]).await.unwrap();
    assert_eq!(engine.lost_track(), []);
}

#[tokio::test(start_paused = true)]
async fn docker_silent_is_no_reason_to_end_anything() {
    let engine = FakeEngine::new();
    let tools = tools(&engine).await;
    let id = create(&engine, 1).await;
    lose_track(&engine, &id, Left::Program).await;
    engine.fail(Call::Inspect, Fault::Unreachable);
    assert!(matches!(vacate(&tools, &[address()]).await, Err(EngineError::Unreachable { .. })));
    assert_eq!(engine.lost_track().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_in_its_own_way_or_refused_for_long_is_made_anew_and_nothing_that_alone_holds_its_image() {
    let engine = FakeEngine::new();
    let tools = tools(&engine).await;
    let container = container(&engine);
    let refuse = |words: &str| engine.fail(Call::Start, Fault::Refuse(words.to_owned()));
    let id = create(&engine, 1).await;
    refuse("Internal Server Error");
    let healed = async {
        tokio::time::sleep(START_PAUSE * 2).await;
        engine.heal(Call::Start);
    };
    let (started, ()) = tokio::join!(start_or_remove(&tools, &container, &id), healed);
    assert_eq!((started, engine.running_at(address())), (Ok(Some(())), Some(id.clone())));

    engine.kill(&id, 137, false);
    refuse("Internal Server Error");
    engine.forget_image(container.pin.reference());
    assert!(start_or_remove(&tools, &container, &id).await.is_err());
    assert_eq!(engine.listed(&host()).len(), 1, "nobody else has its image");

    let again = self::container(&engine);
    let begun = Instant::now();
    refuse("task 1234: already exists: unknown");
    assert_eq!(start_or_remove(&tools, &again, &id).await, Ok(None));
    assert!(engine.listed(&host()).is_empty() && begun.elapsed() < START_PAUSE);
}

/// Somebody whom neither Docker nor /proc knows.
struct Squatter {
    gone_at: Instant,
}

#[async_trait]
impl Prober for Squatter {
    async fn probe(&self, _: SocketAddrV4, _: &Healthcheck) -> Result<String, String> {
        Err("connection refused".to_owned())
    }

    async fn is_anybody(&self, _: Ipv4Addr) -> bool {
        Instant::now() < self.gone_at
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_somebody_keeps_is_said_to_be_taken() {
    let engine = FakeEngine::new();
    let tools = tools(&engine).await;
    let here_for = |time| Tools { prober: Arc::new(Squatter { gone_at: Instant::now() + time }), ..tools.clone() };
    let id = create(&engine, 1).await;
    lose_track(&engine, &id, Left::Program).await;
    vacate(&here_for(SECOND), &[address()]).await.expect("it was on its way out");
    assert_eq!(engine.lost_track(), []);
    engine.remove(&id).await.unwrap();
    let id = create(&engine, 1).await;
    lose_track(&engine, &id, Left::Program).await;
    let error = vacate(&here_for(FREE_LIMIT * 2), &[address()]).await.unwrap_err().to_string();
    assert!(error.starts_with("address 198.18.224.2 is taken: somebody answers there"), "{error}");
}

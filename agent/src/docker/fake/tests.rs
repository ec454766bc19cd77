//! What only the fake can do: fail when told to, and be restarted.

use super::*;
use crate::berth::Berth;
use crate::docker::{Condition, Labels};
use crate::release::{Container, Probe};
use cutover::ids::{Colour, Generation, ReleaseDigest};
use tokio::time::timeout;

/// Far less than the fake's own limits, far more than it needs.
const SOON: Duration = Duration::from_millis(200);

fn host() -> HostId {
    "web-1".parse().unwrap()
}

async fn engine() -> FakeEngine {
    let engine = FakeEngine::new();
    let network = Network { name: "bgctl".to_owned(), subnet: "10.1.2.0/24".parse().unwrap() };
    engine.ensure_network(&network).await.unwrap();
    engine
}

async fn create(engine: &FakeEngine, behaviour: Behaviour) -> Result<String, EngineError> {
    let second = Duration::from_secs(1);
    let healthcheck = Healthcheck {
        probe: Probe::Tcp,
        port: 8080,
        interval: second,
        timeout: second,
        successes: 1,
        retries: 1,
        start_period: second,
        settle: second,
    };
    let container = Container {
        name: "app".to_owned(),
        image: "web:v1".to_owned(),
        pin: engine.load_image("web:v1", behaviour),
        environment: BTreeMap::new(),
        command: Vec::new(),
        port: 8080,
        healthcheck,
        stop_grace_period: second,
    };
    let labels = Labels {
        host: host(),
        service: "web".parse().unwrap(),
        container: "app".to_owned(),
        colour: Colour::Blue,
        berth: Berth::A,
        generation: Generation(1),
        release: ReleaseDigest([1; 32]),
    };
    let address = Ipv4Addr::new(10, 1, 2, 2);
    engine.create(&CreateRequest { labels, container: &container, network: "bgctl", address }).await
}

fn serves() -> Behaviour {
    Behaviour { healthy_after: Some(Duration::ZERO), ..Default::default() }
}

#[tokio::test]
async fn calls_fail_as_told_until_healed() {
    let engine = engine().await;
    engine.fail(Call::Version, Fault::Unreachable);
    assert!(matches!(engine.version().await, Err(EngineError::Unreachable { .. })));
    engine.fail(Call::Version, Fault::Refuse("no space left on device".to_owned()));
    let error = engine.version().await.unwrap_err();
    assert!(error.to_string().contains("no space left on device"), "{error}");
    engine.fail(Call::Version, Fault::Hang);
    assert!(timeout(SOON, engine.version()).await.is_err(), "it hangs");
    assert!(engine.list(&host()).await.is_ok(), "other calls work");
    engine.fail(Call::Version, Fault::Slow(SOON));
    let asked = Instant::now();
    assert!(engine.version().await.is_ok() && asked.elapsed() >= SOON);
    engine.heal(Call::Version);
    assert!(timeout(SOON, engine.version()).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_lost_reply_leaves_what_was_done() {
    let engine = engine().await;
    engine.fail(Call::Create, Fault::ReplyLost);
    assert!(timeout(SOON, create(&engine, serves())).await.is_err(), "no answer");
    assert_eq!(engine.list(&host()).await.unwrap().len(), 1);
    engine.fail(Call::Start, Fault::Hang);
    let id = engine.list(&host()).await.unwrap().remove(0).id;
    assert!(timeout(SOON, engine.start(&id)).await.is_err(), "no answer");
    assert_eq!(engine.inspect(&id).await.unwrap().unwrap().condition, Condition::Created, "a hang does nothing");
}

#[tokio::test]
async fn a_restart_ends_streams_and_spares_containers_only_with_live_restore() {
    let engine = engine().await;
    let id = create(&engine, serves()).await.unwrap();
    engine.start(&id).await.unwrap();
    let mut events = engine.events(&host()).await.unwrap();
    engine.restart_daemon(true);
    assert_eq!(timeout(SOON, events.next()).await.unwrap(), None);
    assert_eq!(engine.inspect(&id).await.unwrap().unwrap().condition, Condition::Running);
    engine.restart_daemon(false);
    let condition = engine.inspect(&id).await.unwrap().unwrap().condition;
    assert!(matches!(condition, Condition::Exited { .. }), "{condition:?}");
}

#[tokio::test]
async fn loses_track_of_what_it_started_as_it_was_killed() {
    let engine = engine().await;
    let address = Ipv4Addr::new(10, 1, 2, 2);
    let id = create(&engine, serves()).await.unwrap();
    let mut events = engine.events(&host()).await.unwrap();
    engine.fail(Call::Start, Fault::KilledMeanwhile(Left::Program));
    assert!(matches!(engine.start(&id).await, Err(EngineError::Unreachable { .. })));
    assert_eq!(timeout(SOON, events.next()).await.unwrap(), None, "the daemon is another");
    engine.heal(Call::Start);
    assert_eq!(engine.inspect(&id).await.unwrap().unwrap().condition, Condition::Created);
    assert!(engine.state().probe(address, 8080, engine.now()).is_ok(), "it serves");
    let error = engine.start(&id).await.unwrap_err();
    assert!(error.to_string().contains("already in use"), "{error}");
    engine.restart_daemon(false);
    engine.remove(&id).await.unwrap();
    let stray = Occupant { id: id.clone(), address };
    assert_eq!(engine.lost_track(), std::slice::from_ref(&stray), "neither a restart nor a removal ends it");
    assert_eq!(engine.occupants("bgctl", &[address]).await, Ok(vec![stray.clone()]));
    engine.lose_power();
    assert_eq!(engine.lost_track(), []);
}

#[tokio::test]
async fn follows_the_clock_it_was_given() {
    let hour = Duration::from_secs(3600);
    let time = Arc::new(Mutex::new(Duration::ZERO));
    let clock = time.clone();
    let engine = FakeEngine::with_clock(move || *clock.lock().unwrap());
    let network = Network { name: "bgctl".to_owned(), subnet: "10.1.2.0/24".parse().unwrap() };
    engine.ensure_network(&network).await.unwrap();
    let dies = Death { after: hour * 2, exit_code: 137, out_of_memory: true };
    let behaviour = Behaviour { healthy_after: Some(hour), dies: Some(dies), ..Default::default() };
    let id = create(&engine, behaviour).await.unwrap();
    engine.start(&id).await.unwrap();
    let address = Ipv4Addr::new(10, 1, 2, 2);
    let answers = |engine: &FakeEngine| engine.state().probe(address, 8080, engine.now());
    assert_eq!(answers(&engine), Err("connection refused".to_owned()));
    *time.lock().unwrap() = hour;
    assert_eq!(answers(&engine), Ok("200 in 0.0 ms".to_owned()));
    engine.set_sick(&id, true);
    assert_eq!(answers(&engine), Err("503 in 0.0 ms".to_owned()));
    assert_eq!(engine.running_at(address), Some(id.clone()));
    *time.lock().unwrap() = hour * 2;
    let condition = engine.inspect(&id).await.unwrap().unwrap().condition;
    assert_eq!(condition, Condition::Exited { exit_code: 137, out_of_memory: true });
    assert_eq!(answers(&engine), Err("no route to host".to_owned()));
    assert_eq!(engine.running_at(address), None);
}

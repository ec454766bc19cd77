//! What every engine must do. Each case runs against the fake and against the real Docker.

mod bench;
mod image;
mod registry;
mod only_real;

use super::{Condition, EngineError, EngineEvent, Network, Occupant};
use crate::health::{Reason, wait_until_healthy};
use crate::release::ImagePin;
use bench::{Bench, PATIENCE, check};
use cutover::ids::{Colour, Generation, ReleaseDigest};
use futures_util::StreamExt;
use image::Kind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, timeout};

macro_rules! cases {
    ($($case:ident)*) => {
        mod fake {
            $(#[tokio::test] async fn $case() { super::$case(&super::Bench::fake().await).await; })*
        }
        mod real {
            $(#[tokio::test] async fn $case() { super::$case(&super::Bench::real().await).await; })*
        }
    };
}

cases! {
    knows_the_images_that_are_here
    makes_the_network_once_and_compares_it
    removes_the_network_when_nothing_runs_in_it
    runs_a_container_from_creation_to_removal
    adopts_what_it_created_before
    replaces_our_own_of_another_release_or_address
    leaves_a_name_that_is_not_ours
    says_which_image_is_missing
    says_which_address_is_taken
    refuses_addresses_and_networks_that_do_not_fit
    keeps_the_address_over_restarts
    tells_deaths_of_this_host_only
    lists_this_host_only
    reads_the_log_of_the_living_and_the_dead
    kills_what_ignores_the_stop_signal
    sees_that_a_container_is_sick
    sees_that_a_container_is_off_its_network
    knows_who_has_an_address_and_ends_it
    pulls_by_digest
}

async fn knows_the_images_that_are_here(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let facts = bench.engine.image(pin.reference()).await.unwrap().unwrap();
    assert_eq!(facts.id, pin.reference());
    assert_eq!(bench.engine.image("contract/no-such-image:v1").await, Ok(None));
    let absent = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(bench.engine.image(&absent).await, Ok(None));
}

async fn makes_the_network_once_and_compares_it(bench: &Bench) {
    bench.engine.ensure_network(&bench.network).await.unwrap();
    let other = Network { subnet: "172.28.255.0/24".parse().unwrap(), ..bench.network.clone() };
    let error = bench.engine.ensure_network(&other).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&bench.network.subnet.to_string()) && text.contains("172.28.255.0/24"), "{text}");
    let overlapping = Network { name: format!("{}-2", bench.network.name), ..bench.network.clone() };
    let error = bench.engine.ensure_network(&overlapping).await.unwrap_err();
    assert!(matches!(&error, EngineError::Network { name, .. } if *name == overlapping.name), "{error}");
}

async fn removes_the_network_when_nothing_runs_in_it(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let id = bench.create(&bench.container(&pin)).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    let name = &bench.network.name;
    let error = bench.engine.remove_network(name).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { operation, .. } if operation.contains(name)), "{error}");
    assert!(bench.is_healthy_at(bench.address(0)).await);
    bench.engine.remove(&id).await.unwrap();
    bench.engine.remove_network(name).await.unwrap();
    bench.engine.remove_network(name).await.expect("removing what is gone is fine");
    bench.make_network_again().await;
}

async fn runs_a_container_from_creation_to_removal(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let id = bench.create(&bench.container(&pin)).await.unwrap();
    let facts = bench.engine.inspect(&id).await.unwrap().unwrap();
    assert_eq!(facts.labels, bench.labels(Colour::Blue, 1));
    assert_eq!((facts.id, facts.image_id.as_str()), (id.clone(), pin.reference()));
    assert_eq!(facts.condition, Condition::Created);

    bench.engine.start(&id).await.unwrap();
    bench.engine.start(&id).await.expect("starting twice is fine");
    assert_eq!(condition(bench, &id).await, Some(Condition::Running));
    assert!(bench.is_healthy_at(bench.address(0)).await);

    bench.engine.stop(&id, Duration::from_secs(20)).await.unwrap();
    assert!(matches!(condition(bench, &id).await, Some(Condition::Exited { out_of_memory: false, .. })));
    bench.engine.stop(&id, Duration::ZERO).await.expect("stopping what is stopped is fine");
    bench.engine.start(&id).await.unwrap();
    bench.engine.remove(&id).await.expect("removing kills");
    assert_eq!(condition(bench, &id).await, None);
    bench.engine.remove(&id).await.expect("removing what is gone is fine");
    bench.engine.stop(&id, Duration::ZERO).await.expect("stopping what is gone is fine");
    assert!(matches!(bench.engine.start(&id).await, Err(EngineError::Refused { .. })));
}

async fn adopts_what_it_created_before(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let id = bench.create(&bench.container(&pin)).await.unwrap();
    assert_eq!(bench.create(&bench.container(&pin)).await, Ok(id.clone()));
    bench.engine.start(&id).await.unwrap();
    assert_eq!(bench.create(&bench.container(&pin)).await, Ok(id.clone()));
    assert_eq!(condition(bench, &id).await, Some(Condition::Running), "adopting does not disturb it");
}

async fn replaces_our_own_of_another_release_or_address(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let first = bench.create(&bench.container(&pin)).await.unwrap();
    bench.engine.start(&first).await.unwrap();
    let mut labels = bench.labels(Colour::Blue, 1);
    labels.release = ReleaseDigest([2; 32]);
    let second = bench.create_as(&bench.container(&pin), labels.clone(), bench.address(0)).await.unwrap();
    assert_eq!(condition(bench, &first).await, None);
    let third = bench.create_as(&bench.container(&pin), labels.clone(), bench.address(1)).await.unwrap();
    assert_eq!(condition(bench, &second).await, None);
    let sick = bench.image(Kind::Sick).await;
    let fourth = bench.create_as(&bench.container(&sick), labels, bench.address(1)).await.unwrap();
    assert_eq!(condition(bench, &third).await, None);
    assert_eq!(condition(bench, &fourth).await, Some(Condition::Created));
}

async fn leaves_a_name_that_is_not_ours(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let name = bench.labels(Colour::Blue, 1).container_name();
    bench.occupy_name(&name, &pin).await;
    for _ in 0..2 {
        let error = bench.create(&bench.container(&pin)).await.unwrap_err();
        assert!(matches!(&error, EngineError::Taken { what, .. } if what.contains(&name)), "{error}");
    }
}

async fn says_which_image_is_missing(bench: &Bench) {
    let absent = ImagePin::ImageId(format!("sha256:{}", "ab".repeat(32)));
    let named = |error: &EngineError| matches!(error, EngineError::ImageMissing { reference, .. } if reference == absent.reference());
    let error = bench.create(&bench.container(&absent)).await.unwrap_err();
    assert!(named(&error), "{error}");
    let error = bench.engine.pull(&absent, &|line| panic!("nothing to tell: {line}")).await.unwrap_err();
    assert!(named(&error), "{error}");
}

async fn says_which_address_is_taken(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let container = bench.container(&pin);
    let first = bench.create(&container).await.unwrap();
    let second = bench.create_as(&container, bench.labels(Colour::Green, 2), bench.address(0)).await.unwrap();
    bench.engine.start(&first).await.unwrap();
    let error = bench.engine.start(&second).await.unwrap_err();
    let address = bench.address(0).to_string();
    assert!(matches!(&error, EngineError::Taken { what, .. } if what.contains(&address)), "{error}");
    assert_eq!(condition(bench, &second).await, Some(Condition::Created));
    bench.engine.stop(&first, Duration::ZERO).await.unwrap();
    bench.engine.start(&second).await.expect("the failed start left nothing in the way");
    assert!(bench.is_healthy_at(bench.address(0)).await);
    let of_bridge = bench.network.subnet.gateway();
    let third = bench.create_as(&container, bench.labels(Colour::Blue, 3), of_bridge).await.unwrap();
    assert!(matches!(bench.engine.start(&third).await, Err(EngineError::Taken { .. })));
}

async fn refuses_addresses_and_networks_that_do_not_fit(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let container = bench.container(&pin);
    let outside = Ipv4Addr::new(10, 9, 8, 7);
    let id = bench.create_as(&container, bench.labels(Colour::Blue, 1), outside).await.unwrap();
    let error = bench.engine.start(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { detail, .. } if detail.contains("10.9.8.7")), "{error}");
    let request = super::CreateRequest {
        labels: bench.labels(Colour::Green, 2),
        container: &container,
        network: "contract-no-such-network",
        address: bench.address(0),
    };
    let id = bench.engine.create(&request).await.unwrap();
    let error = bench.engine.start(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { detail, .. } if detail.contains("no-such-network")), "{error}");
}

async fn keeps_the_address_over_restarts(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let container = bench.container(&pin);
    let ours = bench.create_as(&container, bench.labels(Colour::Blue, 1), bench.address(4)).await.unwrap();
    bench.engine.start(&ours).await.unwrap();
    assert!(bench.is_healthy_at(bench.address(4)).await);
    bench.engine.stop(&ours, Duration::ZERO).await.unwrap();
    // Another that starts in between must not get it.
    let other = bench.create_as(&container, bench.labels(Colour::Green, 2), bench.address(0)).await.unwrap();
    bench.engine.start(&other).await.unwrap();
    bench.engine.start(&ours).await.unwrap();
    assert!(bench.is_healthy_at(bench.address(4)).await);
    assert!(bench.is_healthy_at(bench.address(0)).await);
}

async fn tells_deaths_of_this_host_only(bench: &Bench) {
    let dies = bench.container(&bench.image(Kind::Dies).await);
    let mut foreign = bench.labels(Colour::Blue, 1);
    foreign.host = format!("{}-other", bench.host).parse().unwrap();
    let foreign = bench.create_as(&dies, foreign, bench.address(0)).await.unwrap();
    let ours = bench.create_as(&dies, bench.labels(Colour::Green, 2), bench.address(1)).await.unwrap();
    let mut events = bench.engine.events(&bench.host).await.unwrap();
    bench.engine.start(&foreign).await.unwrap();
    until_exited(bench, &foreign).await;
    for _ in 0..2 {
        bench.engine.start(&ours).await.unwrap();
        let event = timeout(PATIENCE, events.next()).await.expect("a death is told").expect("the stream goes on");
        let labels = bench.labels(Colour::Green, 2);
        assert_eq!(event, EngineEvent::Died { id: ours.clone(), labels, exit_code: 3 });
        until_exited(bench, &ours).await;
    }
}

async fn lists_this_host_only(bench: &Bench) {
    assert_eq!(bench.engine.list(&bench.host).await, Ok(Vec::new()));
    let serves = bench.container(&bench.image(Kind::Serves).await);
    let dies = bench.container(&bench.image(Kind::Dies).await);
    let mut foreign = bench.labels(Colour::Blue, 1);
    foreign.host = format!("{}-other", bench.host).parse().unwrap();
    bench.create_as(&serves, foreign, bench.address(0)).await.unwrap();
    let running = bench.create_as(&serves, bench.labels(Colour::Blue, 1), bench.address(1)).await.unwrap();
    let dead = bench.create_as(&dies, bench.labels(Colour::Green, 2), bench.address(2)).await.unwrap();
    bench.create_as(&dies, bench.labels(Colour::Green, 3), bench.address(2)).await.unwrap();
    bench.engine.start(&running).await.unwrap();
    bench.engine.start(&dead).await.unwrap();
    until_exited(bench, &dead).await;
    let mut all = bench.engine.list(&bench.host).await.unwrap();
    all.sort_by_key(|facts| facts.labels.generation);
    let seen: Vec<_> = all.iter().map(|facts| (facts.labels.generation, facts.condition.clone())).collect();
    let exited = Condition::Exited { exit_code: 3, out_of_memory: false };
    let expected = [(Generation(1), Condition::Running), (Generation(2), exited), (Generation(3), Condition::Created)];
    assert_eq!(seen, expected);
}

async fn reads_the_log_of_the_living_and_the_dead(bench: &Bench) {
    let dies = bench.container(&bench.image(Kind::Dies).await);
    let id = bench.create(&dies).await.unwrap();
    assert_eq!(bench.engine.log_tail(&id, 10).await, Ok(Vec::new()), "it never ran");
    bench.engine.start(&id).await.unwrap();
    until_exited(bench, &id).await;
    let all = bench.engine.log_tail(&id, 10).await.unwrap();
    assert_eq!(all, ["connecting", "\u{fffd}[31mrefused", "giving up"]);
    assert_eq!(bench.engine.log_tail(&id, 2).await.unwrap(), all[1..]);
    bench.engine.start(&id).await.unwrap();
    until_exited(bench, &id).await;
    assert_eq!(bench.engine.log_tail(&id, 10).await.unwrap().len(), 6, "a restart keeps the log");
    bench.engine.remove(&id).await.unwrap();
    assert!(matches!(bench.engine.log_tail(&id, 10).await, Err(EngineError::Refused { .. })));
}

async fn kills_what_ignores_the_stop_signal(bench: &Bench) {
    let id = bench.create(&bench.container(&bench.image(Kind::Stubborn).await)).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    let asked = Instant::now();
    bench.engine.stop(&id, Duration::from_millis(300)).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(990), "whole seconds, rounded up: {:?}", asked.elapsed());
    let killed = Condition::Exited { exit_code: 137, out_of_memory: false };
    assert_eq!(condition(bench, &id).await, Some(killed));
}

async fn sees_that_a_container_is_sick(bench: &Bench) {
    let id = bench.create(&bench.container(&bench.image(Kind::Sick).await)).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    let address = SocketAddrV4::new(bench.address(0), 8080);
    let deadline = Instant::now() + PATIENCE;
    let waited = wait_until_healthy(&*bench.prober, address, &check(), deadline, |_| {}).await;
    let unhealthy = waited.unwrap_err();
    assert_eq!(unhealthy.reason, Reason::BadAnswers(3));
    let latest = unhealthy.probes.latest().unwrap().answer.clone().unwrap_err();
    assert!(latest.starts_with("503 in "), "{latest}");
    let elsewhere = SocketAddrV4::new(bench.address(0), 8081);
    assert_eq!(bench.prober.probe(elsewhere, &check()).await, Err("connection refused".to_owned()));
    let nobody = SocketAddrV4::new(bench.address(9), 8080);
    bench.prober.probe(nobody, &check()).await.unwrap_err();
}

/// Here Docker knows of it all the time; it must not have to.
async fn knows_who_has_an_address_and_ends_it(bench: &Bench) {
    let pin = bench.image(Kind::Serves).await;
    let (ours, free) = (bench.address(0), bench.address(1));
    let network = bench.network.name.as_str();
    let id = bench.create(&bench.container(&pin)).await.unwrap();
    assert_eq!(bench.engine.occupants(network, &[ours, free]).await, Ok(Vec::new()), "it does not run");

    bench.engine.start(&id).await.unwrap();
    let occupant = Occupant { id: id.clone(), address: ours };
    assert_eq!(bench.engine.occupants(network, &[free, ours]).await, Ok(vec![occupant]));
    assert_eq!(bench.engine.occupants(network, &[free]).await, Ok(Vec::new()));
    assert_eq!(bench.engine.occupants("contract-no-such-network", &[ours]).await, Ok(Vec::new()));
    assert!(bench.prober.is_anybody(ours).await && !bench.prober.is_anybody(free).await);

    bench.engine.evict(&id).await.unwrap();
    assert_eq!(bench.engine.occupants(network, &[ours]).await, Ok(Vec::new()));
    until_exited(bench, &id).await;
    let until = Instant::now() + PATIENCE;
    while bench.prober.is_anybody(ours).await {
        assert!(Instant::now() < until, "its address is not free");
    }
    bench.engine.evict(&id).await.expect("ending what is gone is fine");
    bench.engine.remove(&id).await.unwrap();
    let next = bench.create(&bench.container(&pin)).await.unwrap();
    bench.engine.start(&next).await.expect("its address is the next one's");
    assert!(bench.is_healthy_at(ours).await);
}

async fn sees_that_a_container_is_off_its_network(bench: &Bench) {
    let id = bench.create(&bench.container(&bench.image(Kind::Serves).await)).await.unwrap();
    let addresses = async || bench.engine.inspect(&id).await.unwrap().unwrap().addresses;
    assert_eq!(addresses().await, [bench.address(0)], "before its start");
    bench.engine.start(&id).await.unwrap();
    assert_eq!(addresses().await, [bench.address(0)]);
    bench.disconnect(&id).await;
    assert_eq!((condition(bench, &id).await, addresses().await), (Some(Condition::Running), Vec::new()));
    bench.prober.probe(SocketAddrV4::new(bench.address(0), 8080), &check()).await.unwrap_err();
    bench.engine.stop(&id, Duration::ZERO).await.unwrap();
    bench.engine.start(&id).await.expect("it has no network to be missing");
    assert_eq!(addresses().await, Vec::<Ipv4Addr>::new(), "a start does not bring it back");
}

async fn pulls_by_digest(bench: &Bench) {
    let (tag, pin, _registry) = bench.published(Kind::Serves).await;
    assert_eq!(bench.engine.registry_digest(&tag).await.as_deref(), Ok(pin.reference()));
    assert_eq!(bench.engine.registry_digest(pin.reference()).await.as_deref(), Ok(pin.reference()));
    assert_eq!(bench.engine.image(pin.reference()).await, Ok(None));
    let lines = Mutex::new(Vec::new());
    bench.engine.pull(&pin, &|line| lines.lock().unwrap().push(line)).await.unwrap();
    assert!(!lines.lock().unwrap().is_empty());
    let facts = bench.engine.image(pin.reference()).await.unwrap().unwrap();
    assert_eq!(facts.repo_digests, [pin.reference()]);
    bench.engine.pull(&pin, &|line| panic!("it is here already: {line}")).await.unwrap();
    let id = bench.create(&bench.container(&pin)).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    assert!(bench.is_healthy_at(bench.address(0)).await);

    let (repository, _) = pin.reference().split_once('@').unwrap();
    let absent = ImagePin::RepoDigest(format!("{repository}@sha256:{}", "ab".repeat(32)));
    let error = bench.engine.pull(&absent, &|_| {}).await.unwrap_err();
    let named = matches!(&error, EngineError::ImageMissing { reference, .. } if reference == absent.reference());
    assert!(named, "{error}");
    let error = bench.engine.registry_digest(&format!("{repository}:v2")).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { operation, .. } if operation.contains(":v2")), "{error}");
}

async fn condition(bench: &Bench, id: &str) -> Option<Condition> {
    bench.engine.inspect(id).await.unwrap().map(|facts| facts.condition)
}

async fn until_exited(bench: &Bench, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !matches!(condition(bench, id).await, Some(Condition::Exited { .. })) {
        assert!(Instant::now() < deadline, "{id} goes on running");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! What a case of the contract suite works with: an engine, a host of its own, and images. Whatever a
//! case made on the real Docker is removed at its end, also when it failed.

use super::image::{Kind, LAST_WORDS, load};
use super::registry::{Manner, Registry};
use crate::berth::Berth;
use crate::docker::fake::{Behaviour, Death, FakeEngine};
use crate::docker::real::{DockerEngine, SOCKET};
use crate::docker::{CreateRequest, Engine, EngineError, Labels, Network, Subnet};
use crate::health::{NetworkProber, Prober};
use crate::release::{Container, Healthcheck, ImagePin, Probe};
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveContainerOptions, RemoveImageOptions};
use cutover::ids::{Colour, Generation, HostId, ReleaseDigest};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Any state is waited for so long at most. The machine may be busy with other tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Bench {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) prober: Arc<dyn Prober>,
    pub(super) host: HostId,
    pub(super) network: Network,
    outside: Outside,
}

enum Outside {
    Fake(FakeEngine),
    Real(Cleaner),
}

/// Unique among the tests that run at this time.
fn unique() -> u32 {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    std::process::id() * 16 + COUNTER.fetch_add(1, Ordering::Relaxed)
}

impl Bench {
    pub(super) async fn fake() -> Self {
        let fake = FakeEngine::new();
        let network = Network { name: "contract".to_owned(), subnet: subnet(1) };
        fake.ensure_network(&network).await.unwrap();
        Self {
            engine: Arc::new(fake.clone()),
            prober: Arc::new(fake.clone()),
            host: "contract".parse().unwrap(),
            network,
            outside: Outside::Fake(fake),
        }
    }

    pub(super) async fn real() -> Self {
        let engine = DockerEngine::new(SOCKET);
        engine.version().await.expect("the contract suite needs Docker: install and start docker.io");
        let name = format!("contract-{}", unique());
        let cleaner = Cleaner(name.clone());
        let network = free_network(&engine, name.clone()).await;
        let (engine, prober) = (Arc::new(engine), Arc::new(NetworkProber));
        Self { engine, prober, host: name.parse().unwrap(), network, outside: Outside::Real(cleaner) }
    }

    /// Makes the network again after it was removed. Another test may have taken its subnet meanwhile.
    pub(super) async fn make_network_again(&self) {
        match &self.outside {
            Outside::Fake(_) => self.engine.ensure_network(&self.network).await.unwrap(),
            Outside::Real(_) => drop(free_network(&*self.engine, self.network.name.clone()).await),
        }
    }

    /// Puts an image of this kind on the host and answers its id.
    pub(super) async fn image(&self, kind: Kind) -> ImagePin {
        match &self.outside {
            Outside::Fake(fake) => fake.load_image(&format!("contract:{kind:?}"), behaviour(kind)),
            Outside::Real(cleaner) => ImagePin::ImageId(load(&docker(), &cleaner.0, kind).await),
        }
    }

    /// Makes an image of this kind that is in a registry but not here. Answers the tag, its exact
    /// reference, and what must be kept for the registry to stay.
    pub(super) async fn published(&self, kind: Kind) -> (String, ImagePin, Option<Registry>) {
        match &self.outside {
            Outside::Fake(fake) => {
                let pin = fake.publish("registry.example/web:v1", behaviour(kind));
                ("registry.example/web:v1".to_owned(), pin, None)
            }
            Outside::Real(cleaner) => {
                let registry = Registry::serve(&cleaner.0, kind, Manner::Plain).await;
                (registry.tag.clone(), ImagePin::RepoDigest(registry.digest.clone()), Some(registry))
            }
        }
    }

    /// Makes a container under this name that carries none of our labels.
    pub(super) async fn occupy_name(&self, name: &str, image: &ImagePin) {
        match &self.outside {
            Outside::Fake(fake) => fake.occupy_name(name),
            Outside::Real(cleaner) => {
                let options = bollard::query_parameters::CreateContainerOptions {
                    name: Some(name.to_owned()),
                    ..Default::default()
                };
                let body = bollard::models::ContainerCreateBody {
                    image: Some(image.reference().to_owned()),
                    labels: Some([(cleaner.0.clone(), String::new())].into()),
                    ..Default::default()
                };
                docker().create_container(Some(options), body).await.unwrap();
            }
        }
    }

    /// Takes a container off its network, as a person does.
    pub(super) async fn disconnect(&self, id: &str) {
        match &self.outside {
            Outside::Fake(fake) => fake.disconnect(id),
            Outside::Real(_) => {
                let request = bollard::models::NetworkDisconnectRequest { container: id.to_owned(), force: None };
                docker().disconnect_network(&self.network.name, request).await.unwrap();
            }
        }
    }

    pub(super) fn container(&self, pin: &ImagePin) -> Container {
        Container {
            name: "app".to_owned(),
            image: "contract".to_owned(),
            pin: pin.clone(),
            environment: [("GREETING".to_owned(), "hello world=1".to_owned())].into(),
            command: Vec::new(),
            port: 8080,
            healthcheck: check(),
            stop_grace_period: Duration::from_secs(10),
        }
    }

    pub(super) fn labels(&self, colour: Colour, generation: u64) -> Labels {
        Labels {
            host: self.host.clone(),
            service: "web".parse().unwrap(),
            container: "app".to_owned(),
            colour,
            berth: Berth::A,
            generation: Generation(generation),
            release: ReleaseDigest([1; 32]),
        }
    }

    pub(super) fn address(&self, number: usize) -> Ipv4Addr {
        self.network.subnet.hosts().nth(number).unwrap()
    }

    /// Creates a blue container at the first address.
    pub(super) async fn create(&self, container: &Container) -> Result<String, EngineError> {
        self.create_as(container, self.labels(Colour::Blue, 1), self.address(0)).await
    }

    pub(super) async fn create_as(
        &self,
        container: &Container,
        labels: Labels,
        address: Ipv4Addr,
    ) -> Result<String, EngineError> {
        self.engine.create(&CreateRequest { labels, container, network: &self.network.name, address }).await
    }

    pub(super) async fn is_healthy_at(&self, address: Ipv4Addr) -> bool {
        let address = SocketAddrV4::new(address, 8080);
        // A container of a busy machine may take long: no bad answer counts before the deadline.
        let check = Healthcheck { start_period: PATIENCE, ..check() };
        let deadline = Instant::now() + PATIENCE;
        crate::health::wait_until_healthy(&*self.prober, address, &check, deadline, |_| {}).await.is_ok()
    }
}

/// Quick, because most cases only want to know.
pub(super) fn check() -> Healthcheck {
    Healthcheck {
        probe: Probe::Http("/health".to_owned()),
        port: 8080,
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        successes: 2,
        retries: 3,
        start_period: Duration::from_millis(500),
        settle: Duration::from_millis(50),
    }
}

fn behaviour(kind: Kind) -> Behaviour {
    let serves = Behaviour { healthy_after: Some(Duration::ZERO), ..Default::default() };
    match kind {
        Kind::Serves => serves,
        Kind::Stubborn => Behaviour { ignores_stop: true, ..serves },
        Kind::Sick => Behaviour::default(),
        Kind::Dies => Behaviour {
            dies: Some(Death { after: Duration::from_millis(100), exit_code: 3, out_of_memory: false }),
            log: LAST_WORDS.map(|words| words.replace("ESC", "\u{1b}")).into(),
            ..serves
        },
    }
}

/// Makes a network in the first subnet that none has: other tests look for one in the same range.
async fn free_network(engine: &dyn Engine, name: String) -> Network {
    let first = unique();
    for number in first..first + 256 {
        let network = Network { name: name.clone(), subnet: subnet(number % 256) };
        match engine.ensure_network(&network).await {
            Ok(()) => return network,
            Err(EngineError::Network { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no subnet in 172.29.0.0/16 is free: see `docker network ls`")
}

fn subnet(number: u32) -> Subnet {
    format!("172.29.{number}.0/24").parse().unwrap()
}

pub(super) fn docker() -> Docker {
    Docker::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION).unwrap()
}

/// Removes what carries this name from the real Docker: containers by label, network, images.
struct Cleaner(String);

impl Drop for Cleaner {
    fn drop(&mut self) {
        let name = self.0.clone();
        // A runtime of its own: this one may be ending with a panic.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clean(&name));
        });
        assert!(cleaned.join().is_ok() || std::thread::panicking(), "the real Docker could not be cleaned");
    }
}

async fn clean(name: &str) {
    let docker = docker();
    let containers = ListContainersOptions { all: true, ..Default::default() };
    for container in docker.list_containers(Some(containers)).await.unwrap() {
        let labels = container.labels.unwrap_or_default();
        let ours = labels.get("bgctl.host").is_some_and(|host| host.starts_with(name)) || labels.contains_key(name);
        if let (true, Some(id)) = (ours, container.id) {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            docker.remove_container(&id, Some(options)).await.unwrap();
        }
    }
    // It is missing when the test never got so far.
    docker.remove_network(name).await.ok();
    for image in docker.list_images(None::<ListImagesOptions>).await.unwrap() {
        let of_ours = |reference: &String| {
            let (repository, _) = reference.split_once('@').or(reference.rsplit_once(':')).unwrap_or((reference, ""));
            repository == name || repository.ends_with(&format!("/{name}"))
        };
        for reference in image.repo_tags.iter().chain(&image.repo_digests).filter(|reference| of_ours(reference)) {
            docker.remove_image(reference, None::<RemoveImageOptions>, None).await.unwrap();
        }
    }
}

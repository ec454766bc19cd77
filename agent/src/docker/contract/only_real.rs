//! What only the real engine can show: the shape of a container, logins, stalls, and a daemon that is
//! gone or hangs. The system's own daemon is left running; a proxy before its socket goes instead.

use super::bench::{Bench, PATIENCE, docker};
use super::image::Kind;
use super::registry::{Manner, Registry};
use super::until_exited;
use crate::docker::real::{DockerEngine, Limits, SOCKET};
use crate::docker::{CreateRequest, Engine, EngineError};
use crate::release::ImagePin;
use cutover::ids::Colour;
use futures_util::StreamExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

fn quick() -> Limits {
    let short = Duration::from_millis(200);
    Limits { look: short, act: short, stop_margin: short, registry: short, ..Limits::default() }
}

#[tokio::test]
async fn a_container_is_made_as_a_release_wants_it() {
    let bench = Bench::real().await;
    let mut container = bench.container(&bench.image(Kind::Serves).await);
    container.command = ["/program", "say", "GREETING"].map(str::to_owned).into();
    container.stop_grace_period = Duration::from_millis(7500);
    let id = bench.create(&container).await.unwrap();
    let found = docker().inspect_container(&id, None).await.unwrap();
    let (config, host) = (found.config.unwrap(), found.host_config.unwrap());
    assert_eq!(found.name.unwrap(), format!("/{}", bench.labels(Colour::Blue, 1).container_name()));
    assert_eq!(config.stop_timeout, Some(8));
    assert_eq!(config.env.unwrap()[0], "GREETING=hello world=1");
    assert_eq!(format!("{:?}", host.restart_policy.unwrap().name), "Some(NO)");
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
    assert_eq!(host.init, Some(false));
    assert!(host.port_bindings.unwrap_or_default().is_empty(), "nothing is published");
    let log = host.log_config.unwrap();
    assert_eq!(log.typ.as_deref(), Some("json-file"));
    let limit = |key: &str| log.config.as_ref().and_then(|config| config.get(key)).cloned();
    assert_eq!((limit("max-size").as_deref(), limit("max-file").as_deref()), (Some("10m"), Some("3")));
    bench.engine.start(&id).await.unwrap();
    until_exited(&bench, &id).await;
    let said = bench.engine.log_tail(&id, 10).await.unwrap();
    assert_eq!(said, [r#"GREETING is Ok("hello world=1")"#], "standard error is read too");
}

#[tokio::test]
async fn a_login_of_the_host_opens_a_registry() {
    // The library's own base64 of this password has characters that Docker does not read.
    let (login, auth) = ("ann:a>~?b>~?c>~?", "YW5uOmE+fj9iPn4/Yz5+Pw==");
    let bench = Bench::real().await;
    let name = bench.network.name.clone();
    let registry = Registry::serve(&name, Kind::Serves, Manner::Login("Basic YW5uOmE+fj9iPn4/Yz5+Pw==")).await;
    let pin = ImagePin::RepoDigest(registry.digest.clone());
    let without = DockerEngine::with(SOCKET, Vec::new(), Limits::default());
    let error = without.pull(&pin, &|_| {}).await.unwrap_err();
    assert!(matches!(&error, EngineError::ImageMissing { .. }), "{error}");
    assert!(without.registry_digest(&registry.tag).await.is_err());

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let (host, _) = registry.tag.split_once('/').unwrap();
    std::fs::write(&file, format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#)).unwrap();
    let with = DockerEngine::with(SOCKET, vec![file], Limits::default());
    assert_eq!(with.registry_digest(&registry.tag).await, Ok(registry.digest.clone()), "{login}");
    with.pull(&pin, &|_| {}).await.unwrap();
}

#[tokio::test]
async fn a_stalled_pull_is_begun_anew_and_given_up() {
    let bench = Bench::real().await;
    let registry = Registry::serve(&bench.network.name, Kind::Serves, Manner::Stalls).await;
    let limits = Limits { pull_quiet: Duration::from_millis(700), pull_retries: 1, ..Limits::default() };
    let engine = DockerEngine::with(SOCKET, Vec::new(), limits);
    let error = engine.pull(&ImagePin::RepoDigest(registry.digest.clone()), &|_| {}).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&registry.digest) && text.contains("nothing for 700ms, 2 times over"), "{text}");
    assert_eq!(registry.layer_requests.load(Ordering::SeqCst), 2, "each try is a request of its own");
}

#[tokio::test]
async fn a_daemon_that_never_answers_is_unresponsive() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    // Connections are queued and never accepted, as with a daemon that was stopped.
    let _listener = UnixListener::bind(&socket).unwrap();
    let engine = DockerEngine::with(&socket, Vec::new(), quick());
    let error = engine.image("web:v1").await.unwrap_err();
    assert!(matches!(&error, EngineError::Unresponsive { limit, .. } if *limit == quick().look), "{error}");
}

#[tokio::test]
async fn a_daemon_that_is_gone_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let engine = DockerEngine::with(&socket, Vec::new(), quick());
    for cause in ["docker.sock", "refused"] {
        let error = engine.version().await.unwrap_err();
        assert!(matches!(&error, EngineError::Unreachable { detail } if detail.contains(cause)), "{error}");
        // Left behind, with nobody listening.
        drop(std::os::unix::net::UnixListener::bind(&socket));
    }
}

#[tokio::test]
async fn outlives_a_restart_of_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let bench = Bench::real().await;
    let engine = DockerEngine::new(&socket);
    let proxy = Proxy::run(socket.clone());
    let mut events = engine.events(&bench.host).await.unwrap();
    // A first event shows that the stream is there.
    let dies = bench.container(&bench.image(Kind::Dies).await);
    let request = CreateRequest {
        labels: bench.labels(Colour::Blue, 1),
        container: &dies,
        network: &bench.network.name,
        address: bench.address(0),
    };
    let id = engine.create(&request).await.unwrap();
    engine.start(&id).await.unwrap();
    assert!(timeout(PATIENCE, events.next()).await.unwrap().is_some());

    proxy.stop().await;
    assert!(timeout(PATIENCE, events.next()).await.expect("the stream ends with the connection").is_none());
    assert!(matches!(engine.inspect(&id).await, Err(EngineError::Unreachable { .. })));
    std::fs::remove_file(&socket).unwrap();
    let proxy = Proxy::run(socket);
    assert!(engine.inspect(&id).await.unwrap().is_some());
    assert!(engine.events(&bench.host).await.is_ok());
    proxy.stop().await;
}

/// Passes connections on to the real socket, until it is stopped.
struct Proxy(JoinHandle<()>);

impl Proxy {
    fn run(socket: PathBuf) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        Self(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut far = UnixStream::connect(SOCKET).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        }))
    }

    async fn stop(self) {
        self.0.abort();
        // It ends with an abort error: that is what was asked for.
        self.0.await.unwrap_err();
    }
}

//! The sample service's images on real Docker: made once, distinct, and each behaving as its name says.

use bgctl_tests::images::{self, IMAGES, REPOSITORY};
use bgctl_tests::load::{Load, LoadOptions, Method, Target};
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::TryStreamExt;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

fn docker() -> Docker {
    Docker::connect_with_unix_defaults().expect("Docker; see `make install-packages`")
}

/// A container of one image; removed at the end, also of a failed test.
struct Container {
    docker: Docker,
    id: String,
}

impl Container {
    async fn start(tag: &str) -> Self {
        let docker = docker();
        let body = ContainerCreateBody { image: Some(format!("{REPOSITORY}:{tag}")), ..Default::default() };
        let created = docker.create_container(None::<CreateContainerOptions>, body).await.expect("a container");
        let container = Self { docker, id: created.id };
        container.docker.start_container(&container.id, None).await.expect("a start");
        container
    }

    async fn address(&self) -> SocketAddr {
        let facts = self.docker.inspect_container(&self.id, None).await.expect("it is there");
        let networks = facts.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.into_values().find_map(|network| network.ip_address).expect("an address");
        SocketAddr::new(address.parse::<IpAddr>().expect("an IP address"), 8080)
    }

    /// Waits for an answer to GET on `path`, whatever it is; the counters of that one.
    async fn first_answer(&self, path: &str) -> bgctl_tests::load::LoadReport {
        let target = Target { path: path.to_owned(), ..Target::new(self.address().await) };
        let options = LoadOptions { connections: 1, method: Method::Get, time_max: LIMIT, ..LoadOptions::default() };
        let load = Load::start(vec![target], options).expect("good options");
        load.wait_until("an answer", LIMIT, |report| report.total.ok + report.total.failed_status > 0)
            .await
            .expect("an answer");
        load.stop().await
    }

    async fn exit_code(&self) -> i64 {
        let deadline = Instant::now() + LIMIT;
        loop {
            let facts = self.docker.inspect_container(&self.id, None).await.expect("it is there");
            let state = facts.state.expect("a state");
            if state.running == Some(false) {
                return state.exit_code.expect("an exit code");
            }
            assert!(Instant::now() < deadline, "it still runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn logs(&self) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let lines: Vec<_> = self.docker.logs(&self.id, Some(options)).try_collect().await.expect("logs");
        lines.iter().map(ToString::to_string).collect()
    }

    async fn remove(self) {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        self.docker.remove_container(&self.id, Some(options)).await.expect("it can be removed");
    }
}

/// Runs `check` on a container of `tag`, and removes it also when the check fails.
async fn with(tag: &'static str, check: impl AsyncFn(&Container)) {
    let _in_use = images::ensure(&docker()).await.expect("images");
    let container = Container::start(tag).await;
    let outcome = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(check(&container))).await;
    container.remove().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn ids() -> Vec<String> {
    let docker = docker();
    let mut ids = Vec::new();
    for (tag, _) in IMAGES {
        let facts = docker.inspect_image(&format!("{REPOSITORY}:{tag}")).await.expect("the image");
        ids.push(facts.id.expect("an id"));
    }
    ids
}

#[tokio::test]
async fn images_are_distinct_and_made_only_once() {
    let _in_use = images::ensure(&docker()).await.expect("images");
    let first = ids().await;
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), IMAGES.len());
    images::ensure(&docker()).await.expect("images");
    assert_eq!(ids().await, first);
}

#[tokio::test]
async fn images_in_use_are_not_removed() {
    let _in_use = images::ensure(&docker()).await.expect("images");
    assert!(!images::remove(&docker()).await.expect("an answer"));
    assert_eq!(ids().await.len(), IMAGES.len());
}

#[tokio::test]
async fn a_version_answers_with_its_name_and_ends_when_asked() {
    with("v2", async |container| {
        let report = container.first_answer("/").await;
        assert_eq!(report.targets[0].sequence(), "v2");
        assert!(container.first_answer("/health").await.total.ok > 0);
        assert_eq!(container.logs().await.lines().count(), 1);
        let asked = Instant::now();
        let options = StopContainerOptionsBuilder::new().t(10).build();
        container.docker.stop_container(&container.id, Some(options)).await.expect("a stop");
        // Far below the grace period: it heard SIGTERM.
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(container.exit_code().await, 0);
    })
    .await;
}

#[tokio::test]
async fn broken_is_never_healthy() {
    with("broken", async |container| {
        let report = container.first_answer("/health").await;
        assert_eq!(report.total.ok, 0, "{report}");
        assert!(report.to_string().contains("status 503 from version broken"), "{report}");
    })
    .await;
}

#[tokio::test]
async fn slow_listens_after_three_seconds() {
    let started = Instant::now();
    with("slow", async |container| {
        container.first_answer("/health").await;
        assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    })
    .await;
}

#[tokio::test]
async fn crash_says_why_and_ends_with_one() {
    with("crash", async |container| {
        assert_eq!(container.exit_code().await, 1);
        let logs = container.logs().await;
        assert!(logs.starts_with("connecting to the database"), "{logs}");
        assert!(logs.trim_end().ends_with("cannot start without a database"), "{logs}");
    })
    .await;
}

#[tokio::test]
async fn late_is_healthy_and_then_ends_with_one() {
    with("late", async |container| {
        assert!(container.first_answer("/health").await.total.ok > 0);
        assert_eq!(container.exit_code().await, 1);
    })
    .await;
}

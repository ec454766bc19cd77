//! The sample service in containers, and the plainest way to ask it.

use crate::place::Place;
use anyhow::{Context, bail};
use bgctl_tests::images::REPOSITORY;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, Ipam, IpamConfig,
    NetworkCreateRequest, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the sample service listens.
const PORT: u16 = 8080;
/// Between two looks at something that is about to happen: a hundredth of what is measured with it.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The sample service listens within milliseconds of its start.
const HEALTHY_LIMIT: Duration = Duration::from_secs(30);
/// An answer takes far less; one that was lost must not hold up the bench.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A container that answers.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Docker's name for it.
    pub id: String,
    /// On its bridge network.
    pub address: SocketAddrV4,
}

/// A bridge network of the bench's own, in which containers choose their addresses.
#[derive(Debug, Clone)]
pub struct Network {
    name: String,
    base: Ipv4Addr,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Of the sample service that answered.
    pub version: Option<String>,
}

/// Makes a bridge network of the bench's own.
pub async fn network(place: &Place) -> anyhow::Result<Network> {
    let name = format!("bgctl-bench-{:08x}", rand::random::<u32>());
    let request = |ipam| NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".to_owned()),
        labels: Some(place.labels()),
        ipam,
        ..Default::default()
    };
    let docker = &place.docker;
    docker.create_network(request(None)).await.context("cannot make a Docker network")?;
    let facts = docker.inspect_network(&name, None).await.context("cannot look at a Docker network")?;
    let config = facts.ipam.and_then(|ipam| ipam.config).and_then(|mut configs| configs.pop()).unwrap_or_default();
    let subnet = config.subnet.clone().unwrap_or_default();
    let base: Ipv4Addr = subnet.split('/').next().unwrap_or_default().parse().context("a Docker network's subnet")?;
    // Docker has found a subnet that is free; containers may choose their addresses only where it was asked for.
    docker.remove_network(&name).await.context("cannot remove a Docker network")?;
    let ipam =
        Ipam { config: Some(vec![IpamConfig { subnet: Some(subnet), ..Default::default() }]), ..Default::default() };
    docker.create_network(request(Some(ipam))).await.context("cannot make a Docker network")?;
    Ok(Network { name, base })
}

/// Creates and starts a container of the sample service, and returns with its first healthy answer: two calls of
/// Docker's API, with what the agent gives it, and a look every millisecond. `host`: the last byte of its address, from 2.
pub async fn start(place: &Place, network: &Network, host: u8, version: &str) -> anyhow::Result<Backend> {
    let backend = create_and_start(place, network, host, version, None).await?;
    healthy(backend.address.into()).await?;
    Ok(backend)
}

/// As [`start`], and also published on the machine's loopback; through docker-proxy, which serves that.
pub async fn start_published(
    place: &Place,
    network: &Network,
    host: u8,
    version: &str,
) -> anyhow::Result<(Backend, SocketAddr)> {
    let published = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, place.port()?));
    let backend = create_and_start(place, network, host, version, Some(published)).await?;
    healthy(backend.address.into()).await?;
    healthy(published).await?;
    Ok((backend, published))
}

async fn create_and_start(
    place: &Place,
    network: &Network,
    host: u8,
    version: &str,
    published: Option<SocketAddr>,
) -> anyhow::Result<Backend> {
    let [a, b, c, _] = network.base.octets();
    let address = Ipv4Addr::new(a, b, c, host);
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..Default::default() }),
        ..Default::default()
    };
    let log = [("max-size", "10m"), ("max-file", "3")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let key = format!("{PORT}/tcp");
    let binding = published.map(|published| PortBinding {
        host_ip: Some(published.ip().to_string()),
        host_port: Some(published.port().to_string()),
    });
    let body = ContainerCreateBody {
        image: Some(format!("{REPOSITORY}:{version}")),
        labels: Some(place.labels()),
        exposed_ports: published.is_some().then(|| vec![key.clone()]),
        host_config: Some(HostConfig {
            network_mode: Some(network.name.clone()),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log.into()) }),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            init: Some(false),
            port_bindings: binding.map(|binding| [(key, Some(vec![binding]))].into()),
            ..Default::default()
        }),
        networking_config: Some(NetworkingConfig { endpoints_config: Some([(network.name.clone(), endpoint)].into()) }),
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::new().build();
    let created = place.docker.create_container(Some(options), body).await.context("cannot create a container")?;
    place.docker.start_container(&created.id, None).await.context("cannot start a container")?;
    Ok(Backend { id: created.id, address: SocketAddrV4::new(address, PORT) })
}

/// Returns with the first 200 to a GET of `/health`.
async fn healthy(address: SocketAddr) -> anyhow::Result<()> {
    until_answer(address, "/health", HEALTHY_LIMIT, |answer| answer.status == 200).await
}

/// Returns once a new connection is answered by this version.
pub async fn served(address: SocketAddr, version: &str, limit: Duration) -> anyhow::Result<()> {
    until_answer(address, "/", limit, |answer| answer.version.as_deref() == Some(version)).await
}

/// One GET on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    tokio::time::timeout(ANSWER_LIMIT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn until_answer(
    address: SocketAddr,
    path: &str,
    limit: Duration,
    wanted: impl Fn(&Answer) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = get(address, path).await;
        if answer.as_ref().is_ok_and(&wanted) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("http://{address}{path} does not answer as it should within {limit:?}; last: {answer:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn parse(text: &str) -> Option<Answer> {
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    // HAProxy writes names in lower case.
    let mut headers = text.lines().filter_map(|line| line.split_once(": "));
    let version = headers.find(|(name, _)| name.eq_ignore_ascii_case("X-App-Version")).map(|(_, value)| value);
    Some(Answer { status, version: version.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_what_is_none_is_not() {
        for name in ["X-App-Version", "x-app-version"] {
            let text = format!("HTTP/1.1 200 OK\r\n{name}: v1\r\n\r\nv1\n");
            assert_eq!(parse(&text), Some(Answer { status: 200, version: Some("v1".to_owned()) }));
        }
        assert_eq!(parse("HTTP/1.1 503 Busy\r\n\r\n"), Some(Answer { status: 503, version: None }));
        assert_eq!(parse(""), None);
    }
}

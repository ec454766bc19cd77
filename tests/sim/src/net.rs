//! The simulated network, where the programs expect a real one.

use async_trait::async_trait;
use bgctl_proto::link::{Dial, Io, Listen};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use turmoil::net::{TcpListener, TcpStream};

/// Where controllers listen.
pub const CONTROLLER_PORT: u16 = 7443;

/// Where etcd listens.
pub const ETCD_PORT: u16 = 2379;

/// The host etcd runs on.
pub const ETCD: &str = "etcd";

/// As the store's client is set for a real network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens connections to hosts by their names.
#[derive(Debug, Clone, Copy)]
pub struct SimDial;

#[async_trait]
impl Dial for SimDial {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(TcpStream::connect(address).await?))
    }
}

/// A port of the host whose turn it is.
pub struct SimListener(TcpListener);

impl SimListener {
    /// Listens on it.
    pub async fn bind(port: u16) -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map(Self)
    }

    /// The next connection, for a server without TLS.
    pub async fn accept_plain(&self) -> io::Result<Plain> {
        self.0.accept().await.map(|(stream, _)| Plain(stream))
    }
}

#[async_trait]
impl Listen for SimListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, String)> {
        let (stream, from) = self.0.accept().await?;
        Ok((Box::new(stream), from.to_string()))
    }
}

/// A connection to etcd, which is reached without TLS: its identity is not what is shown here.
pub struct Plain(TcpStream);

impl Connected for Plain {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A channel to etcd that connects when it is used, and again when it broke.
pub fn etcd_channel() -> Channel {
    let connector = tower::service_fn(|_: http::Uri| async {
        let stream = TcpStream::connect((ETCD, ETCD_PORT)).await?;
        Ok::<_, io::Error>(TokioIo::new(stream))
    });
    Endpoint::from_static("http://etcd:2379")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false)
        .connect_with_connector_lazy(connector)
}

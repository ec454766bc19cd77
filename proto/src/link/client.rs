//! The dialling side: one HTTP/2 channel over one mTLS link.

use super::Io;
use super::identity::CONTROLLER_NAME;
use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Dial, handshake and HTTP/2 preface together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A link on which nothing comes back for this long after a ping is dead. Agents find out about a
/// controller that vanished without a word within interval + timeout.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How an address becomes a connection.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens a connection to `HOST:PORT`.
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Io>>;
}

/// TCP, by name or address.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDial;

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Io>> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing came of it.
    #[error("cannot reach the controller at {address}: {detail}")]
    Unreachable {
        /// As given.
        address: String,
        /// The innermost cause.
        detail: String,
        /// What the operating system calls it, where it is one of its errors.
        kind: Option<io::ErrorKind>,
    },
}

impl LinkError {
    /// As it looks while a controller restarts: nobody listens yet, or whoever did went away in the handshake.
    pub fn is_of_a_restart(&self) -> bool {
        let Self::Unreachable { kind, .. } = self;
        matches!(
            kind,
            Some(
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            )
        )
    }
}

/// Opens a channel to the controller at that address. Fails at once if nobody is there; does not try again.
pub async fn connect(address: &str, config: Arc<ClientConfig>, dial: Arc<dyn Dial>) -> Result<Channel, LinkError> {
    let connector = TlsConnector::from(config);
    let target = address.to_owned();
    let service = tower::service_fn(move |_: http::Uri| {
        let (connector, dial, target) = (connector.clone(), Arc::clone(&dial), target.clone());
        async move {
            let name = ServerName::try_from(CONTROLLER_NAME).map_err(io::Error::other)?;
            let stream = connector.connect(name, dial.dial(&target).await?).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The scheme is http: TLS is the connector's business. The name is only what HTTP/2 calls its authority.
    let endpoint = Endpoint::from_static("http://controller.bgctl.internal")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint.connect_with_connector(service).await.map_err(|error| {
        let cause = innermost(&error);
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        LinkError::Unreachable { address: address.to_owned(), detail: cause.to_string(), kind }
    })
}

/// The cause that has no cause: what a person is told of an error with many layers.
pub fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

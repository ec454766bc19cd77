//! The listening side: a stream of links whose other end is known.

use super::Io;
use super::identity::Peer;
use async_trait::async_trait;
use rustls::ServerConfig;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// A client that has not finished its handshake by then is cut: a host needs a few milliseconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Handshakes under way at once; more wait in the kernel's queue. A stalled client holds one of these
/// for at most `HANDSHAKE_TIMEOUT`.
const HANDSHAKES_MAX: usize = 256;

/// Where connections come from.
#[async_trait]
pub trait Listen: Send + 'static {
    /// The next connection, and where it is from, for the log.
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, String)>;
}

#[async_trait]
impl Listen for tokio::net::TcpListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, String)> {
        let (stream, from) = tokio::net::TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), from.to_string()))
    }
}

/// A connection whose other end has shown a certificate of our CA.
pub struct Link {
    stream: TlsStream<Box<dyn Io>>,
    caller: Caller,
}

/// Who calls, and from where: an extension of every request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// By its certificate.
    pub peer: Peer,
    /// As the listener names it, for people.
    pub from: String,
}

impl Connected for Link {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

/// Accepts until the receiver is dropped. Each handshake has its own task and time limit, so that one
/// slow client holds up nobody.
pub fn incoming(mut listener: impl Listen, config: Arc<ServerConfig>) -> ReceiverStream<io::Result<Link>> {
    let (links, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = links.closed() => return,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a connection gone before it was taken: neither ends the service.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (acceptor, links) = (acceptor.clone(), links.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(&acceptor, stream, from.clone())).await {
                    Ok(Ok(link)) => drop(links.send(Ok(link)).await),
                    Ok(Err(error)) => tracing::info!(%from, %error, "connection refused"),
                    Err(_) => tracing::info!(%from, "connection refused: the TLS handshake took too long"),
                }
                drop(permit);
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn handshake(acceptor: &TlsAcceptor, stream: Box<dyn Io>, from: String) -> io::Result<Link> {
    let stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or_else(|| io::Error::other("no client certificate"))?;
    let peer = Peer::from_certificate(certificate).map_err(io::Error::other)?;
    Ok(Link { stream, caller: Caller { peer, from } })
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

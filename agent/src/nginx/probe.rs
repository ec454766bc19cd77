//! HTTP/1.1 over nginx's unix socket. Each connection is new, so that it reaches a worker that accepts
//! now, and never holds back an old worker's end.

use super::{ProxyError, files};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A worker answers in well under a millisecond; a host that swaps may take a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The longest answer is the generation file: 500 services at less than 100 bytes each.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where nginx's control server listens.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    socket: PathBuf,
}

/// One connection to it. Ends when dropped.
pub(super) struct Connection<'a> {
    probe: &'a Probe,
    sender: SendRequest<Empty<Bytes>>,
}

impl Probe {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(super) async fn connect(&self) -> Result<Connection<'_>, ProxyError> {
        let opened = timeout(ANSWER_LIMIT, async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| error.to_string())?;
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())
        });
        let (sender, connection) =
            opened.await.map_err(|_| self.silent())?.map_err(|detail| self.not_answering(detail))?;
        // Ends with the sender. What went wrong in it is told to the request that waits for an answer.
        tokio::spawn(connection);
        Ok(Connection { probe: self, sender })
    }

    /// The digest of the shape in force.
    pub(super) async fn shape(&self) -> Result<String, ProxyError> {
        let (status, text) = self.connect().await?.get("/shape").await?;
        if status == StatusCode::OK {
            Ok(text)
        } else {
            Err(self.not_answering(format!("it answers {status} for /shape: not a config of ours")))
        }
    }

    /// Removes the socket of an nginx that was killed: nobody else would, and the next one could not
    /// bind it.
    pub(super) fn clear_stale(&self) -> Result<(), ProxyError> {
        match std::os::unix::net::UnixStream::connect(&self.socket) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => files::remove(&self.socket),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub(super) fn not_answering(&self, detail: String) -> ProxyError {
        ProxyError::NotAnswering { socket: self.socket.display().to_string(), detail }
    }

    fn silent(&self) -> ProxyError {
        ProxyError::Silent { socket: self.socket.display().to_string(), waited: ANSWER_LIMIT }
    }
}

impl Connection<'_> {
    /// Status and body of `path`.
    pub(super) async fn get(&mut self, path: &str) -> Result<(StatusCode, String), ProxyError> {
        let request = Request::get(path).header("host", "bgctl").body(Empty::new());
        let request = request.map_err(|error| self.probe.not_answering(error.to_string()))?;
        let answer = timeout(ANSWER_LIMIT, async {
            self.sender.ready().await.map_err(|error| error.to_string())?;
            let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        });
        answer.await.map_err(|_| self.probe.silent())?.map_err(|detail: String| self.probe.not_answering(detail))
    }
}

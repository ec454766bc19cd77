//! One probe over the network.

use super::Prober;
use crate::release::{Healthcheck, Probe};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// What a probe says of an address where nobody listens.
pub const REFUSED: &str = "connection refused";

/// Whoever has an address of a bridge on this host answers within a tenth of a millisecond; nobody is silence.
const ANYBODY_LIMIT: Duration = Duration::from_millis(50);

/// Where to knock: nobody listens on the discard port, and if somebody does, that is an answer too.
const ANYBODY_PORT: u16 = 9;

/// Probes over the network, each on a connection of its own: a kept connection would not notice that the
/// listener is gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkProber;

#[async_trait]
impl Prober for NetworkProber {
    async fn probe(&self, address: SocketAddrV4, check: &Healthcheck) -> Result<String, String> {
        let asked = Instant::now();
        let probe = async {
            let stream = TcpStream::connect(address).await.map_err(|error| connect_failure(&error))?;
            match &check.probe {
                Probe::Tcp => Ok("connected".to_owned()),
                Probe::Http(path) => get(stream, address, path).await,
            }
        };
        let in_time = timeout(check.timeout, probe).await;
        let answer = in_time.map_err(|_| format!("no answer within {:?}", check.timeout))??;
        let millis = asked.elapsed().as_secs_f64() * 1000.0;
        let text = format!("{answer} in {millis:.1} ms");
        if is_bad_status(&answer) { Err(text) } else { Ok(text) }
    }

    async fn is_anybody(&self, address: Ipv4Addr) -> bool {
        match timeout(ANYBODY_LIMIT, TcpStream::connect((address, ANYBODY_PORT))).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            Err(_) => false,
        }
    }
}

/// Answers the status as text. The body is not waited for.
async fn get(stream: TcpStream, address: SocketAddrV4, path: &str) -> Result<String, String> {
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, concat!("bgctl-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("path {path:?} cannot be asked for: {error}"))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| http_failure(&error))?;
    let mut answer = pin!(sender.send_request(request));
    // The connection may end right behind the answer, and then the answer is still to be taken.
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    answer.map(|response| response.status().as_u16().to_string()).map_err(|error| http_failure(&error))
}

fn is_bad_status(answer: &str) -> bool {
    let good = |status: StatusCode| status.is_success() || status.is_redirection();
    answer.parse().is_ok_and(|status: StatusCode| !good(status))
}

fn connect_failure(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return REFUSED.to_owned();
    }
    if error.kind() == io::ErrorKind::HostUnreachable {
        return "no route to host".to_owned();
    }
    format!("cannot connect: {error}")
}

fn http_failure(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "closed the connection without an answer".to_owned();
    }
    if error.is_parse() {
        return "answered something that is not HTTP".to_owned();
    }
    format!("no answer: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn check(probe: Probe) -> Healthcheck {
        let second = Duration::from_secs(1);
        Healthcheck {
            probe,
            port: 0,
            interval: second,
            timeout: Duration::from_millis(200),
            successes: 1,
            retries: 1,
            start_period: second,
            settle: second,
        }
    }

    /// Serves one connection with these bytes, then closes it or, when they are None, keeps it open.
    async fn answered(bytes: Option<&'static [u8]>, probe: Probe) -> (Result<String, String>, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            match bytes {
                Some(bytes) => stream.write_all(bytes).await.unwrap(),
                None => std::future::pending().await,
            }
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let answer = NetworkProber.probe(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), &check(probe)).await;
        let request = match bytes {
            Some(_) => server.await.unwrap(),
            None => String::new(),
        };
        (answer, request)
    }

    fn http() -> Probe {
        Probe::Http("/up?deep=1".to_owned())
    }

    #[tokio::test]
    async fn statuses_200_to_399_are_good() {
        for (answer, good) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], true),
            (b"HTTP/1.1 204 No Content\r\n\r\n", true),
            (b"HTTP/1.0 302 Found\r\nlocation: /login\r\n\r\n", true),
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
        ] {
            let (result, request) = answered(Some(answer), http()).await;
            let status = std::str::from_utf8(&answer[9..12]).unwrap();
            assert_eq!(result.is_ok(), good, "{status}: {result:?}");
            let text = result.unwrap_or_else(|bad| bad);
            assert!(text.starts_with(&format!("{status} in ")) && text.ends_with(" ms"), "{text}");
            assert!(request.starts_with("GET /up?deep=1 HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("host: 127.0.0.1:"), "{request}");
        }
    }

    #[tokio::test]
    async fn says_why_there_is_no_answer() {
        let closed = "closed the connection without an answer";
        let nonsense = "answered something that is not HTTP";
        assert_eq!(answered(Some(b""), http()).await.0, Err(closed.to_owned()));
        assert_eq!(answered(Some(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), http()).await.0, Err(nonsense.to_owned()));
        assert_eq!(answered(None, http()).await.0, Err("no answer within 200ms".to_owned()));
    }

    #[tokio::test]
    async fn tcp_asks_only_for_the_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
        let answer = NetworkProber.probe(address, &check(Probe::Tcp)).await.unwrap();
        assert!(answer.starts_with("connected in "), "{answer}");
        drop(listener);
        let answer = NetworkProber.probe(address, &check(Probe::Tcp)).await;
        assert_eq!(answer, Err("connection refused".to_owned()));
    }
}

//! A user's client: keeps its connection, sends POST, never tries twice.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddrV4;
use tokio::net::TcpStream;

pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    /// The last answer said that the connection ends with it (nginx's `keepalive_requests`).
    pub(crate) is_last: bool,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddrV4) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { sender, is_last: false })
    }

    /// Nobody has closed it.
    pub(crate) async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Status and body.
    pub(crate) async fn post(&mut self, headers: &[(&str, &str)]) -> Result<(StatusCode, String), String> {
        let mut request = Request::post("/some/path?with=query");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from("a body")).map_err(|error| error.to_string())?;
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        self.is_last = answer.headers().get(http::header::CONNECTION).is_some_and(|value| value == "close");
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// One POST on a connection of its own: the status, and the name of the backend that answered.
pub(crate) async fn post(address: SocketAddrV4, host: &str) -> (StatusCode, String) {
    let mut client = Client::connect(address).await.unwrap();
    let (status, body) = client.post(&[("host", host)]).await.unwrap();
    (status, body.lines().next().unwrap_or_default().to_owned())
}

/// One GET, as a load balancer asks: status and body.
pub(crate) async fn get(address: SocketAddrV4, path: &str) -> (StatusCode, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "10.0.0.1").body(Full::<Bytes>::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

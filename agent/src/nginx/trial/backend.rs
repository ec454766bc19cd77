//! A container's stand-in: a task that answers each request with its own name and the head it was sent.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Ends with everything it holds when dropped.
pub(crate) struct Backend {
    stop: CancellationToken,
    tasks: TaskTracker,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) async fn start(address: SocketAddrV4, name: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address.into()).unwrap();
        let backend = Self { stop: CancellationToken::new(), tasks: TaskTracker::new(), connections: Arc::default() };
        let accept = accept(
            socket.listen(1024).unwrap(),
            name.to_owned(),
            backend.stop.clone(),
            backend.tasks.clone(),
            Arc::clone(&backend.connections),
        );
        backend.tasks.spawn(accept);
        backend
    }

    /// How many connections were ever opened to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// As a process that is killed: listening socket and connections are closed when this returns.
    pub(crate) async fn kill(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    name: String,
    stop: CancellationToken,
    tasks: TaskTracker,
    connections: Arc<AtomicUsize>,
) {
    while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
        connections.fetch_add(1, Ordering::Relaxed);
        let (name, stop) = (name.clone(), stop.clone());
        tasks.spawn(async move {
            let _ = stop.run_until_cancelled(serve(stream, &name)).await;
        });
    }
}

async fn serve(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut held = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = held.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&held[..head_end]).into_owned();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        while held.len() < head_end + length {
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
        }
        held.drain(..head_end + length);
        let body = format!("{name}\n{head}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// A header's value in a head as it was sent.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

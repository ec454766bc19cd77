//! One connection of the load client, replaced whenever it ends.

use super::report::FailureKind;
use super::response::{self, Response, ResponseError};
use super::{Method, Shared, TargetState};
use rustix::net::{RecvFlags, recv};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

/// Pause after a connection was refused: a user who presses the button again, not a flood.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// What the time between two requests brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// It is time for the next one.
    Go,
    /// The other side ended the connection, or sent what nobody asked for.
    Closed,
    /// The load is over.
    Stop,
}

/// Sends until the load is over. Never sends a request twice.
pub(super) async fn run(target: Arc<TargetState>, shared: Arc<Shared>, index: usize) {
    let user = User { requests: Requests::new(&target, &shared), target, shared };
    user.live(index).await;
}

struct User {
    target: Arc<TargetState>,
    shared: Arc<Shared>,
    requests: Requests,
}

struct Requests {
    post: Vec<u8>,
    get: Vec<u8>,
}

impl User {
    async fn live(&self, index: usize) {
        let options = &self.shared.options;
        let end = self.shared.started + options.time_max;
        let pause = options
            .rate_per_second
            .map(|rate| Duration::from_nanos(options.connections as u64 * 1_000_000_000 / u64::from(rate)));
        let spread = pause.map_or(Duration::ZERO, |pause| pause * index as u32 / options.connections as u32);
        let mut next = self.shared.started + spread;
        let mut buffer = Vec::with_capacity(1024);
        let mut stream: Option<TcpStream> = None;
        let mut turn = index;
        loop {
            if stream.is_none() && !self.shared.stop.is_cancelled() {
                match self.connect().await {
                    Ok(opened) => stream = Some(opened),
                    Err(refusal) if self.ticket() => self.refused(refusal).await,
                    Err(_) => return,
                }
            }
            match self.idle(stream.as_ref(), next.min(end)).await {
                Idle::Go if Instant::now() >= end => return,
                Idle::Go => {}
                Idle::Closed => {
                    self.target.stats().counts.closed_idle += 1;
                    stream = None;
                    continue;
                }
                Idle::Stop => return,
            }
            let Some(open) = stream.as_mut() else { continue };
            if !self.ticket() {
                return;
            }
            turn = turn.wrapping_add(1);
            if !self.exchange(open, turn, &mut buffer).await {
                stream = None;
            }
            // A late answer moves what follows: no burst makes up for it.
            next = pause.map_or(next, |pause| Instant::now().max(next + pause));
        }
    }

    /// The error is what a person would read.
    async fn connect(&self) -> Result<TcpStream, String> {
        let limit = self.shared.options.timeout;
        let opened = timeout(limit, TcpStream::connect(self.target.target.address)).await;
        let stream =
            opened.map_err(|_| format!("no connection within {limit:?}"))?.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        self.target.stats().counts.connections_opened += 1;
        Ok(stream)
    }

    /// The request that was to go out on the connection is lost.
    async fn refused(&self, refusal: String) {
        let at_micros = self.now_micros();
        {
            let mut stats = self.target.stats();
            stats.counts.sent += 1;
            stats.failed(FailureKind::Connect, at_micros, refusal);
        }
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = tokio::time::sleep(REFUSED_PAUSE) => {}
        }
    }

    /// Waits for the time of the next request with an eye on the connection, and looks once more before it goes out.
    async fn idle(&self, stream: Option<&TcpStream>, until: Instant) -> Idle {
        let stop = &self.shared.stop;
        let Some(stream) = stream else {
            return if stop.is_cancelled() { Idle::Stop } else { Idle::Go };
        };
        loop {
            if stop.is_cancelled() {
                return Idle::Stop;
            }
            if has_ended(stream) {
                return Idle::Closed;
            }
            if Instant::now() >= until {
                return Idle::Go;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                // Clears the runtime's note that it is readable, or it would be told so for ever.
                ready = stream.readable() => if ready.is_err() || !matches!(
                    stream.try_read(&mut [0; 1]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock
                ) {
                    return Idle::Closed;
                },
                () = sleep_until(until.into()) => {}
            }
        }
    }

    /// One request and its answer. True: the connection can be used again.
    async fn exchange(&self, stream: &mut TcpStream, turn: usize, buffer: &mut Vec<u8>) -> bool {
        let sent_micros = self.now_micros();
        self.target.stats().counts.sent += 1;
        let outcome = timeout(self.shared.options.timeout, async {
            let written = stream.write_all(self.requests.of(self.shared.options.method, turn)).await;
            written.map_err(|error| ResponseError::Broken { received_bytes: 0, detail: error.to_string() })?;
            response::read(stream, buffer).await
        })
        .await;
        let at_micros = self.now_micros();
        let mut stats = self.target.stats();
        match outcome {
            Ok(Ok(response)) => {
                if response.status == 200 {
                    stats.answered(response.version.as_deref(), sent_micros, at_micros);
                } else {
                    stats.failed(FailureKind::Status, at_micros, status_detail(&response));
                }
                stats.counts.announced_closes += u64::from(response.announces_close);
                !response.announces_close
            }
            Ok(Err(error @ (ResponseError::Ended { .. } | ResponseError::Broken { .. }))) => {
                stats.failed(FailureKind::Reset, at_micros, error.to_string());
                false
            }
            Ok(Err(error @ ResponseError::Malformed(_))) => {
                stats.failed(FailureKind::Malformed, at_micros, error.to_string());
                false
            }
            Err(_) => {
                let limit = self.shared.options.timeout;
                stats.failed(FailureKind::Timeout, at_micros, format!("no answer within {limit:?}"));
                false
            }
        }
    }

    fn ticket(&self) -> bool {
        let taken = self.target.tickets.fetch_add(1, Ordering::Relaxed);
        self.shared.options.requests_max.is_none_or(|max| taken < max)
    }

    fn now_micros(&self) -> u64 {
        self.shared.started.elapsed().as_micros() as u64
    }
}

impl Requests {
    fn new(target: &TargetState, shared: &Shared) -> Self {
        let (path, host) = (&target.target.path, target.target.address);
        let body = &shared.options.body;
        let length = body.len();
        let mut post = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        post.extend_from_slice(body);
        Self { post, get: format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes() }
    }

    fn of(&self, method: Method, turn: usize) -> &[u8] {
        match method {
            Method::Post => &self.post,
            Method::Get => &self.get,
            Method::Alternate if turn.is_multiple_of(2) => &self.post,
            Method::Alternate => &self.get,
        }
    }
}

/// Asks the kernel itself: what the runtime has heard may be older.
fn has_ended(stream: &TcpStream) -> bool {
    let answer = recv(stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !matches!(answer, Err(rustix::io::Errno::AGAIN))
}

fn status_detail(response: &Response) -> String {
    format!("status {} from version {}", response.status, response.version.as_deref().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn an_end_is_seen_before_the_runtime_has_heard_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a connection");
        let (other_side, _) = listener.accept().expect("the same connection");
        assert!(!has_ended(&stream));
        // Nothing is awaited between this and the look.
        drop(other_side);
        assert!(has_ended(&stream));
    }
}

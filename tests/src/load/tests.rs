//! Every number of the report is seen to move when a server misbehaves in exactly that way, and to stay
//! at 0 when none does.

use super::{Counts, Load, LoadOptions, LoadReport, Method, Target};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(20);

/// What the server does with one request.
#[derive(Debug, Clone, Copy)]
enum Act {
    Answer(&'static str),
    /// Says so, and closes.
    AnnounceClose,
    /// Closes after a good answer that said nothing of it.
    CloseIdle,
    ResetAfterRead,
    EndWithinAnswer,
    Status502,
    Garbage,
    Silence,
}

struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// `act` is asked with the number of the request, counted over all connections from 0.
    async fn start(act: impl Fn(u64) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (act, count) = (Arc::new(act), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (act, count) = (Arc::clone(&act), Arc::clone(&count));
                tokio::spawn(async move { converse(stream, |number| act(number), &count).await });
            }
        });
        Self { address, task }
    }

    fn target(&self) -> Target {
        Target::new(self.address)
    }
}

/// None at the end of the connection.
async fn read_request(reader: &mut BufReader<TcpStream>) -> Option<()> {
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            body_bytes = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            reader.read_exact(&mut vec![0; body_bytes]).await.ok()?;
            return Some(());
        }
    }
}

async fn converse(stream: TcpStream, act: impl Fn(u64) -> Act, count: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    while read_request(&mut reader).await.is_some() {
        let stream = reader.get_mut();
        let good =
            |version: &str| format!("HTTP/1.1 200 OK\r\nX-App-Version: {version}\r\nContent-Length: 2\r\n\r\nok");
        let (bytes, goes_on) = match act(count.fetch_add(1, Ordering::SeqCst)) {
            Act::Answer(version) => (good(version), true),
            Act::AnnounceClose => (good("v1\r\nConnection: close"), false),
            Act::CloseIdle => (good("v1"), false),
            Act::ResetAfterRead => {
                stream.set_zero_linger().expect("a socket option");
                (String::new(), false)
            }
            Act::EndWithinAnswer => ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no".to_owned(), false),
            Act::Status502 => ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_owned(), true),
            Act::Garbage => ("220 mail.example.com ESMTP\r\n\r\n".to_owned(), false),
            Act::Silence => (String::new(), true),
        };
        if stream.write_all(bytes.as_bytes()).await.is_err() || !goes_on {
            return;
        }
    }
}

/// Two connections, with pauses in which a close can be seen.
fn calm() -> LoadOptions {
    LoadOptions { connections: 2, rate_per_second: Some(100), ..LoadOptions::default() }
}

/// The counters after so many requests of which the server met each with the same act.
async fn after(requests: u64, act: Act) -> Counts {
    let server = Server::start(move |_| act).await;
    let options = LoadOptions { requests_max: Some(requests), timeout: Duration::from_millis(200), ..calm() };
    let load = Load::start(vec![server.target()], options).expect("good options");
    load.finish().await.total
}

#[tokio::test]
async fn a_good_server_loses_nothing() {
    let server = Server::start(|_| Act::Answer("v1")).await;
    let options = LoadOptions { connections: 100, method: Method::Alternate, ..LoadOptions::default() };
    let load = Load::start(vec![server.target()], options).expect("good options");
    load.warm(LIMIT).await.expect("all connections");
    load.wait_until("5000 answers", LIMIT, |report| report.total.ok >= 5000).await.expect("answers");
    let report = load.stop().await;
    let expected = Counts { sent: report.total.ok, ok: report.total.ok, connections_opened: 100, ..Counts::default() };
    assert_eq!(report.total, expected, "{report}");
    assert_eq!(report.targets[0].sequence(), "v1");
    let latency = report.latency;
    assert!(0 < latency.p50_micros && latency.p50_micros <= latency.p99_micros, "{latency:?}");
    assert!(latency.p99_micros <= latency.max_micros, "{latency:?}");
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_counted_and_replaced() {
    let counts = after(10, Act::CloseIdle).await;
    assert_eq!((counts.sent, counts.ok, counts.failed), (10, 10, 0), "{counts}");
    // The connections of the last answers may be given up before their end is seen.
    assert!((8..=10).contains(&counts.closed_idle), "{counts}");
    assert_eq!(counts.announced_closes, 0, "{counts}");
}

#[tokio::test]
async fn an_announced_close_is_no_loss() {
    let counts = after(10, Act::AnnounceClose).await;
    assert_eq!((counts.ok, counts.failed), (10, 0), "{counts}");
    assert_eq!((counts.announced_closes, counts.closed_idle), (10, 0), "{counts}");
}

#[tokio::test]
async fn a_reset_or_an_end_within_the_answer_is_a_lost_request() {
    for act in [Act::ResetAfterRead, Act::EndWithinAnswer] {
        let counts = after(6, act).await;
        assert_eq!((counts.sent, counts.ok, counts.failed, counts.failed_reset), (6, 0, 6, 6), "{act:?}: {counts}");
        assert_eq!(counts.closed_idle, 0, "{act:?}: {counts}");
    }
}

#[tokio::test]
async fn another_status_is_a_lost_request_and_the_connection_stays() {
    let counts = after(6, Act::Status502).await;
    assert_eq!((counts.sent, counts.ok, counts.failed, counts.failed_status), (6, 0, 6, 6), "{counts}");
    assert_eq!((counts.connections_opened, counts.closed_idle), (2, 0), "{counts}");
}

#[tokio::test]
async fn silence_and_garbage_are_lost_requests() {
    let counts = after(4, Act::Silence).await;
    assert_eq!((counts.sent, counts.failed, counts.failed_timeout), (4, 4, 4), "{counts}");
    let counts = after(4, Act::Garbage).await;
    assert_eq!((counts.sent, counts.failed, counts.failed_malformed), (4, 4, 4), "{counts}");
}

#[tokio::test]
async fn a_refused_connection_is_a_lost_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = Target::new(listener.local_addr().expect("its address"));
    drop(listener);
    let options = LoadOptions { requests_max: Some(4), ..calm() };
    let counts = Load::start(vec![target], options).expect("good options").finish().await.total;
    assert_eq!((counts.sent, counts.failed, counts.failed_connect), (4, 4, 4), "{counts}");
}

#[tokio::test]
async fn alternating_versions_are_each_a_change() {
    let server = Server::start(|number| Act::Answer(if number % 2 == 0 { "v1" } else { "v2" })).await;
    let options = LoadOptions { connections: 1, requests_max: Some(6), ..calm() };
    let report = Load::start(vec![server.target()], options).expect("good options").finish().await;
    assert_eq!(report.targets[0].sequence(), "v1 → v2 → v1 → v2 → v1 → v2");
    let times: Vec<_> = report.targets[0].versions.iter().map(|change| change.at_micros).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(report.switches().expect("one target").len(), 5);
}

#[tokio::test]
async fn targets_with_different_versions_do_not_pass_for_one_switch() {
    let steady = Server::start(|_| Act::Answer("v1")).await;
    let turned = Server::start(|number| Act::Answer(if number < 4 { "v1" } else { "v2" })).await;
    let both = async |other: &Server| -> LoadReport {
        let options = LoadOptions { connections: 1, requests_max: Some(8), ..calm() };
        Load::start(vec![turned.target(), other.target()], options).expect("good options").finish().await
    };
    let mismatch = both(&steady).await.switches().expect_err("they differ");
    assert!(mismatch.sequences.contains("v1 → v2"), "{mismatch}");

    let first = Server::start(|number| Act::Answer(if number < 4 { "v1" } else { "v2" })).await;
    let second = Server::start(|number| Act::Answer(if number < 6 { "v1" } else { "v2" })).await;
    let options = LoadOptions { connections: 1, requests_max: Some(12), ..calm() };
    let targets = vec![first.target(), second.target()];
    let switches = Load::start(targets, options).expect("good options").finish().await.switches().expect("alike");
    assert_eq!(switches.len(), 1);
    // Two requests later, 10 ms apart.
    assert!(switches[0].skew_micros() >= 10_000, "{switches:?}");
}

#[tokio::test]
async fn load_ends_by_its_time_and_keeps_its_rate() {
    let server = Server::start(|_| Act::Answer("v1")).await;
    let options = LoadOptions { rate_per_second: Some(200), time_max: Duration::from_millis(500), ..calm() };
    let report = Load::start(vec![server.target()], options).expect("good options").finish().await;
    assert!(report.elapsed_micros >= 500_000, "{report}");
    // 100 at that rate; a busy machine may do less, none may do more.
    assert!((1..=102).contains(&report.total.ok), "{report}");
}

#[tokio::test]
async fn options_outside_their_range_are_refused_and_named() {
    let target = Target::new(SocketAddr::from(([127, 0, 0, 1], 1)));
    let none = LoadOptions { connections: 0, ..LoadOptions::default() };
    let refusal = Load::start(vec![target.clone()], none).expect_err("no connections").to_string();
    assert_eq!(refusal, "load option connections is 0: expected 1 to 900");
    let refusal = Load::start(vec![], LoadOptions::default()).expect_err("no targets").to_string();
    assert_eq!(refusal, "load option targets is 0: expected 1 to 64 of them");
    let still = LoadOptions { rate_per_second: Some(0), ..LoadOptions::default() };
    assert!(Load::start(vec![target], still).is_err());
}

//! The load client: a user who keeps connections open, sends POST, looks before it writes, and never
//! sends anything twice. What such a user would notice is counted; nothing is smoothed over.
//!
//! | seen | counted as |
//! |---|---|
//! | no connection, end or reset after the request went out, another status than 200, no answer in time | failed |
//! | end of a connection on which nothing was outstanding, unannounced | `closed_idle` |
//! | end of a connection announced by `Connection: close` in the last answer | `announced_closes`, no loss |
//! | another `X-App-Version` than before, on a request sent after the new one was first seen | a version change |

mod connection;
mod histogram;
mod report;
mod response;
#[cfg(test)]
mod tests;
mod versions;

pub use histogram::{Histogram, LatencySummary};
pub use report::{Counts, FailureKind, FailureNote, LoadReport, Switch, TargetReport, VersionMismatch};
pub use versions::VersionChange;

use report::Stats;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most connections to one target: stays well inside the usual limit of 1024 open files for one
/// target, and inside the range of local ports for dozens.
pub const CONNECTIONS_MAX: usize = 900;
/// Most targets at a time.
pub const TARGETS_MAX: usize = 64;
/// Longest run: counters and the list of version changes are sized for it.
pub const TIME_MAX: Duration = Duration::from_secs(4 * 3600);
/// Largest request body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How often a waiting caller looks at the numbers.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What reports call it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// The path `/` at this address, called by it.
    pub fn new(address: SocketAddr) -> Self {
        Self { name: address.to_string(), address, path: "/".to_owned() }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// POST with a body: what nobody may send twice.
    Post,
    /// GET without a body.
    Get,
    /// The two in turn.
    Alternate,
}

/// How load is put on each target.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Open connections per target, 1 to [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// What is sent.
    pub method: Method,
    /// Body of a POST, at most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
    /// Requests per second and target, spread evenly over its connections. None: as fast as answers come.
    pub rate_per_second: Option<u32>,
    /// Longest wait for a connection, and for an answer.
    pub timeout: Duration,
    /// Ends by itself after so many requests per target.
    pub requests_max: Option<u64>,
    /// Ends by itself after so long, at most [`TIME_MAX`].
    pub time_max: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            connections: 100,
            method: Method::Post,
            body: b"{\"order\":1}".to_vec(),
            rate_per_second: None,
            timeout: Duration::from_secs(10),
            requests_max: None,
            time_max: TIME_MAX,
        }
    }
}

/// Why no load could be started, or what it did not come to.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option outside its range.
    #[error("load option {option} is {value}: expected {expected}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What it was.
        value: String,
        /// Its range.
        expected: String,
    },
    /// The state waited for did not come.
    #[error("load: {what} did not come within {limit:?}; so far: {report}")]
    Deadline {
        /// The state.
        what: String,
        /// The wait.
        limit: Duration,
        /// The numbers at the end of it.
        report: Box<LoadReport>,
    },
}

/// Starts load; see [`LoadHandle`] for ending it.
#[derive(Debug)]
pub struct Load;

impl Load {
    /// Opens the connections and starts sending, on the calling tokio runtime.
    ///
    /// # Errors
    /// [`LoadError::Option`] when an option is outside its range.
    pub fn start(targets: Vec<Target>, options: LoadOptions) -> Result<LoadHandle, LoadError> {
        check(&targets, &options)?;
        let shared = Arc::new(Shared { stop: CancellationToken::new(), started: Instant::now(), options });
        let targets: Vec<_> = targets.into_iter().map(|target| Arc::new(TargetState::new(target))).collect();
        let tasks = TaskTracker::new();
        for target in &targets {
            for index in 0..shared.options.connections {
                tasks.spawn(connection::run(Arc::clone(target), Arc::clone(&shared), index));
            }
        }
        tasks.close();
        Ok(LoadHandle { shared, targets, tasks, started_at: SystemTime::now() })
    }
}

/// Load that is being sent. Dropping it stops the load without waiting.
#[derive(Debug)]
pub struct LoadHandle {
    shared: Arc<Shared>,
    targets: Vec<Arc<TargetState>>,
    tasks: TaskTracker,
    started_at: SystemTime,
}

impl LoadHandle {
    /// The numbers so far. Requests under way are in `sent` and in neither of `ok` and `failed`.
    pub fn snapshot(&self) -> LoadReport {
        let targets = self.targets.iter().map(|target| target.stats().report(&target.target.name)).collect();
        let started_unix_micros = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        LoadReport::new(started_unix_micros, self.shared.started.elapsed(), targets)
    }

    /// Microseconds since the load began: the clock of every `at_micros` in the report.
    pub fn elapsed_micros(&self) -> u64 {
        self.shared.started.elapsed().as_micros() as u64
    }

    /// Waits until the numbers satisfy `wanted`.
    ///
    /// # Errors
    /// [`LoadError::Deadline`] with the numbers as they are, after `limit`.
    pub async fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&LoadReport) -> bool,
    ) -> Result<LoadReport, LoadError> {
        let deadline = Instant::now() + limit;
        loop {
            let report = self.snapshot();
            if wanted(&report) {
                return Ok(report);
            }
            if Instant::now() >= deadline {
                return Err(LoadError::Deadline { what: what.to_owned(), limit, report: Box::new(report) });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every connection of every target is open and as many requests as there are connections
    /// were answered: from here on nothing is warming up.
    ///
    /// # Errors
    /// [`LoadError::Deadline`] after `limit`.
    pub async fn warm(&self, limit: Duration) -> Result<LoadReport, LoadError> {
        let connections = self.shared.options.connections as u64;
        self.wait_until("an answer on every connection", limit, |report| {
            report
                .targets
                .iter()
                .all(|target| target.counts.connections_opened >= connections && target.counts.ok >= connections)
        })
        .await
    }

    /// Resolves when the load has ended by itself: by its count or by its time.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let tasks = self.tasks.clone();
        async move { tasks.wait().await }
    }

    /// Waits until the load ends by itself, and reports.
    pub async fn finish(self) -> LoadReport {
        self.tasks.wait().await;
        self.snapshot()
    }

    /// Sends nothing new, waits for the answers still under way, and reports.
    pub async fn stop(self) -> LoadReport {
        self.shared.stop.cancel();
        self.finish().await
    }
}

impl Drop for LoadHandle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

#[derive(Debug)]
struct Shared {
    stop: CancellationToken,
    started: Instant,
    options: LoadOptions,
}

#[derive(Debug)]
struct TargetState {
    target: Target,
    /// Requests handed out, against `requests_max`.
    tickets: AtomicU64,
    stats: Mutex<Stats>,
}

impl TargetState {
    fn new(target: Target) -> Self {
        Self { target, tickets: AtomicU64::new(0), stats: Mutex::new(Stats::default()) }
    }

    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(targets: &[Target], options: &LoadOptions) -> Result<(), LoadError> {
    let refuse = |option, value: String, expected: String| Err(LoadError::Option { option, value, expected });
    if targets.is_empty() || targets.len() > TARGETS_MAX {
        return refuse("targets", targets.len().to_string(), format!("1 to {TARGETS_MAX} of them"));
    }
    if options.connections == 0 || options.connections > CONNECTIONS_MAX {
        return refuse("connections", options.connections.to_string(), format!("1 to {CONNECTIONS_MAX}"));
    }
    if options.body.len() > BODY_BYTES_MAX {
        return refuse("body", format!("{} bytes", options.body.len()), format!("at most {BODY_BYTES_MAX} bytes"));
    }
    if options.rate_per_second == Some(0) {
        return refuse("rate", "0".to_owned(), "at least 1 a second, or none for as fast as it goes".to_owned());
    }
    if options.time_max > TIME_MAX {
        return refuse("time", format!("{:?}", options.time_max), format!("at most {TIME_MAX:?}"));
    }
    Ok(())
}

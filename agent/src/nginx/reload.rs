//! From one shape to the next: test, install, reload, prove. Exit codes prove nothing here: `nginx -t` and
//! `nginx -s reload` both say yes to a port that is taken.

use super::observe::follow;
use super::probe::Probe;
use super::program::faults;
use super::render::{self, Rendered};
use super::{Flags, ProxyError, Reshaped, files};
use async_trait::async_trait;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// After a reload old and new workers accept side by side for about 100 ms (a fixed pause in nginx).
const PROOF_SPAN: Duration = Duration::from_millis(150);
/// With half the connections going to old workers, this many in a row by chance: one in a million.
const PROOF_ANSWERS: u32 = 20;
/// Between two of them.
const PROOF_PAUSE: Duration = Duration::from_millis(8);
/// nginx itself gives up on a taken port after 2.5 s.
const PROOF_LIMIT: Duration = Duration::from_secs(5);
/// Of an error log, what is read at most: the newest.
const LOG_BYTES_MAX: u64 = 64 * 1024;
/// And quoted.
const LOG_LINES_MAX: usize = 5;
/// nginx's last word on a port that stays taken.
const BIND_GIVEN_UP: &str = "still could not bind()";

/// A running nginx that is brought from shape to shape. One kind is ours, one is the distribution's.
#[async_trait]
pub(super) trait Instance: Send + Sync {
    /// The file that holds the shape.
    fn installed(&self) -> &Path;
    /// Where nginx says what went wrong.
    fn error_log(&self) -> &ErrorLog;
    /// What stands around the `http {}` part in that file.
    fn wrap(&self, body: String) -> Result<String, ProxyError>;
    /// The program.
    fn binary(&self) -> &Path;
    /// Undoes what a crash left behind and would keep nginx from starting.
    fn mend(&self) -> Result<(), ProxyError>;
    /// Starts it if it is ours to start; an error if it does not run then. `first` is installed if nothing is.
    async fn ensure_running(&self, first: &Rendered) -> Result<(), ProxyError>;
    /// `nginx -t` on what is installed.
    async fn validate(&self) -> Result<(), ProxyError>;
    /// `nginx -t` as if this were installed; answers what in the operator's own config is worth a
    /// warning. What is installed is the same afterwards.
    async fn test(&self, candidate: &str) -> Result<Vec<String>, ProxyError>;
    /// Asks nginx to read its config again.
    async fn reload(&self) -> Result<(), ProxyError>;
    /// Takes away what is ours. Nothing to take away is fine.
    async fn stop(&self) -> Result<(), ProxyError>;
}

/// A shape to bring nginx to.
pub(super) struct Wanted<'a> {
    /// What to install.
    pub(super) rendered: &'a Rendered,
    /// What to start with where nothing is installed yet.
    pub(super) first: &'a Rendered,
    /// What the new workers must be able to see.
    pub(super) flags: Option<&'a Flags>,
}

/// Brings nginx to this shape, or leaves it with the one before, on disk and in force.
pub(super) async fn bring(instance: &dyn Instance, probe: &Probe, wanted: &Wanted<'_>) -> Result<Reshaped, ProxyError> {
    let rendered = wanted.rendered;
    let running = instance.ensure_running(wanted.first).await;
    let before = files::read(instance.installed())?;
    let same = before.as_deref() == Some(rendered.text.as_str());
    if let Err(down) = running {
        return if same { Err(down) } else { start(instance, probe, wanted, before.as_deref()).await };
    }
    let in_force = match probe.shape().await {
        // It stands still. A reload would not change that, and close its users' connections once it goes on.
        Err(silent @ ProxyError::Silent { .. }) if same => return Err(silent),
        answered => answered.ok(),
    };
    if same && in_force.as_deref() == Some(rendered.digest.as_str()) {
        return Ok(Reshaped::Unchanged);
    }
    // What nginx refuses cannot be what it runs: the file is put right, and nobody's connection is closed for it.
    let is_only_the_file = in_force.as_deref() == Some(rendered.digest.as_str()) && instance.validate().await.is_err();
    test_and_install(instance, rendered, before.as_deref()).await?;
    if is_only_the_file {
        return Ok(Reshaped::Unchanged);
    }
    let log = instance.error_log().mark();
    let taken = match instance.reload().await {
        Ok(()) => prove(probe, wanted, &log).await,
        Err(error) => Err(error),
    };
    let Err(error) = taken else { return Ok(Reshaped::Reloaded) };
    match put_back(instance, probe, before.as_deref(), in_force.as_deref()).await {
        Ok(()) => Err(error),
        Err(second) => Err(ProxyError::NotReloaded {
            waited: PROOF_LIMIT,
            detail: format!("{error}; and the config before could not be brought back: {second}"),
        }),
    }
}

/// nginx does not run, and what is installed may be the reason. A config that is good stays installed,
/// so that the next start succeeds, whoever makes it.
async fn start(
    instance: &dyn Instance,
    probe: &Probe,
    wanted: &Wanted<'_>,
    before: Option<&str>,
) -> Result<Reshaped, ProxyError> {
    let before_is_good = before.is_some() && instance.validate().await.is_ok();
    test_and_install(instance, wanted.rendered, before).await?;
    let log = instance.error_log().mark();
    let taken = match instance.ensure_running(wanted.first).await {
        Ok(()) => prove(probe, wanted, &log).await,
        Err(error) => Err(error),
    };
    if let (Err(_), Some(before), true) = (&taken, before, before_is_good) {
        files::replace(instance.installed(), before.as_bytes())?;
    }
    taken.map(|()| Reshaped::Reloaded)
}

async fn test_and_install(
    instance: &dyn Instance,
    rendered: &Rendered,
    before: Option<&str>,
) -> Result<(), ProxyError> {
    if before.is_some_and(|text| render::digest(text).is_none()) {
        tracing::warn!(file = %instance.installed().display(), "changed by hand; the change is overwritten");
    }
    for warning in instance.test(&rendered.text).await? {
        tracing::warn!("nginx: {warning}");
    }
    files::replace(instance.installed(), rendered.text.as_bytes())
}

/// Waits until every new connection meets the new shape and sees the flags.
async fn prove(probe: &Probe, wanted: &Wanted<'_>, log: &LogMark<'_>) -> Result<(), ProxyError> {
    prove_shape(probe, &wanted.rendered.digest, log).await?;
    match wanted.flags {
        Some(flags) => follow(probe, None, flags).await,
        None => Ok(()),
    }
}

async fn prove_shape(probe: &Probe, digest: &str, log: &LogMark<'_>) -> Result<(), ProxyError> {
    let start = Instant::now();
    let mut proven_since = None;
    let mut answers = 0;
    loop {
        let answered = probe.shape().await;
        if answered.as_deref() == Ok(digest) {
            answers += 1;
            let since = *proven_since.get_or_insert_with(Instant::now);
            if answers >= PROOF_ANSWERS && since.elapsed() >= PROOF_SPAN {
                return Ok(());
            }
        } else {
            (proven_since, answers) = (None, 0);
            let given_up = log.lines().iter().any(|line| line.contains(BIND_GIVEN_UP));
            if given_up || start.elapsed() >= PROOF_LIMIT {
                let detail = match answered {
                    Ok(_) => log.quote(),
                    Err(error) => format!("{error}; {}", log.quote()),
                };
                return Err(ProxyError::NotReloaded { waited: start.elapsed(), detail });
            }
        }
        sleep(PROOF_PAUSE).await;
    }
}

/// Puts the text before in its place. Reloads only if the new one is, or may be, in force: a reload
/// that is not needed would close clients' connections.
async fn put_back(
    instance: &dyn Instance,
    probe: &Probe,
    before: Option<&str>,
    in_force: Option<&str>,
) -> Result<(), ProxyError> {
    match before {
        Some(text) => files::replace(instance.installed(), text.as_bytes())?,
        None => files::remove(instance.installed())?,
    }
    let mut answers = 0;
    while answers < PROOF_ANSWERS && probe.shape().await.ok().as_deref() == in_force {
        answers += 1;
    }
    if answers == PROOF_ANSWERS {
        return Ok(());
    }
    let log = instance.error_log().mark();
    instance.reload().await?;
    match before.and_then(render::digest) {
        Some(digest) => prove_shape(probe, &digest, &log).await,
        None => Ok(()),
    }
}

/// nginx's error log.
#[derive(Debug, Clone)]
pub(super) struct ErrorLog {
    path: PathBuf,
}

/// A place in it.
pub(super) struct LogMark<'a> {
    log: &'a ErrorLog,
    offset: u64,
}

impl ErrorLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its end now.
    pub(super) fn mark(&self) -> LogMark<'_> {
        LogMark { log: self, offset: std::fs::metadata(&self.path).map_or(0, |log| log.len()) }
    }

    /// The newest faults, whenever they were written.
    pub(super) fn newest(&self) -> String {
        LogMark { log: self, offset: 0 }.quote()
    }
}

impl LogMark<'_> {
    /// The faults since, newest last.
    fn lines(&self) -> Vec<String> {
        let read = || {
            let mut file = File::open(&self.log.path)?;
            let length = file.metadata()?.len();
            // A log that was rotated is shorter, and all of it is new.
            let start = if length < self.offset { 0 } else { self.offset };
            file.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_BYTES_MAX))))?;
            let mut bytes = Vec::new();
            file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        faults(&text).into_iter().map(str::to_owned).collect()
    }

    /// The last of them on one line, with where they are from.
    pub(super) fn quote(&self) -> String {
        let lines = self.lines();
        let newest = &lines[lines.len().saturating_sub(LOG_LINES_MAX)..];
        let path = self.log.path.display();
        if newest.is_empty() { format!("{path} says nothing") } else { format!("{path}: {}", newest.join("; ")) }
    }
}

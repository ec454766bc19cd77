//! A private nginx: started by the agent, with everything it touches inside one directory. It outlives the
//! agent, so that killing the agent changes no traffic.

use super::probe::Probe;
use super::process::{Family, Identity, Role};
use super::reload::{ErrorLog, Instance};
use super::render::{Rendered, quotable};
use super::{NginxConfig, ProxyError, files, program};
use crate::process::Process;
use async_trait::async_trait;
use rustix::process::Signal;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A proxied request holds two.
const WORKER_CONNECTIONS: u32 = 4096;
/// Connections, files of buffered bodies, and some for itself.
const OPEN_FILES: u32 = 3 * WORKER_CONNECTIONS;
/// After a reload an old worker with a WebSocket or a slow download is closed after this: as long as
/// nginx waits for a silent container (`proxy_read_timeout`).
const WORKER_SHUTDOWN_SECONDS: u32 = 60;
/// nginx closes a client's connection after 1000 requests, announced in the answer. A pooled client that
/// misses the announcement loses a request, so it is made rare.
const KEEPALIVE_REQUESTS: u32 = 100_000;
/// Longer than any load balancer in front keeps a connection idle (600 s at the most patient), so that
/// it is never nginx that closes first.
const KEEPALIVE_SECONDS: u32 = 650;
/// From the start of the program to the first answer; then nobody waits for it any more.
const START_LIMIT: Duration = Duration::from_secs(5);
/// nginx ends on SIGTERM at once.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at a process or socket that is about to change.
const PAUSE: Duration = Duration::from_millis(2);
/// The error log is put aside at this size; one old log is kept.
const ERROR_LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One private nginx.
pub(super) struct Private {
    identity: Identity,
    workers: Option<NonZeroU16>,
    installed: PathBuf,
    error_log: ErrorLog,
    probe: Probe,
}

/// Its control socket.
pub(super) fn socket(state_dir: &Path) -> PathBuf {
    prefix(state_dir).join("control.sock")
}

fn prefix(state_dir: &Path) -> PathBuf {
    state_dir.join("nginx")
}

impl Private {
    pub(super) fn new(config: &NginxConfig, state_dir: &Path) -> Self {
        let prefix = prefix(state_dir);
        Self {
            workers: config.workers,
            installed: prefix.join("nginx.conf"),
            error_log: ErrorLog::new(prefix.join("error.log")),
            probe: Probe::new(socket(state_dir)),
            identity: Identity { binary: config.binary.clone(), pid_file: prefix.join("nginx.pid"), prefix },
        }
    }

    fn signal(&self, master: &Process, signal: Signal) -> Result<(), ProxyError> {
        master
            .signal(signal)
            .map_err(|error| self.down(format!("its master process {} is gone: {error}", master.pid())))
    }

    fn down(&self, detail: String) -> ProxyError {
        self.probe.not_answering(format!("{detail}; {}", self.error_log.newest()))
    }

    /// A master that was killed leaves its workers, which serve on and hold the ports. They are told to
    /// finish; from then on the ports are free.
    async fn retire_orphans(&self) -> Result<(), ProxyError> {
        let deadline = Instant::now() + STOP_LIMIT;
        for orphan in self.identity.all(Role::Worker) {
            tracing::warn!(pid = orphan.pid(), "an nginx worker has outlived its master; it finishes and is replaced");
            let _ = orphan.signal(Signal::QUIT);
        }
        while !self.identity.all(Role::Worker).is_empty() {
            if Instant::now() >= deadline {
                return Err(self.down(format!("workers without a master go on after {STOP_LIMIT:?}")));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn run<const N: usize>(&self, args: [&str; N], config: &Path) -> Result<std::process::Output, ProxyError> {
        let prefix = &self.identity.prefix;
        let mut all: Vec<_> = args.iter().map(std::ffi::OsStr::new).collect();
        all.extend(["-p".as_ref(), prefix.as_os_str(), "-c".as_ref(), config.as_os_str()]);
        program::run(&self.identity.binary, &all, prefix).await
    }

    async fn test_file(&self, config: &Path) -> Result<(), ProxyError> {
        let output = self.run(["-t"], config).await?;
        if output.status.success() { Ok(()) } else { Err(ProxyError::Invalid { detail: program::said(&output) }) }
    }

    /// nginx opens the log anew on USR1; connections do not notice.
    fn rotate_log(&self, master: &Process) -> Result<(), ProxyError> {
        let path = self.error_log.path();
        if std::fs::metadata(path).is_ok_and(|log| log.len() > ERROR_LOG_BYTES_MAX) {
            std::fs::rename(path, path.with_extension("log.1")).map_err(files::fail("rotate", path))?;
            self.signal(master, Signal::USR1)?;
        }
        Ok(())
    }

    async fn answers(&self) -> Result<(), ProxyError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.probe.shape().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(self.down(error.to_string())),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

#[async_trait]
impl Instance for Private {
    fn installed(&self) -> &Path {
        &self.installed
    }

    fn error_log(&self) -> &ErrorLog {
        &self.error_log
    }

    fn binary(&self) -> &Path {
        &self.identity.binary
    }

    fn wrap(&self, body: String) -> Result<String, ProxyError> {
        let prefix = quotable(&self.identity.prefix)?;
        let workers = self.workers.map_or("auto".to_owned(), |workers| workers.to_string());
        let user = rustix::process::geteuid().is_root();
        Ok(main_config(prefix, &workers, user) + &body + "}\n")
    }

    fn mend(&self) -> Result<(), ProxyError> {
        self.probe.clear_stale()
    }

    async fn ensure_running(&self, first: &Rendered) -> Result<(), ProxyError> {
        if let Some(master) = self.identity.master() {
            return self.rotate_log(&master);
        }
        let prefix = &self.identity.prefix;
        files::ensure_state_dir(prefix.parent().unwrap_or(Path::new("/")))?;
        files::ensure_dir(prefix)?;
        files::ensure_dir(&prefix.join("temp"))?;
        if files::read(&self.installed)?.is_none() {
            files::replace(&self.installed, first.text.as_bytes())?;
        }
        self.retire_orphans().await?;
        self.mend()?;
        let output = self.run([], &self.installed).await?;
        if !output.status.success() {
            return Err(self.probe.not_answering(format!("it does not start: {}", program::said(&output))));
        }
        self.answers().await
    }

    async fn validate(&self) -> Result<(), ProxyError> {
        if files::read(&self.installed)?.is_none() {
            return Ok(());
        }
        self.test_file(&self.installed).await
    }

    async fn test(&self, candidate: &str) -> Result<Vec<String>, ProxyError> {
        let path = self.identity.prefix.join("candidate.conf");
        files::create(&path, candidate.as_bytes())?;
        let tested = self.test_file(&path).await;
        files::remove(&path)?;
        tested.map(|()| Vec::new())
    }

    async fn reload(&self) -> Result<(), ProxyError> {
        let master = self.identity.master().ok_or_else(|| self.down("it does not run".to_owned()))?;
        self.signal(&master, Signal::HUP)
    }

    async fn stop(&self) -> Result<(), ProxyError> {
        let mut family = Family::of(&self.identity);
        for process in family.alive() {
            // A worker is gone before its turn when its master was told.
            let _ = process.signal(Signal::TERM);
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while let Some(process) = family.alive().next() {
            if Instant::now() >= deadline {
                let program = format!("{} (process {})", self.identity.binary.display(), process.pid());
                return Err(ProxyError::Program { program, detail: format!("it did not end within {STOP_LIMIT:?}") });
            }
            sleep(PAUSE).await;
        }
        self.probe.clear_stale()
    }
}

/// Everything but the shape. As root, workers stay root: they talk to containers only, and must get
/// through whatever directories the state directory lies in.
pub(super) fn main_config(prefix: &str, workers: &str, as_root: bool) -> String {
    let user = if as_root { "user root;\n" } else { "" };
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path \"{prefix}/temp/{kind}\";\n"))
        .collect();
    format!(
        "{user}worker_processes {workers};
worker_rlimit_nofile {OPEN_FILES};
worker_shutdown_timeout {WORKER_SHUTDOWN_SECONDS}s;
pid \"{prefix}/nginx.pid\";
error_log \"{prefix}/error.log\" notice;
events {{ worker_connections {WORKER_CONNECTIONS}; }}
http {{
{temp}access_log off;
server_tokens off;
# Each recycled connection is a chance for a client to lose a request.
keepalive_requests {KEEPALIVE_REQUESTS};
# The load balancer in front closes first.
keepalive_timeout {KEEPALIVE_SECONDS}s;
# How much is too much is the app's to say.
client_max_body_size 0;
# Room for names of the longest kind.
variables_hash_bucket_size 256;
variables_hash_max_size 16384;
server_names_hash_bucket_size 512;
server_names_hash_max_size 16384;

"
    )
}

#[cfg(test)]
mod tests;

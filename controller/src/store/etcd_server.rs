//! Real etcd servers for tests, on free loopback ports, with a directory of their own. They end with the value
//! that started them. Everything here panics with a clear message: a test cannot go on without.

use super::etcd::EtcdConfig;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program, from the package of this name in Debian and Ubuntu; in Debian 11 and older it is `etcd`.
const PROGRAM: &str = "etcd";
const PACKAGE: &str = "etcd-server";

/// Time for a server to answer after it was started, on a machine that is busy with other tests.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a server that is starting.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Attempts to start, each on new ports: another program may take a port between the choice and the use.
const START_ATTEMPTS: usize = 5;

/// Lines of a server's log in a message about it.
const LOG_LINES: usize = 20;

/// TLS files for a server that asks its clients for certificates.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Who signs the clients' certificates.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// One server process, or the place of one that was killed.
#[derive(Debug)]
pub struct EtcdServer {
    directory: TempDir,
    arguments: Vec<OsString>,
    endpoint: String,
    child: Option<Child>,
}

impl EtcdServer {
    /// A cluster of one, ready.
    pub async fn start() -> Self {
        Self::start_with(&[], None).await
    }

    /// A cluster of one, ready, with arguments such as `--quota-backend-bytes=...`, and TLS if wanted.
    pub async fn start_with(arguments: &[&str], tls: Option<&ServerTls>) -> Self {
        Self::start_members(1, arguments, tls).await.remove(0)
    }

    /// A cluster of several, ready.
    pub async fn start_cluster(members: usize) -> Vec<Self> {
        Self::start_members(members, &[], None).await
    }

    /// Where clients connect: `http://127.0.0.1:PORT`, or `https` with TLS.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A configuration for this server with all else at its default.
    pub fn config(&self) -> EtcdConfig {
        EtcdConfig::new(vec![self.endpoint.clone()])
    }

    /// SIGKILL, at once. The data stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has already ended.
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Starts it again on the same ports and data, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = Some(spawn(&self.arguments, self.directory.path()));
        if let Err(log) = self.ready().await {
            panic!("etcd did not come back within {READY_PATIENCE:?}:\n{log}");
        }
    }

    async fn start_members(members: usize, extra: &[&str], tls: Option<&ServerTls>) -> Vec<Self> {
        let mut log = String::new();
        for _ in 0..START_ATTEMPTS {
            match Self::attempt(members, extra, tls).await {
                Ok(servers) => return servers,
                Err(words) => log = words,
            }
            assert!(log.contains("address already in use"), "etcd did not start:\n{log}");
        }
        panic!("no free ports for etcd in {START_ATTEMPTS} attempts:\n{log}");
    }

    async fn attempt(members: usize, extra: &[&str], tls: Option<&ServerTls>) -> Result<Vec<Self>, String> {
        let ports = free_ports(2 * members);
        let peers: Vec<String> = (0..members).map(|n| format!("m{n}=http://127.0.0.1:{}", ports[2 * n])).collect();
        let mut servers = Vec::new();
        for n in 0..members {
            servers.push(Self::spawn_member(n, (ports[2 * n], ports[2 * n + 1]), &peers.join(","), extra, tls));
        }
        for server in &mut servers {
            server.ready().await?;
        }
        Ok(servers)
    }

    fn spawn_member(
        n: usize,
        (peer, client): (u16, u16),
        peers: &str,
        extra: &[&str],
        tls: Option<&ServerTls>,
    ) -> Self {
        let directory = tempfile::Builder::new().prefix("bgctl-etcd-").tempdir().expect("a temporary directory");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let token = directory.path().join("data");
        let mut arguments: Vec<OsString> = [
            ("--name", format!("m{n}")),
            ("--listen-client-urls", endpoint.clone()),
            ("--advertise-client-urls", endpoint.clone()),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", peers.to_owned()),
            ("--initial-cluster-state", "new".to_owned()),
            ("--logger", "zap".to_owned()),
            ("--log-outputs", "stderr".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.into(), value.into()])
        .collect();
        arguments.extend(["--data-dir".into(), token.into_os_string()]);
        if let Some(tls) = tls {
            let files = [("--cert-file", &tls.cert), ("--key-file", &tls.key), ("--trusted-ca-file", &tls.ca)];
            arguments.extend(files.into_iter().flat_map(|(name, path)| [name.into(), path.clone().into_os_string()]));
            arguments.push("--client-cert-auth".into());
        }
        arguments.extend(extra.iter().map(OsString::from));
        let child = Some(spawn(&arguments, directory.path()));
        Self { directory, arguments, endpoint, child }
    }

    /// Waits until the server says that it serves clients, which it does once it has a leader. Fails with the end of
    /// its log if it ended instead.
    async fn ready(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(log_path(self.directory.path())).unwrap_or_default();
            if log.contains("serving client traffic") {
                return Ok(());
            }
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || started.elapsed() > READY_PATIENCE {
                return Err(tail(&log));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(arguments: &[OsString], directory: &Path) -> Child {
    let log = fs::File::create(log_path(directory)).expect("a log file in the temporary directory");
    let started = Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    match started {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("the program `{PROGRAM}` is missing; install the package `{PACKAGE}` (apt-get install {PACKAGE})")
        }
        Err(error) => panic!("`{PROGRAM}` could not be started: {error}"),
    }
}

/// All bound at the same time, so that they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on the loopback address"))
        .collect();
    listeners.iter().map(|listener| listener.local_addr().expect("the port just bound").port()).collect()
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("etcd.log")
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

//! The network and process namespace in which all machines are, with the bridge between them.

use super::NetFleetError;
use crate::exit::chain;
use crate::process::Process;
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The bridge's name. It is in a namespace of its own, so every fleet has one of this name.
const BRIDGE: &str = "br0";
/// For the first process of a namespace to be there.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Threads that send load.
const LOAD_THREADS: usize = 2;

/// The namespaces.
#[derive(Debug)]
pub(super) struct Hub {
    /// `unshare`, whose stdin is also that of the namespace's first process: that ends with it.
    unshare: Child,
    first: Process,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Hub {
    /// Makes the namespaces and the bridge.
    pub(super) async fn up(dir: &Path, address: Ipv4Addr) -> Result<Self, NetFleetError> {
        let log = dir.join("hub.log");
        let stderr = File::create(&log).map_err(NetFleetError::file("write", &log))?;
        let mut command = Command::new("unshare");
        // `cat` reads until its stdin ends; ours ends with this process. A first process takes all others along.
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        let unshare = command.spawn().map_err(|source| NetFleetError::Start { what: "unshare".to_owned(), source })?;
        let (first, unshare) = first_process(unshare, "cat", &log).await?;
        let runtime = runtime(first).map_err(|error| NetFleetError::Namespaces { detail: chain(&error) })?;
        let hub = Self { unshare, first, runtime: Some(runtime) };
        hub.ip(&["link", "set", "lo", "up"])?;
        hub.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        hub.ip(&["addr", "add", &format!("{address}/24"), "dev", BRIDGE])?;
        hub.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(hub)
    }

    /// Puts a machine on the bridge: its end is called `eth0`.
    pub(super) fn plug_in(&self, name: &str, first: Process) -> Result<(), NetFleetError> {
        // What is left of the machine's last life goes when the kernel gets to it.
        drop(self.ip(&["link", "del", name]));
        let pid = first.pid.to_string();
        self.ip(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
        self.ip(&["link", "set", name, "master", BRIDGE])?;
        self.ip(&["link", "set", name, "up"])
    }

    /// Makes a command that runs in the hub's network, with the files of this process.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace("net").display())).arg("--").arg(program);
        command
    }

    /// The option that makes `nsenter` join its processes.
    pub(super) fn processes(&self) -> String {
        format!("--pid={}", self.namespace("pid").display())
    }

    pub(super) fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.as_ref().expect("it is taken when this is dropped").handle()
    }

    /// Ends everything in it. Doing it twice is fine.
    pub(super) fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        drop(self.unshare.stdin.take());
        self.first.signal(Signal::KILL);
        if let Err(error) = self.unshare.wait() {
            eprintln!("netfleet: {error}");
        }
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), NetFleetError> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace("net").display())).args(["--", "ip"]).args(arguments);
        run(command, &format!("ip {}", arguments.join(" ")))
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.first.pid))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.down();
    }
}

/// Runs a short command to its end.
pub(super) fn run(mut command: Command, what: &str) -> Result<(), NetFleetError> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| NetFleetError::Start { what: what.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let detail = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(NetFleetError::Command { what: what.to_owned(), detail })
}

/// The first process of the namespace that `unshare` made, once it is there: the descendant called `name`.
pub(super) async fn first_process(
    mut unshare: Child,
    name: &str,
    log: &Path,
) -> Result<(Process, Child), NetFleetError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Some(process) = descendant(unshare.id() as i32, name) {
            return Ok((process, unshare));
        }
        if let Ok(Some(status)) = unshare.try_wait() {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(NetFleetError::Namespaces { detail: format!("{status}: {}", said.trim()) });
        }
        if Instant::now() >= deadline {
            let what = format!("a namespace whose first process is {name}");
            return Err(NetFleetError::Deadline { what, limit: START_LIMIT });
        }
        tokio::time::sleep(super::LOOK_EVERY).await;
    }
}

fn descendant(pid: i32, name: &str) -> Option<Process> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).find_map(|child| {
        let process = Process::of(child)?;
        if process.name() == name { Some(process) } else { descendant(child, name) }
    })
}

fn runtime(first: Process) -> std::io::Result<tokio::runtime::Runtime> {
    let namespace = File::open(format!("/proc/{}/ns/net", first.pid))?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(LOAD_THREADS)
        .thread_name("netfleet")
        .enable_all()
        .on_thread_start(move || {
            // A thread that stays outside reaches nobody, and its load says so.
            if let Err(error) = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)) {
                eprintln!("netfleet: a thread cannot enter the hub's network: {error}");
            }
        })
        .build()
}

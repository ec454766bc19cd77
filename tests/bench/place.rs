//! Where the bench works: one folder in the checkout and one label in Docker, held by one bench at a time.
//! Whatever is found there belongs to a bench, this one or one that was killed, and is removed.

use anyhow::{Context, bail};
use bgctl_tests::images::{self, ImagesInUse};
use bgctl_tests::process::{Process, working_in};
use bgctl_tests::workspace;
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::query_parameters::{
    LeaveSwarmOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};
use rustix::fs::{FlockOperation, flock};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// On every container and network of a bench; its value is the bench's folder.
const LABEL: &str = "bgctl.bench";
/// What the bench starts and does not hold as a child.
const PROGRAMS: [&str; 2] = ["nginx", "haproxy"];
/// For a process between SIGTERM and SIGKILL.
const END_GRACE: Duration = Duration::from_secs(5);
/// There while this Docker is in a swarm that the bench began; holds `gateway` if its gateway network was there before.
const SWARM_MARK: &str = "swarm";
/// What Docker makes for a swarm and leaves behind.
const SWARM_GATEWAY: &str = "docker_gwbridge";

/// The bench's own place.
pub struct Place {
    /// Docker on this machine.
    pub docker: Docker,
    dir: PathBuf,
    lock: File,
    images_in_use: ImagesInUse,
    ports: std::sync::Mutex<BTreeSet<u16>>,
}

impl Place {
    /// Takes it, clears away what a killed bench left, and makes the sample service's images.
    pub async fn open() -> anyhow::Result<Self> {
        workspace::system_program("nginx", "nginx")?;
        workspace::system_program("haproxy", "haproxy")?;
        let docker = Docker::connect_with_unix_defaults().context("cannot connect to Docker")?;
        let docker = docker.negotiate_version().await.context("cannot talk to Docker; does it run?")?;
        let results = workspace::root().join("target/bench");
        fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
        let path = results.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another bench of this checkout runs: it holds {}", path.display());
        }
        let images_in_use = images::ensure(&docker).await?;
        let place = Self { docker, dir: results.join("run"), lock, images_in_use, ports: Default::default() };
        place.sweep().await.context("cannot clear away what an earlier bench left")?;
        Ok(place)
    }

    /// Removes everything; also the images, unless they are to stay or somebody uses them.
    pub async fn close(self, keep_images: bool) -> anyhow::Result<()> {
        self.sweep().await?;
        drop((self.images_in_use, self.lock));
        if !keep_images {
            images::remove(&self.docker).await?;
        }
        Ok(())
    }

    /// The file for the numbers.
    pub fn results_file(&self) -> PathBuf {
        workspace::root().join("target/bench/bench.json")
    }

    /// A new, empty folder.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// A port of 127.0.0.1 that is free and was not given out before.
    pub fn port(&self) -> anyhow::Result<u16> {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
            let port = listener.local_addr().context("no free port")?.port();
            if self.ports.lock().is_ok_and(|mut ports| ports.insert(port)) {
                return Ok(port);
            }
        }
    }

    /// What says in Docker that something is the bench's.
    pub fn labels(&self) -> HashMap<String, String> {
        HashMap::from([(LABEL.to_owned(), self.dir.display().to_string())])
    }

    /// From now on [`Place::sweep`] leaves the swarm. Called before it is begun: a kill may come between.
    pub async fn mark_swarm(&self) -> anyhow::Result<()> {
        let gateway = self.docker.inspect_network(SWARM_GATEWAY, None).await.is_ok();
        let mark = self.folder("")?.join(SWARM_MARK);
        let text = if gateway { "gateway" } else { "" };
        fs::write(&mark, text).with_context(|| format!("cannot write {}", mark.display()))
    }

    /// Removes all processes, containers, networks and files of the bench.
    pub async fn sweep(&self) -> anyhow::Result<()> {
        end_processes(&self.dir).await?;
        self.leave_swarm().await?;
        self.remove_from_docker().await?;
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.dir.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn leave_swarm(&self) -> anyhow::Result<()> {
        let mark = self.dir.join(SWARM_MARK);
        let Ok(text) = fs::read_to_string(&mark) else { return Ok(()) };
        let left = self.docker.leave_swarm(Some(LeaveSwarmOptionsBuilder::new().force(true).build())).await;
        // 503: it is in none.
        fine(left, &[503]).context("cannot leave the swarm; type `docker swarm leave --force`")?;
        if text != "gateway" {
            let removed = self.docker.remove_network(SWARM_GATEWAY).await;
            fine(removed, &[404]).with_context(|| format!("cannot remove Docker's network {SWARM_GATEWAY}"))?;
        }
        fs::remove_file(&mark).with_context(|| format!("cannot remove {}", mark.display()))
    }

    async fn remove_from_docker(&self) -> anyhow::Result<()> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL}={}", self.dir.display())])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        for container in self.docker.list_containers(Some(options)).await.context("cannot list containers")? {
            self.remove_container(&container.id.unwrap_or_default()).await?;
        }
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for network in self.docker.list_networks(Some(options)).await.context("cannot list networks")? {
            let removed = self.docker.remove_network(&network.id.unwrap_or_default()).await;
            fine(removed, &[404]).context("cannot remove a network")?;
        }
        Ok(())
    }

    /// Removes a container at once, running or not.
    pub async fn remove_container(&self, id: &str) -> anyhow::Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.docker.remove_container(id, Some(options)).await;
        fine(removed, &[404, 409]).context("cannot remove a container")
    }
}

async fn end_processes(dir: &Path) -> anyhow::Result<()> {
    let end = async |process: Process| match process.end(END_GRACE).await {
        true => Ok(()),
        false => bail!("process {} ({}) does not end", process.pid, process.name()),
    };
    let processes = working_in(dir, &PROGRAMS);
    futures_util::future::try_join_all(processes.into_iter().map(end)).await.map(|_| ())
}

fn fine(outcome: Result<(), DockerError>, statuses: &[u16]) -> Result<(), DockerError> {
    match outcome {
        Err(DockerError::DockerResponseServerError { status_code, .. }) if statuses.contains(&status_code) => Ok(()),
        Ok(()) | Err(_) => outcome,
    }
}

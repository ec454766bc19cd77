//! `bgctl-agent`: the program on each host, run by systemd.

use anyhow::Context;
use bgctl_agent::docker::real::DockerEngine;
use bgctl_agent::executor::drain::KernelTraffic;
use bgctl_agent::hand::{self, Answer, Exit, HandError, Request, Target};
use bgctl_agent::health::NetworkProber;
use bgctl_agent::journal::RealDisk;
use bgctl_agent::{
    Settings, World,
    config::{Config, ConfigError},
    nginx,
};
use bgctl_proto::ambient::Machine;
use bgctl_proto::link::{Identity, Peer, TcpDial};
use bgctl_proto::out;
use bgctl_proto::{signals, telemetry};
use clap::{Parser, Subcommand};
use cutover::ServiceName;
use rustix::fs::{FlockOperation, flock};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Another one after each reboot (proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// In the state directory.
const LOCK: &str = "agent.lock";
/// A switch by hand without an agent takes some seconds, and then systemd starts the agent.
const LOCK_WITHIN: Duration = Duration::from_secs(30);

/// Runs releases on this host and moves its traffic when the controller's store says so.
#[derive(Debug, Parser)]
#[command(name = "bgctl-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs until SIGTERM. Containers and nginx go on without it.
    Run {
        /// The agent's config.
        #[arg(long, default_value = "/etc/bgctl/agent.yaml")]
        config: PathBuf,
    },
    /// Moves this host's traffic of a service to the release it served before, with a controller or without one.
    /// The next deployment or rollback of the service ends it.
    #[command(after_help = hand::HELP)]
    Switch {
        /// The service.
        service: ServiceName,
        /// `blue`, `green`, or `previous`: what was served before.
        #[arg(required_unless_present = "resume")]
        to: Option<Target>,
        /// Serve again what the store wants.
        #[arg(long, conflicts_with = "to")]
        resume: bool,
        /// The agent's config.
        #[arg(long, default_value = "/etc/bgctl/agent.yaml")]
        config: PathBuf,
    },
    /// Shows what this host serves, has promised, keeps warm, holds by hand, and tells load balancers.
    #[command(after_help = hand::HELP)]
    Status {
        /// The agent's config.
        #[arg(long, default_value = "/etc/bgctl/agent.yaml")]
        config: PathBuf,
    },
    /// Takes everything away that the agent made on this host: containers, network, its private nginx.
    /// Stop the agent first. Its state directory is left for you to delete.
    Remove {
        /// The agent's config.
        #[arg(long, default_value = "/etc/bgctl/agent.yaml")]
        config: PathBuf,
    },
}

// One thread is enough: the agent waits for Docker, nginx and disks, and its memory counts on small hosts.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Run { config } => run(&config).await.map(|()| Exit::Done),
        Command::Switch { service, to, resume: _, config } => {
            ask(&config, Request::Switch(service, to.unwrap_or(Target::Resume))).await
        }
        Command::Status { config } => ask(&config, Request::Status).await,
        Command::Remove { config } => remove(&config).await.map(|()| Exit::Done),
    };
    let exit = ended.unwrap_or_else(|error| {
        eprintln!("bgctl-agent: {error:#}");
        match error.downcast_ref() {
            Some(HandError::Open { .. }) => Exit::Refused,
            Some(HandError::Broken { .. }) => Exit::Unproven,
            Some(HandError::Config(_) | HandError::Listen { .. }) => Exit::Internal,
            None if error.is::<ConfigError>() => Exit::Refused,
            None => Exit::Internal,
        }
    });
    ExitCode::from(exit as u8)
}

async fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    telemetry::start();
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make the state directory {}", config.state_dir.display()))?;
    let _lock = lock(&config.state_dir).await?;
    let (settings, world) = open(&config)?;
    tracing::info!(host = %settings.host, version = env!("CARGO_PKG_VERSION"), "bgctl-agent starts");
    let shutdown = CancellationToken::new();
    tokio::spawn(signals::stop_on_signal(shutdown.clone()));
    // Units ordered after this one, nginx among them, start only when the switch is as it was.
    let restored = || {
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::warn!(%error, "cannot tell systemd that the host is restored");
        }
    };
    bgctl_agent::run(settings, world, restored, shutdown).await?;
    Ok(())
}

/// One agent on a state directory: two would write one journal. Waits for one that is about to end.
async fn lock(state_dir: &Path) -> anyhow::Result<std::fs::File> {
    let path = state_dir.join(LOCK);
    let told = || format!("cannot lock {}", path.display());
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path).with_context(told)?;
    let deadline = tokio::time::Instant::now() + LOCK_WITHIN;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                anyhow::bail!("another bgctl-agent works with {}; stop it first", state_dir.display())
            }
            Err(error) => return Err(error).with_context(told),
        }
    }
}

/// Asks the agent of this host; where none runs, does it itself.
async fn ask(path: &Path, request: Request) -> anyhow::Result<Exit> {
    let config = Config::load(path)?;
    let answer = match hand::ask(&config.state_dir.join(hand::SOCKET), &request).await? {
        Some(answer) => answer,
        None => alone(&config, request).await?,
    };
    match answer.exit {
        Exit::Done => out::line(answer.text)?,
        Exit::Internal | Exit::Refused | Exit::Unproven => eprintln!("bgctl-agent: {}", answer.text),
    }
    Ok(answer.exit)
}

async fn alone(config: &Config, request: Request) -> anyhow::Result<Answer> {
    let _lock = lock(&config.state_dir).await?;
    if request == Request::Status {
        let (settings, world) = open(config)?;
        return Ok(bgctl_agent::on_paper(&settings, &world).await?);
    }
    eprintln!("bgctl-agent: no agent runs on this host; doing it alone, and starting what should run");
    let (settings, world) = open(config)?;
    let uid = rustix::process::getuid().as_raw();
    Ok(bgctl_agent::by_hand(settings, world, request, uid).await?)
}

fn open(config: &Config) -> anyhow::Result<(Settings, World)> {
    let file = |name| config.identity.join(name);
    let identity = Identity::load(&file("ca.crt"), &file("host.crt"), &file("host.key"))?;
    let Peer::Host { host, .. } = identity.peer()? else {
        anyhow::bail!(
            "{} is no host's certificate; make one with `bgctl-controller issue-host`",
            file("host.crt").display()
        );
    };
    let world = World {
        engine: Arc::new(DockerEngine::new(&config.docker.socket)),
        proxy: nginx::config::open(&config.nginx, config.ready, &config.state_dir)?,
        prober: Arc::new(NetworkProber),
        disk: Arc::new(RealDisk),
        traffic: Arc::new(KernelTraffic),
        ambient: Machine::ambient(),
        dial: Arc::new(TcpDial),
        tls: identity.client_config()?,
    };
    let settings = Settings {
        host,
        controllers: config.controllers.clone(),
        journal: config.state_dir.join("journal"),
        network: config.network(),
        machine: config.machine(),
        socket: Some(config.state_dir.join(hand::SOCKET)),
        // Without it every start counts as one after a reboot.
        boot: std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned(),
    };
    Ok((settings, world))
}

async fn remove(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    telemetry::start();
    // One that runs would make everything anew, or lose what it serves.
    let _lock = match config.state_dir.exists() {
        true => Some(lock(&config.state_dir).await?),
        false => None,
    };
    let (settings, world) = open(&config)?;
    for container in world.engine.list(&settings.host).await? {
        out::line(format!("removing container {}", container.id))?;
        world.engine.remove(&container.id).await?;
    }
    out::line(format!("removing network {}", settings.network.name))?;
    world.engine.remove_network(&settings.network.name).await?;
    out::line("stopping nginx, if it is the agent's own")?;
    world.proxy.stop().await?;
    out::line(format!("done; {} is left for you to delete", config.state_dir.display()))?;
    Ok(())
}

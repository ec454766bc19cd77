//! The local fleet: up, down, status.

use anyhow::Context;
use bgctl_tests::exit::exit;
use bgctl_tests::fleet::{Fleet, FleetOptions, Plan, Run, SUPERVISOR, Store, supervise};
use bgctl_tests::images;
use bgctl_tests::netfleet::run_machine;
use bgctl_tests::process::Process;
use bgctl_tests::workspace;
use bollard::Docker;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Host i of the fleet listens on this port plus i.
const BASE_PORT: u16 = 8080;

/// A fleet on this machine: a controller, an agent with its own nginx and Docker network per host.
#[derive(Debug, Parser)]
#[command(name = "fleet")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a fleet up, with the sample service at v1, and leave it running.
    Up {
        /// Where all its files go.
        #[arg(long, default_value_os_t = default_dir())]
        dir: PathBuf,
        /// How many hosts.
        #[arg(long, default_value_t = 3)]
        hosts: usize,
        /// Where the controller keeps its state.
        #[arg(long, value_enum, default_value_t = StoreArg::Embedded)]
        store: StoreArg,
        /// How many controllers; several need etcd, which then has three members.
        #[arg(long, default_value_t = 1)]
        controllers: usize,
        /// Host i serves the sample service on this port plus i.
        #[arg(long, default_value_t = BASE_PORT)]
        base_port: u16,
    },
    /// Take it down; nothing of it is left. Fine if there is none.
    Down {
        /// Where its files are.
        #[arg(long, default_value_os_t = default_dir())]
        dir: PathBuf,
        /// Leave the sample service's images.
        #[arg(long)]
        keep_images: bool,
    },
    /// Show its programs and addresses.
    Status {
        /// Where its files are.
        #[arg(long, default_value_os_t = default_dir())]
        dir: PathBuf,
    },
    /// Be the first process of a machine with namespaces of its own: what tests and `make chaos` start.
    #[command(hide = true)]
    Machine {
        /// Its disk.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Keep its programs running: what `up` starts in the background.
    #[command(hide = true)]
    Supervise {
        /// Where its files are.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoreArg {
    Embedded,
    Etcd,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("fleet", run(Args::parse().verb).await.map(|()| ExitCode::SUCCESS))
}

async fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Up { dir, hosts, store, controllers, base_port } => up(dir, hosts, store, controllers, base_port).await,
        Verb::Down { dir, keep_images } => down(&dir, keep_images).await,
        Verb::Status { dir } => status(&dir),
        Verb::Machine { dir } => Ok(run_machine(&dir)?),
        Verb::Supervise { dir } => Ok(supervise(&dir).await?),
    }
}

async fn up(dir: PathBuf, hosts: usize, store: StoreArg, controllers: usize, base_port: u16) -> anyhow::Result<()> {
    let store = match store {
        StoreArg::Embedded => Store::Embedded,
        StoreArg::Etcd => Store::Etcd,
    };
    println!("bringing up {hosts} hosts, {controllers} controller(s) and the sample service at v1 …");
    let options = FleetOptions {
        hosts,
        controllers,
        store,
        dir: Some(dir),
        base_port: Some(base_port),
        ..FleetOptions::default()
    };
    let plan = tokio::select! {
        fleet = Fleet::up(options) => fleet?.stay().await?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; what was started is being taken down"),
    };
    show(&plan);
    println!("\n  . {}/env    makes this shell an operator's", shown(&plan.dir));
    println!("  bgctl deploy web --version v2    brings all hosts to v2; bgctl rollback takes it back");
    println!("  make fleet-down    removes everything");
    Ok(())
}

async fn down(dir: &Path, keep_images: bool) -> anyhow::Result<()> {
    let dir = std::path::absolute(dir).context("the fleet's folder")?;
    let was_there = Fleet::down_in(&dir).await?;
    println!("{}", if was_there { "the fleet is down" } else { "there is no fleet" });
    if !keep_images && was_there {
        let docker = Docker::connect_with_unix_defaults().context("cannot connect to Docker")?;
        if !images::remove(&docker).await? {
            println!("its images stay: another fleet uses them");
        }
    }
    Ok(())
}

fn status(dir: &Path) -> anyhow::Result<()> {
    let dir = std::path::absolute(dir).context("the fleet's folder")?;
    let plan = Plan::load(&dir)?.with_context(|| format!("there is no fleet in {}", dir.display()))?;
    show(&plan);
    println!();
    let names = plan.programs.iter().map(|program| program.name.as_str());
    for name in [SUPERVISOR].into_iter().chain(names) {
        let Some(run) = Run::load(&dir, name) else {
            println!("  {name:<14} never started");
            continue;
        };
        let alive = run.process.filter(Process::is_alive);
        let state = match (alive, run.given_up) {
            (Some(process), _) => format!("runs as {}", process.pid),
            (None, true) => "given up".to_owned(),
            (None, false) => "down".to_owned(),
        };
        let last_end = run.last_end.map(|end| format!(", ended last with {end}")).unwrap_or_default();
        println!("  {name:<14} {state}, started {} times{last_end}", run.starts);
    }
    Ok(())
}

fn show(plan: &Plan) {
    for host in &plan.hosts {
        println!("  {:<14} http://{}   network {} {}", host.name, host.address(), host.network, host.subnet);
    }
    for replica in &plan.controllers {
        println!("  {:<14} 127.0.0.1:{}", replica.name, replica.advertised);
    }
    println!("  {:<14} {}/logs", "logs", shown(&plan.dir));
}

fn shown(dir: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    dir.strip_prefix(here).unwrap_or(dir).display().to_string()
}

fn default_dir() -> PathBuf {
    workspace::root().join(".fleet")
}

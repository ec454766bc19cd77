//! `bgctl-controller`: keeps the desired state, and has one decision written for each deployment.

use anyhow::Context;
use bgctl_controller::config::Config;
use bgctl_controller::ledger::fresh_history;
use bgctl_controller::store::embedded::backup::{self, Contents};
use bgctl_controller::{World, identity, serve, store};
use bgctl_proto::ambient::Machine;
use bgctl_proto::link::Identity;
use bgctl_proto::out;
use bgctl_proto::{signals, telemetry};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Keeps the desired state of every service and drives its deployments.
#[derive(Debug, Parser)]
#[command(name = "bgctl-controller", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the CA, this controller's certificate, and the first operator's identity.
    Init {
        /// Where they go. The CA's key is in there: it is for this machine alone.
        #[arg(long, default_value = "/etc/bgctl-controller")]
        dir: PathBuf,
        /// The first operator's name, as history will show it.
        #[arg(long)]
        operator: String,
    },
    /// Makes the certificate of one more controller, or a new one for a controller whose certificate expires.
    IssueController {
        /// The controller's name: 1 to 63 of A-Z, a-z, 0-9, '_', '.' and '-'.
        name: String,
        /// Where ca.crt, controller.crt and controller.key go: that machine's /etc/bgctl-controller.
        #[arg(long)]
        out: PathBuf,
        /// Where the CA is.
        #[arg(long, default_value = "/etc/bgctl-controller")]
        dir: PathBuf,
    },
    /// Makes a host's certificate, with the labels that specs select hosts by.
    IssueHost {
        /// The host's name: 1 to 63 of a-z, 0-9 and '-'.
        name: String,
        /// KEY=VALUE; may be given several times.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// Where ca.crt, host.crt and host.key go: copy this directory to the host's /etc/bgctl/identity.
        #[arg(long)]
        out: PathBuf,
        /// Where the CA is.
        #[arg(long, default_value = "/etc/bgctl-controller")]
        dir: PathBuf,
    },
    /// Makes an operator's identity.
    IssueOperator {
        /// The operator's name, as history will show it.
        name: String,
        /// Where ca.crt, operator.crt and operator.key go: that person's ~/.config/bgctl.
        #[arg(long)]
        out: PathBuf,
        /// Where the CA is.
        #[arg(long, default_value = "/etc/bgctl-controller")]
        dir: PathBuf,
    },
    /// Copies the embedded store into a new file, also while the controller serves. With etcd: `etcdctl snapshot save`.
    Backup {
        /// The new file. It holds what specs hold, secrets in environments too.
        file: PathBuf,
        /// The controller's config.
        #[arg(long, default_value = "/etc/bgctl-controller/controller.yaml")]
        config: PathBuf,
    },
    /// Puts a backup in the place of the embedded store; the controller must be stopped. The store that was there is
    /// kept beside it. Hosts serve on and follow nobody until `bgctl store confirm`.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The controller's config.
        #[arg(long, default_value = "/etc/bgctl-controller/controller.yaml")]
        config: PathBuf,
    },
    /// Serves until SIGTERM.
    Serve {
        /// The controller's config.
        #[arg(long, default_value = "/etc/bgctl-controller/controller.yaml")]
        config: PathBuf,
    },
}

/// The kernel's word; a machine without one has none.
fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no '=': expected KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Init { dir, operator } => {
            let folder = identity::init(&dir, &operator)?;
            out::line(format!("CA and controller: {}", dir.display()))?;
            out::line(format!("operator {operator}: {}", folder.display()))?;
        }
        Command::IssueController { name, out, dir } => {
            identity::issue_controller(&dir, &name, &out)?;
            out::line(format!("controller {name}: {}", out.display()))?;
        }
        Command::IssueHost { name, labels, out, dir } => {
            let host = name.parse()?;
            identity::issue_host(&dir, &host, &labels.into_iter().collect(), &out)?;
            out::line(format!("host {host}: {}", out.display()))?;
        }
        Command::IssueOperator { name, out, dir } => {
            identity::issue_operator(&dir, &name, &out)?;
            out::line(format!("operator {name}: {}", out.display()))?;
        }
        Command::Backup { file, config } => back_up(&file, &config)?,
        Command::Restore { file, config } => restore(&file, &config)?,
        Command::Serve { config } => run(&config)?,
    }
    Ok(())
}

fn back_up(file: &Path, config: &Path) -> anyhow::Result<()> {
    let store = embedded_file(config)?;
    let Contents { revision, history, keys } = backup::back_up(&store, file)?;
    out::line(format!("{}: {keys} keys at revision {revision} of history {history}", file.display()))?;
    Ok(())
}

fn restore(file: &Path, config: &Path) -> anyhow::Result<()> {
    let store = embedded_file(config)?;
    let ambient = Machine::ambient();
    let fresh = fresh_history(&*ambient);
    let (Contents { revision, keys, .. }, kept) = backup::restore(file, &store, fresh, ambient.unix_millis())?;
    out::line(format!("{}: {keys} keys at revision {revision}", store.display()))?;
    if let Some(kept) = kept {
        out::line(format!("what was there before: {}", kept.display()))?;
    }
    out::line("start the controller, look at `bgctl status` and `bgctl hosts`, then run `bgctl store confirm`")?;
    Ok(())
}

fn embedded_file(config: &Path) -> anyhow::Result<PathBuf> {
    let config = Config::load(config)?;
    store::embedded_file(&config.store, &config.state_dir).with_context(|| {
        "the store is etcd: its backups are made with `etcdctl snapshot save FILE` and put back with \
         `etcdutl snapshot restore FILE --bump-revision 1000000000 --mark-compacted`"
    })
}

/// Every host is a link, and a shell lets a program have 1024 open files: takes as many as it may.
fn take_all_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, files = limit.current, "no more files than this may be open, and each host needs one");
    }
}

#[tokio::main]
async fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    telemetry::start();
    take_all_files();
    let (ca, certificate, key) = config.identity_files();
    let identity = Identity::load(&ca, &certificate, &key)?;
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make the state directory {}", config.state_dir.display()))?;
    let replica = config.replica(&machine_name());
    let world = World {
        store: store::open(&config.store, &config.state_dir).await?,
        tls: identity.server_config()?,
        replica: replica.clone(),
        ambient: Machine::ambient(),
    };
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is another controller running?", config.listen))?;
    tracing::info!(listen = %config.listen, name = replica.name, address = replica.address, version = env!("CARGO_PKG_VERSION"), "bgctl-controller starts");
    let shutdown = CancellationToken::new();
    tokio::spawn(signals::stop_on_signal(shutdown.clone()));
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("cannot tell systemd")?;
    serve(listener, world, shutdown).await?;
    Ok(())
}

//! What was typed. What it means is [`crate::settings`]' business.

use crate::exit;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  bgctl apply -f web.yaml             record what the service is
  bgctl deploy web --version 2.3.1    bring it to a version, on all its hosts at once
  bgctl rollback                      take the latest deployment back
  bgctl status web                    what serves where
  bgctl deploy web --version 2.3.1 --json | jq -r 'select(.event==\"result\").outcome'

Ending bgctl changes nothing: a deployment goes on by itself, and typing the
same `bgctl deploy` again attaches to it.
";

const STREAM_HELP: &str = "\
With --json stdout carries one JSON object a line; `event` says which:
  progress    the deployment's fields, and in `hosts` those hosts that changed
  connection  `state`: lost or restored
  result      always the last line: `outcome`, `exit_code`, all fields, all hosts
Times are in fields named *_micros or *_millis; null means unknown or not reached.
";

/// The command line as it stands.
#[derive(Debug, Parser)]
#[command(
    name = "bgctl",
    version,
    about = "Deploys a service to all its hosts at once, and takes it back as fast",
    after_help = format!("{EXAMPLES}\n{}", exit::HELP),
)]
pub struct Typed {
    /// What every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub struct Globals {
    /// Where a controller listens; several are tried in this order until one answers
    #[arg(long, global = true, value_name = "HOST:PORT", env = "BGCTL_CONTROLLERS", value_delimiter = ',')]
    pub controller: Vec<String>,
    /// Folder with ca.crt, operator.crt and operator.key [default: ~/.config/bgctl]
    #[arg(long, global = true, value_name = "DIR", env = "BGCTL_IDENTITY")]
    pub identity: Option<PathBuf>,
    /// Print JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Use colours; `auto` heeds NO_COLOR and uses them on terminals only
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// How long to wait for one controller to answer, or to come back if none listens; at most 5s
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// How to follow a deployment.
#[derive(Debug, Args)]
pub struct Following {
    /// How long to try to get a lost connection back; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub reconnect_timeout: Duration,
}

/// One verb.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check a service's spec and record it; changes no host
    #[command(after_help = exit::HELP)]
    Apply {
        /// The YAML file; `-` reads stdin
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Bring a service to a version, or attach to the deployment that is doing it
    #[command(after_help = format!("{STREAM_HELP}\n{}", exit::HELP))]
    Deploy {
        /// The service, as its spec names it
        service: String,
        /// What ${VERSION} stands for in the spec
        #[arg(long, value_name = "V")]
        version: String,
        /// Deploy even if this version is active already
        #[arg(long)]
        force: bool,
        /// Leave these hosts out this once, whatever the spec says; they follow by themselves
        #[arg(long, value_name = "HOST", value_delimiter = ',')]
        exclude: Vec<String>,
        /// Stay until the watch after the switch is over
        #[arg(long)]
        watch: bool,
        /// See there.
        #[command(flatten)]
        following: Following,
    },
    /// Go back to the release that was active before
    #[command(after_help = format!("{STREAM_HELP}\n{}", exit::HELP))]
    Rollback {
        /// Without it: the service of the latest deployment
        service: Option<String>,
        /// Leave these hosts out this once, whatever the spec says; they follow by themselves
        #[arg(long, value_name = "HOST", value_delimiter = ',')]
        exclude: Vec<String>,
        /// See there.
        #[command(flatten)]
        following: Following,
    },
    /// End an open deployment before it switches; says how it really ended
    #[command(after_help = exit::HELP)]
    Abort {
        /// Without it: the only open deployment
        service: Option<String>,
    },
    /// What serves where, what is pending, and where a rollback would go
    #[command(after_help = exit::HELP)]
    Status {
        /// Without it: all services
        service: Option<String>,
    },
    /// A service's deployments, newest first
    #[command(after_help = exit::HELP)]
    History {
        /// The service, as its spec names it
        service: String,
        /// At most that many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// The hosts, who is connected, and what troubles them; or who is one
    #[command(after_help = exit::HELP)]
    Hosts {
        /// Without it: show them
        #[command(subcommand)]
        act: Option<HostsAct>,
    },
    /// The controller's store, after a backup was put back
    #[command(after_help = exit::HELP)]
    Store {
        /// What to do
        #[command(subcommand)]
        act: StoreAct,
    },
    /// The controllers: who leads, who is there, and how their store is
    #[command(after_help = exit::HELP)]
    Controllers {
        /// Strike a controller that is gone for good out of the list
        #[arg(long, value_name = "NAME")]
        forget: Option<String>,
    },
    /// Follow a deployment, running or ended
    #[command(after_help = format!("{STREAM_HELP}\n{}", exit::HELP))]
    Watch {
        /// Its id, as `deploy` and `history` print it
        deployment: String,
        /// Stay until all hosts switched, or until the watch after that is over
        #[arg(long, value_enum, default_value_t = Until::Settled)]
        until: Until,
        /// See there.
        #[command(flatten)]
        following: Following,
    },
}

/// Who is a host.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum HostsAct {
    /// Let in the agent that waits to be this host, in the place of the one that was: a new disk, or a lost state
    Replace {
        /// As `bgctl hosts` shows it waiting
        host: String,
    },
    /// Take a host out of the fleet; stop its agent first. Its name may join again with an empty state
    Remove {
        /// Its name
        host: String,
        /// Also while its agent is linked: it serves on what it serves, and follows nothing any more
        #[arg(long)]
        force: bool,
    },
}

/// What to do with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum StoreAct {
    /// Say that the backup which was put back is the one to go on with: hosts follow it from then on
    Confirm,
}

/// How far to follow a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// Every host serves the version.
    Switched,
    /// The watch after the switch is over.
    Settled,
}

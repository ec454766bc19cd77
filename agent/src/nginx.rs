//! The host's nginx: its shape, which is rendered and reloaded, and its switch, which is one rename.
//!
//! ```text
//!   Shape -> listen -> render -> reload (test, install, reload, prove)     private | systemd
//!   Flags -> switch (stage, rename)                  -> observe (prove)    through probe
//! ```

pub mod config;
pub mod fake;
mod listen;
mod render;
mod reload;
mod private;
mod systemd;
mod spare;
mod switch;
mod observe;
mod ready;
mod probe;
mod real;
mod files;
mod lint;
mod process;
mod program;

#[cfg(feature = "testing")]
pub mod text;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod trial;

pub use config::{NginxConfig, NginxKind, open};

use crate::berth::Berth;
use crate::release::Route;
use async_trait::async_trait;
use cutover::ids::{Colour, Generation, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::time::Duration;

/// nginx as the agent needs it. `real` drives nginx (a private instance, or the distribution's under
/// systemd), `fake` stands in for it in simulation; both pass the suite in `contract`.
#[async_trait]
pub trait Proxy: Send + Sync + 'static {
    /// nginx's own version.
    async fn version(&self) -> Result<String, ProxyError>;
    /// Starts nginx if it is ours to start and does not run. Restores nothing: call `restore` before.
    async fn ensure_running(&self) -> Result<(), ProxyError>;
    /// Makes `current` point at exactly these flags if it does not, before nginx starts, and removes what
    /// a crash left in nginx's way. No proof is asked for. `on_disk` says what was there before.
    async fn restore(&self, flags: &Flags) -> Result<(), ProxyError>;
    /// What the switch on disk says takes traffic; none if there is no switch yet.
    async fn on_disk(&self) -> Result<Option<Flags>, ProxyError>;
    /// Brings nginx to this shape: renders, validates with `nginx -t`, installs, reloads, and proves by
    /// asking nginx. Does nothing if the shape is in force already. A shape that is refused leaves the
    /// one before in force, on disk too.
    async fn reshape(&self, shape: &Shape) -> Result<Reshaped, ProxyError>;
    /// `nginx -t` on what is installed: a config that somebody broke by hand would stop the next restart.
    async fn validate(&self) -> Result<(), ProxyError>;
    /// Asks nginx, through its unix socket, what it serves now.
    async fn observe(&self) -> Result<Flags, ProxyError>;
    /// Writes everything the switch will need, so that the switch itself is a rename of what exists.
    async fn stage(&self, flags: &Flags) -> Result<(), ProxyError>;
    /// One rename, then proof through nginx, then fsync. Stages first if these flags are not staged.
    async fn switch(&self, flags: &Flags) -> Result<SwitchTimes, ProxyError>;
    /// What nginx answers to load balancers from now on, whatever becomes of the agent. No reload.
    async fn tell_ready(&self, readiness: &Readiness) -> Result<(), ProxyError>;
    /// What it was told last, by this agent or the one before it. Nothing: not ready.
    async fn told_ready(&self) -> Result<Readiness, ProxyError>;
    /// Takes away what is ours: ends a private nginx, or takes our file out of the distribution's and
    /// reloads it. The switch on disk stays. Nothing to take away is fine.
    async fn stop(&self) -> Result<(), ProxyError>;
}

/// Everything that needs a reload to change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// The services of this host.
    pub services: BTreeMap<ServiceName, ServiceShape>,
}

/// One service in the shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceShape {
    /// Where its traffic comes in.
    pub routes: Vec<Route>,
    /// Where the service's container of each berth stands, in the order of `Berth::ALL`. All are always there.
    pub berths: [SocketAddrV4; 3],
}

/// Which flags exist: the whole switch of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    /// Every service of the shape. None: nothing is committed yet, and nginx answers 503.
    pub services: BTreeMap<ServiceName, Option<Flag>>,
}

/// Which release of a service takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// For people, and for the probe's answer; nginx does not look at it.
    pub colour: Colour,
    /// What nginx looks up.
    pub berth: Berth,
    /// The deployment's.
    pub generation: Generation,
}

/// Whether a reload was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reshaped {
    /// The shape was in force already.
    Unchanged,
    /// nginx was reloaded and proven to have it.
    Reloaded,
}

/// What load balancers are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Of each service.
    pub services: BTreeMap<ServiceName, Answer>,
    /// Of all that counts.
    pub host: Answer,
    /// A text that is kept beside it, for the agent itself.
    pub memory: String,
}

/// What is answered of one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// 200, or 503.
    pub is_ready: bool,
    /// The body: what, and why.
    pub line: String,
    /// The tens of seconds since 1970 in which a 200 holds, by the wall clock; none: until it is told otherwise.
    pub tens: Option<RangeInclusive<u64>>,
}

/// How long a switch took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SwitchTimes {
    /// When the rename(2) returned.
    pub renamed_at: Option<std::time::Instant>,
    /// The rename(2) call.
    pub rename: Duration,
    /// From the rename to the first answer of nginx with the new flags.
    pub proof: Duration,
}

/// What can go wrong with nginx.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The shape or the flags cannot be served on this host; nothing was touched.
    #[error("nginx on this host cannot serve that: {detail}")]
    Refused {
        /// What contradicts what, with the services' names.
        detail: String,
    },
    /// nginx does not answer on its unix socket.
    #[error("nginx does not answer on {socket}: {detail}")]
    NotAnswering {
        /// The socket's path.
        socket: String,
        /// The cause, with the error log's last lines where there are any.
        detail: String,
    },
    /// nginx takes a connection and stands still.
    #[error(
        "nginx on {socket} has been silent for {waited:?}: is it stopped (`ps -o stat,cmd -C nginx`), or the host \
         overloaded?"
    )]
    Silent {
        /// The socket's path.
        socket: String,
        /// How long it was given.
        waited: Duration,
    },
    /// `nginx -t` refused the config.
    #[error("nginx refuses its config: {detail}")]
    Invalid {
        /// nginx's own words, with file and line.
        detail: String,
    },
    /// The reload was accepted and not carried out.
    #[error("nginx did not take the new config within {waited:?}: {detail}")]
    NotReloaded {
        /// How long it was given.
        waited: Duration,
        /// What its error log said since.
        detail: String,
    },
    /// The rename was made and nginx goes on answering something else.
    #[error(
        "nginx does not follow the switch: expected {expected}, it answers {answered}; \
         is `open_file_cache` on, or may its workers not read the switch directory?"
    )]
    NotFollowing {
        /// The flags that were set.
        expected: String,
        /// What it says.
        answered: String,
    },
    /// A program could not be run.
    #[error("cannot run {program}: {detail}")]
    Program {
        /// Its path.
        program: String,
        /// The cause.
        detail: String,
    },
    /// A file could not be read or written.
    #[error("cannot {operation} {path}: {detail}")]
    File {
        /// Read, write, rename, ...
        operation: &'static str,
        /// Where.
        path: String,
        /// The cause.
        detail: String,
    },
}

/// What every implementation refuses: a flag without a service and a service without a flag would be
/// traffic that goes nowhere.
fn check_flags(services: &BTreeSet<ServiceName>, flags: &Flags) -> Result<(), ProxyError> {
    let flagged: BTreeSet<ServiceName> = flags.services.keys().cloned().collect();
    let list = |names: Vec<&ServiceName>| names.into_iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ");
    let unknown = list(flagged.difference(services).collect());
    if !unknown.is_empty() {
        return Err(ProxyError::Refused { detail: format!("{unknown}: not in nginx's shape; reshape first") });
    }
    let missing = list(services.difference(&flagged).collect());
    if !missing.is_empty() {
        return Err(ProxyError::Refused { detail: format!("{missing}: in nginx's shape and without a flag") });
    }
    Ok(())
}

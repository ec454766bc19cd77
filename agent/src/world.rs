//! The outside, as the agent sees it. Production, simulation and tests hand in different ones.

use crate::docker::{Engine, Network};
use crate::executor::drain::Traffic;
use crate::health::Prober;
use crate::journal::Disk;
use crate::nginx::Proxy;
use bgctl_proto::ambient::Ambient;
use bgctl_proto::link::Dial;
use cutover::HostId;
use rustls::ClientConfig;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything the agent touches.
#[derive(Clone)]
pub struct World {
    /// Docker.
    pub engine: Arc<dyn Engine>,
    /// nginx.
    pub proxy: Arc<dyn Proxy>,
    /// Health checks.
    pub prober: Arc<dyn Prober>,
    /// Where the journal lies.
    pub disk: Arc<dyn Disk>,
    /// Who talks to whom.
    pub traffic: Arc<dyn Traffic>,
    /// The time of day, and chance.
    pub ambient: Arc<dyn Ambient>,
    /// How an address becomes a connection.
    pub dial: Arc<dyn Dial>,
    /// This host's certificate, and whom it believes.
    pub tls: Arc<ClientConfig>,
}

/// What the agent is told about itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From its certificate.
    pub host: HostId,
    /// Where a controller may be, `HOST:PORT`; tried in turn.
    pub controllers: Vec<String>,
    /// The journal's file.
    pub journal: PathBuf,
    /// The network its containers stand in.
    pub network: Network,
    /// Names the machine, so that its state is not taken for its own on another one; empty: unknown.
    pub machine: String,
    /// Where somebody on the host may ask; none: nowhere.
    pub socket: Option<PathBuf>,
    /// Names this boot of the host: another one after each reboot. Empty: not known.
    pub boot: String,
}

//! `bgctl deploy`: starts a deployment, or attaches to the one that runs, and follows it.

use super::request_id;
use crate::args::{Following, Until};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::feed::Ask;
use crate::follow::{Plan, follow};
use crate::render::View;
use bgctl_proto::operator::DeployRequest;

/// What is to be deployed.
#[derive(Debug)]
pub struct Wanted {
    /// The service's name.
    pub service: String,
    /// Its version.
    pub version: String,
    /// Also if it is active already.
    pub force: bool,
    /// Without these hosts.
    pub exclude: Vec<String>,
    /// Stay until the watch after the switch is over.
    pub watch: bool,
}

/// Deploys.
pub async fn run(client: &Client<'_>, wanted: Wanted, following: Following, json: bool) -> Result<Exit, Failure> {
    let Wanted { service, version, force, exclude, watch } = wanted;
    let again = Some(format!("bgctl deploy {service} --version {version}   (attaches to it if it runs)"));
    let ask = Ask::Deploy(DeployRequest { service, version, request_id: request_id(), force, exclude });
    let until = if watch { Until::Settled } else { Until::Switched };
    let plan = Plan { ask, until, patience: following.reconnect_timeout, again };
    follow(client, plan, View::choose(json)).await
}

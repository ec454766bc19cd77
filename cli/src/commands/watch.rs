//! `bgctl watch`: follows a deployment by its id.

use crate::args::{Following, Until};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::feed::Ask;
use crate::follow::{Plan, follow};
use crate::render::View;

/// Watches. The exit code is the one the deployment's own command has.
pub async fn run(
    client: &Client<'_>,
    deployment: String,
    until: Until,
    following: Following,
    json: bool,
) -> Result<Exit, Failure> {
    let again = Some(format!("bgctl watch {deployment}"));
    let plan = Plan { ask: Ask::Watch(deployment), until, patience: following.reconnect_timeout, again };
    follow(client, plan, View::choose(json)).await
}

//! `bgctl rollback`: back to the release that was active before. The fastest way through this program: one
//! connection, one call.

use super::request_id;
use crate::args::{Following, Until};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::feed::Ask;
use crate::follow::{Plan, follow};
use crate::render::View;
use bgctl_proto::operator::RollbackRequest;

/// Rolls back; without a service, that of the latest deployment.
pub async fn run(
    client: &Client<'_>,
    service: Option<String>,
    exclude: Vec<String>,
    following: Following,
    json: bool,
) -> Result<Exit, Failure> {
    // Typed again it would go back one further: history comes first.
    let again = service.as_ref().map(|service| format!("bgctl history {service}"));
    let service = service.unwrap_or_default();
    let ask = Ask::Rollback(RollbackRequest { service, request_id: request_id(), exclude });
    let plan = Plan { ask, until: Until::Switched, patience: following.reconnect_timeout, again };
    follow(client, plan, View::choose(json)).await
}

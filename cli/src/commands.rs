//! What each verb does: one question to the controller, and its answer shown.

pub mod apply;
pub mod deploy;
pub mod rollback;
pub mod abort;
pub mod status;
pub mod history;
pub mod hosts;
pub mod controllers;
pub mod store;
pub mod watch;

use crate::args::{HostsAct, StoreAct, Verb};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// Does what was asked.
pub async fn run(settings: &Settings, verb: Verb) -> Result<Exit, Failure> {
    let (client, json) = (Client::new(settings), settings.json);
    match verb {
        Verb::Apply { file } => apply::run(&client, &file, json).await,
        Verb::Deploy { service, version, force, exclude, watch, following } => {
            let wanted = deploy::Wanted { service, version, force, exclude, watch };
            deploy::run(&client, wanted, following, json).await
        }
        Verb::Rollback { service, exclude, following } => {
            rollback::run(&client, service, exclude, following, json).await
        }
        Verb::Abort { service } => abort::run(&client, service, json).await,
        Verb::Status { service } => status::run(&client, service, json).await,
        Verb::History { service, limit } => history::run(&client, service, limit, json).await,
        Verb::Controllers { forget: None } => controllers::run(&client, json).await,
        Verb::Controllers { forget: Some(name) } => controllers::forget(&client, name, json).await,
        Verb::Hosts { act: None } => hosts::run(&client, json).await,
        Verb::Hosts { act: Some(HostsAct::Replace { host }) } => hosts::replace(&client, host, json).await,
        Verb::Hosts { act: Some(HostsAct::Remove { host, force }) } => hosts::remove(&client, host, force, json).await,
        Verb::Store { act: StoreAct::Confirm } => store::confirm(&client, json).await,
        Verb::Watch { deployment, until, following } => watch::run(&client, deployment, until, following, json).await,
    }
}

/// Makes a repeated request the same request: 32 of 0-9 and a-f.
fn request_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

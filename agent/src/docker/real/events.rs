//! Deaths, as Docker tells them.

use super::call::within;
use super::{EngineError, EngineEvent, Limits};
use crate::docker::{Labels, labels};
use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use cutover::ids::HostId;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::future::ready;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) async fn deaths(
    client: &Docker,
    limits: &Limits,
    host: &HostId,
) -> Result<BoxStream<'static, EngineEvent>, EngineError> {
    // The library sends its request at the first look at the stream. From here on is made sure of by
    // asking for what happened since now; Docker keeps some hundred events back for that.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    within("asking Docker for events", limits.look, client.ping()).await?;
    let filter = |key: &str, value: String| (key.to_owned(), vec![value]);
    let filters = [
        filter("type", "container".to_owned()),
        // Without it, an image's own health check floods the stream.
        filter("event", "die".to_owned()),
        filter("label", format!("{}={host}", labels::HOST)),
    ];
    let options = EventsOptions {
        since: Some(format!("{}.{:09}", now.as_secs(), now.subsec_nanos())),
        until: None,
        filters: Some(filters.into()),
    };
    let events = client.events(Some(options));
    let until_the_first_error = events.take_while(|event| {
        if let Err(error) = event {
            tracing::warn!(%error, "Docker's event stream ended");
        }
        ready(event.is_ok())
    });
    Ok(until_the_first_error.filter_map(|event| ready(event.ok().and_then(death))).boxed())
}

fn death(event: EventMessage) -> Option<EngineEvent> {
    let actor = event.actor?;
    let attributes = actor.attributes?;
    Some(EngineEvent::Died {
        id: actor.id?,
        labels: Labels::from_map(&attributes)?,
        exit_code: attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(0),
    })
}

//! `bgctl store confirm`: a backup that was put back is the one to go on with.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::render::line::{Line, Tone};
use crate::render::{json, print, print_json};
use bgctl_proto::operator::ConfirmStoreRequest;

/// Confirms it, and says under which history it goes on.
pub async fn confirm(client: &Client<'_>, json: bool) -> Result<Exit, Failure> {
    let reply = client.call(async |mut controller| controller.confirm_store(ConfirmStoreRequest {}).await).await?;
    if json {
        print_json(&json::confirmed(&reply)).map_err(Failure::Output)?;
        return Ok(Exit::Done);
    }
    let line = Line::new().with(Tone::Good, "confirmed").with(
        Tone::Plain,
        &format!(
            ": all hosts follow history {} from revision {} on; what each serves stays until the next deployment",
            reply.history, reply.revision
        ),
    );
    print(&[line]).map_err(Failure::Output)?;
    Ok(Exit::Done)
}

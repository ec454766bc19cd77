//! The end of a container's output.

use super::call::{checked, within};
use super::{EngineError, Limits};
use crate::docker::LOG_TAIL_LINES_MAX;
use crate::docker::tail::Tail;
use bollard::Docker;
use bollard::query_parameters::LogsOptions;
use futures_util::TryStreamExt;

pub(super) async fn tail(client: &Docker, limits: &Limits, id: &str, lines: usize) -> Result<Vec<String>, EngineError> {
    let id = checked("a container", id)?;
    let lines = lines.min(LOG_TAIL_LINES_MAX);
    let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..Default::default() };
    let read = async {
        let mut output = client.logs(id, Some(options));
        let mut tail = Tail::new(lines);
        while let Some(part) = output.try_next().await? {
            tail.push(&part.into_bytes());
        }
        Ok(tail.finish())
    };
    Ok(within(&format!("reading the log of container {id}"), limits.look, read).await?)
}

//! Fetching an image by its digest, watched: a registry that stalls keeps the daemon waiting for ever.

use super::call::{Failure, checked, failure};
use super::{EngineError, ImagePin, Limits, images, logins};
use bollard::Docker;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Docker reports each layer's bytes many times a second; a person reads one line a second.
const BYTES_LINE_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn pull(
    client: &Docker,
    limits: &Limits,
    login_files: &[PathBuf],
    pin: &ImagePin,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), EngineError> {
    let reference = checked("an image", pin.reference())?;
    if images::image(client, limits, reference).await?.is_some() {
        return Ok(());
    }
    let missing = |detail: String| EngineError::ImageMissing { reference: reference.to_owned(), detail };
    match pin {
        ImagePin::ImageId(_) => {
            return Err(missing(
                "it is pinned by its own id, which no registry knows; load it on this host with `docker load`, \
                 or push it to a registry and deploy it from there"
                    .to_owned(),
            ));
        }
        ImagePin::RepoDigest(_) => {}
    }
    let mut tries = 0;
    loop {
        match attempt(client, limits, login_files, reference, progress).await {
            Ok(()) => break,
            Err(Stop::Quiet) if tries < limits.pull_retries => {
                tries += 1;
                let (quiet, most) = (limits.pull_quiet, limits.pull_retries);
                progress(format!("nothing came for {quiet:?}; beginning anew ({tries} of {most})"));
            }
            Err(Stop::Quiet) => {
                let (quiet, most) = (limits.pull_quiet, limits.pull_retries + 1);
                return Err(missing(format!("the registry sent nothing for {quiet:?}, {most} times over")));
            }
            Err(Stop::Failed(Failure::Status { message, .. })) => return Err(missing(message)),
            Err(Stop::Failed(Failure::Engine(EngineError::Refused { detail, .. }))) => return Err(missing(detail)),
            Err(Stop::Failed(Failure::Engine(error))) => return Err(error),
        }
    }
    match images::image(client, limits, reference).await? {
        Some(_) => Ok(()),
        None => Err(missing("it was pulled, but Docker does not have it under that digest".to_owned())),
    }
}

enum Stop {
    /// Nothing moved for too long. The request has been dropped, and with it the daemon's own.
    Quiet,
    Failed(Failure),
}

async fn attempt(
    client: &Docker,
    limits: &Limits,
    login_files: &[PathBuf],
    reference: &str,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Stop> {
    let options = CreateImageOptions { from_image: Some(reference.to_owned()), ..Default::default() };
    let mut news = client.create_image(Some(options), None, logins::find(login_files, reference));
    let mut layers = Layers::default();
    let mut quiet_until = Instant::now() + limits.pull_quiet;
    loop {
        let Ok(next) = timeout_at(quiet_until, news.next()).await else { return Err(Stop::Quiet) };
        let Some(next) = next else { return Ok(()) };
        let info = next.map_err(|error| Stop::Failed(failure(&format!("pulling {reference}"), error)))?;
        let (moved, line) = layers.hear(&info, Instant::now());
        if moved {
            quiet_until = Instant::now() + limits.pull_quiet;
        }
        if let Some(line) = line {
            progress(line);
        }
    }
}

/// What was last heard of each layer. Some daemons repeat the same figures ten times a second, whether
/// anything moves or not. An image has at most 127 layers, so this stays small.
#[derive(Default)]
struct Layers {
    last: BTreeMap<String, (String, Option<i64>)>,
    spoke: Option<Instant>,
}

impl Layers {
    /// Whether anything moved, and what to say of it.
    fn hear(&mut self, info: &CreateImageInfo, now: Instant) -> (bool, Option<String>) {
        let id = info.id.clone().unwrap_or_default();
        let status = info.status.clone().unwrap_or_default();
        let bytes = info.progress_detail.as_ref().and_then(|detail| detail.current);
        let total = info.progress_detail.as_ref().and_then(|detail| detail.total);
        let before = self.last.insert(id.clone(), (status.clone(), bytes));
        let moved = before.as_ref() != Some(&(status.clone(), bytes));
        let new_status = before.is_none_or(|(before, _)| before != status);
        let due = self.spoke.is_none_or(|spoke| now >= spoke + BYTES_LINE_PAUSE);
        let worth_a_line = new_status || (moved && due);
        if !worth_a_line {
            return (moved, None);
        }
        self.spoke = Some(now);
        let separator = if id.is_empty() { "" } else { ": " };
        let figures = match (bytes, total) {
            (Some(bytes), Some(total)) => format!(" {bytes}/{total} bytes"),
            (Some(bytes), None) => format!(" {bytes} bytes"),
            (None, _) => String::new(),
        };
        (moved, Some(format!("{id}{separator}{status}{figures}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    fn info(status: &str, current: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some("a1b2".to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(9) }),
            error_detail: None,
        }
    }

    #[test]
    fn repeated_figures_are_no_progress_and_bytes_are_told_once_a_second() {
        let mut layers = Layers::default();
        let start = Instant::now();
        let first = layers.hear(&info("Downloading", 1), start);
        assert_eq!(first, (true, Some("a1b2: Downloading 1/9 bytes".to_owned())));
        assert_eq!(layers.hear(&info("Downloading", 1), start + BYTES_LINE_PAUSE), (false, None));
        assert_eq!(layers.hear(&info("Downloading", 2), start), (true, None));
        let (moved, line) = layers.hear(&info("Downloading", 3), start + BYTES_LINE_PAUSE);
        assert_eq!((moved, line.as_deref()), (true, Some("a1b2: Downloading 3/9 bytes")));
        let (moved, line) = layers.hear(&info("Extracting", 3), start + BYTES_LINE_PAUSE);
        assert_eq!((moved, line.as_deref()), (true, Some("a1b2: Extracting 3/9 bytes")));
    }
}

//! What is known of images, here and in their registry.

use super::call::{Failure, checked, within};
use super::{EngineError, ImageFacts, Limits, logins};
use bollard::Docker;
use std::path::PathBuf;

pub(super) async fn image(
    client: &Docker,
    limits: &Limits,
    reference: &str,
) -> Result<Option<ImageFacts>, EngineError> {
    let reference = checked("an image", reference)?;
    let operation = format!("looking up image {reference}");
    match within(&operation, limits.look, client.inspect_image(reference)).await {
        Ok(found) => Ok(found.id.map(|id| ImageFacts { id, repo_digests: found.repo_digests.unwrap_or_default() })),
        Err(Failure::Status { code: 404, .. }) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

pub(super) async fn registry_digest(
    client: &Docker,
    limits: &Limits,
    login_files: &[PathBuf],
    reference: &str,
) -> Result<String, EngineError> {
    let reference = checked("an image", reference)?;
    let operation = format!("asking the registry for {reference}");
    let login = logins::find(login_files, reference);
    let answer = within(&operation, limits.registry, client.inspect_registry_image(reference, login)).await?;
    let digest = answer.descriptor.digest.filter(|digest| digest.starts_with("sha256:"));
    let digest = digest.ok_or_else(|| EngineError::Refused {
        operation,
        detail: "the registry's answer has no sha256 digest".to_owned(),
    })?;
    Ok(format!("{}@{digest}", repository(reference)))
}

/// A reference without its tag or digest. A colon before the last slash belongs to a port.
pub(super) fn repository(reference: &str) -> &str {
    let named = reference.split_once('@').map_or(reference, |(named, _)| named);
    match named.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        Some(_) | None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_is_what_stands_before_tag_and_digest() {
        for (reference, expected) in [
            ("web", "web"),
            ("web:v1", "web"),
            ("demo/web:v1", "demo/web"),
            ("r.example:5000/web", "r.example:5000/web"),
            ("r.example:5000/web:v1", "r.example:5000/web"),
            ("r.example:5000/web:v1@sha256:00", "r.example:5000/web"),
            ("web@sha256:00", "web"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }
}

//! Answers which images are on the host, so that a version is made exact once for the whole fleet.

use crate::docker::Engine;
use bgctl_proto::session as wire;
use futures_util::future::join_all;

/// Looks each image up, and asks the registry for those that are not here if it is wanted.
pub async fn find(engine: &dyn Engine, request: wire::FindImages) -> wire::Images {
    let ask_registry = request.ask_registry;
    let images =
        join_all(request.references.into_iter().map(|reference| find_one(engine, reference, ask_registry))).await;
    wire::Images { request: request.request, images }
}

async fn find_one(engine: &dyn Engine, reference: String, ask_registry: bool) -> wire::Image {
    let mut image = wire::Image { reference, ..Default::default() };
    match engine.image(&image.reference).await {
        Ok(Some(facts)) => {
            image.image_id = facts.id;
            image.repo_digests = facts.repo_digests;
        }
        Ok(None) => {}
        Err(error) => image.error = error.to_string(),
    }
    if ask_registry && image.error.is_empty() {
        match engine.registry_digest(&image.reference).await {
            Ok(digest) => image.registry_digest = digest,
            Err(error) => image.error = error.to_string(),
        }
    }
    image
}

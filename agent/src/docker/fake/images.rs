//! The fake's images, here and in the registry.

use super::{Behaviour, EngineError, ImagePin};
use crate::docker::ImageFacts;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Images {
    counter: u64,
    /// By id.
    here: BTreeMap<String, Image>,
    /// By `repository@digest`.
    registry: BTreeMap<String, Image>,
    /// Tag to `repository@digest`.
    registry_tags: BTreeMap<String, String>,
}

#[derive(Clone)]
pub(super) struct Image {
    pub(super) id: String,
    tag: Option<String>,
    repo_digests: Vec<String>,
    pub(super) behaviour: Behaviour,
}

impl Images {
    pub(super) fn load(&mut self, tag: &str, behaviour: Behaviour) -> String {
        let id = self.new_digest();
        self.here.values_mut().filter(|image| image.tag.as_deref() == Some(tag)).for_each(|image| image.tag = None);
        let image = Image { id: id.clone(), tag: Some(tag.to_owned()), repo_digests: Vec::new(), behaviour };
        self.here.insert(id.clone(), image);
        id
    }

    pub(super) fn publish(&mut self, tag: &str, behaviour: Behaviour) -> String {
        let repository = tag.rsplit_once(':').map_or(tag, |(repository, _)| repository);
        let reference = format!("{repository}@{}", self.new_digest());
        let image = Image { id: self.new_digest(), tag: None, repo_digests: vec![reference.clone()], behaviour };
        self.registry.insert(reference.clone(), image);
        self.registry_tags.insert(tag.to_owned(), reference.clone());
        reference
    }

    pub(super) fn forget(&mut self, reference: &str) {
        if let Some(id) = self.find(reference).map(|image| image.id.clone()) {
            self.here.remove(&id);
        }
    }

    pub(super) fn forget_all_but(&mut self, used: &BTreeSet<String>) {
        self.here.retain(|id, _| used.contains(id));
    }

    pub(super) fn find(&self, reference: &str) -> Option<&Image> {
        let names = |image: &&Image| {
            image.tag.as_deref() == Some(reference) || image.repo_digests.iter().any(|digest| digest == reference)
        };
        self.here.get(reference).or_else(|| self.here.values().find(names))
    }

    pub(super) fn facts(&self, reference: &str) -> Option<ImageFacts> {
        let image = self.find(reference)?;
        Some(ImageFacts { id: image.id.clone(), repo_digests: image.repo_digests.clone() })
    }

    pub(super) fn registry_digest(&self, reference: &str) -> Result<String, EngineError> {
        let exact = self.registry.contains_key(reference).then(|| reference.to_owned());
        exact.or_else(|| self.registry_tags.get(reference).cloned()).ok_or_else(|| EngineError::Refused {
            operation: format!("asking the registry for {reference}"),
            detail: "manifest unknown".to_owned(),
        })
    }

    /// Whether there was anything to fetch.
    pub(super) fn pull(&mut self, pin: &ImagePin) -> Result<bool, EngineError> {
        let reference = pin.reference();
        if self.find(reference).is_some() {
            return Ok(false);
        }
        let missing =
            |detail: &str| EngineError::ImageMissing { reference: reference.to_owned(), detail: detail.to_owned() };
        let published = match pin {
            ImagePin::ImageId(_) => return Err(missing("it is pinned by its own id, which no registry knows")),
            ImagePin::RepoDigest(reference) => self.registry.get(reference),
        };
        let image = published.cloned().ok_or_else(|| missing("manifest unknown"))?;
        self.here.insert(image.id.clone(), image);
        Ok(true)
    }

    fn new_digest(&mut self) -> String {
        self.counter += 1;
        format!("sha256:{:064x}", self.counter)
    }
}

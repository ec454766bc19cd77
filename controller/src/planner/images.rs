//! From what each host says of an image to the one thing that runs on all of them.

use crate::spec::{ImagePin, ImageReference, PullPolicy};
use bgctl_proto::session::Image;
use cutover::ids::HostId;
use std::collections::{BTreeMap, BTreeSet};

/// Why a version has no exact image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImagesError {
    /// Some hosts lack it, and it cannot be fetched.
    #[error("image {reference} is not on {hosts}{because}")]
    Missing {
        /// Which.
        reference: String,
        /// Where.
        hosts: String,
        /// Why it cannot be fetched.
        because: String,
    },
    /// The hosts have different images under one name, and no registry settles it.
    #[error(
        "image {reference} is not the same on all hosts: {differences}; push it to a registry, or load one image on all hosts"
    )]
    Differs {
        /// Which.
        reference: String,
        /// What each has.
        differences: String,
    },
    /// A host could not look.
    #[error("{host} cannot look for image {reference}: {detail}")]
    Trouble {
        /// Where.
        host: HostId,
        /// Which.
        reference: String,
        /// Its words.
        detail: String,
    },
    /// What a host said is no image.
    #[error("{host} says of image {reference}: {detail}")]
    Malformed {
        /// Where.
        host: HostId,
        /// Which.
        reference: String,
        /// What is wrong.
        detail: String,
    },
}

/// What exactly each reference is; and those that a registry has to be asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    /// Settled.
    pub pins: BTreeMap<String, ImagePin>,
    /// A registry has to say, because of this.
    pub ask: BTreeMap<String, ImagesError>,
}

/// Works out the pins from every host's answer. `registry` is what a registry said, where it was asked.
pub fn choose_pins(
    references: &[ImageReference],
    hosts: &BTreeMap<HostId, Vec<Image>>,
    registry: &BTreeMap<String, Result<String, String>>,
) -> Result<Pins, ImagesError> {
    let mut pins = Pins::default();
    for ImageReference { reference, pull_policy, container: _ } in references {
        let seen = seen(reference, hosts)?;
        let said = registry.get(reference);
        match choose(reference, *pull_policy, &seen, said)? {
            Choice::Pin(pin) => drop(pins.pins.insert(reference.clone(), pin)),
            Choice::Ask(why) => drop(pins.ask.insert(reference.clone(), why)),
        }
    }
    Ok(pins)
}

enum Choice {
    Pin(ImagePin),
    Ask(ImagesError),
}

fn seen<'a>(
    reference: &str,
    hosts: &'a BTreeMap<HostId, Vec<Image>>,
) -> Result<BTreeMap<&'a HostId, &'a Image>, ImagesError> {
    let mut seen = BTreeMap::new();
    for (host, images) in hosts {
        let image = images.iter().find(|image| image.reference == reference);
        let trouble = |detail: &str| ImagesError::Trouble {
            host: host.clone(),
            reference: reference.to_owned(),
            detail: detail.to_owned(),
        };
        let image = image.ok_or_else(|| trouble("it did not answer for it"))?;
        if !image.error.is_empty() {
            return Err(trouble(&image.error));
        }
        seen.insert(host, image);
    }
    Ok(seen)
}

fn choose(
    reference: &str,
    policy: PullPolicy,
    seen: &BTreeMap<&HostId, &Image>,
    said: Option<&Result<String, String>>,
) -> Result<Choice, ImagesError> {
    if let Some(Ok(digest)) = said {
        return pin(reference, seen, digest).map(Choice::Pin);
    }
    let because = match said {
        Some(Err(error)) => format!(", and it cannot be fetched: {error}"),
        Some(Ok(_)) | None => String::new(),
    };
    let lacking: Vec<_> =
        seen.iter().filter(|(_, image)| image.image_id.is_empty()).map(|(host, _)| host.as_str()).collect();
    let missing = ImagesError::Missing { reference: reference.to_owned(), hosts: lacking.join(", "), because };
    if policy == PullPolicy::Always {
        return match said {
            None => Ok(Choice::Ask(missing)),
            Some(_) => Err(ImagesError::Missing {
                reference: reference.to_owned(),
                hosts: "the registry".to_owned(),
                because: said
                    .and_then(|said| said.as_ref().err())
                    .map(|error| format!(": {error}"))
                    .unwrap_or_default(),
            }),
        };
    }
    let shared = shared_digest(seen);
    if lacking.is_empty() {
        if let Some(digest) = shared {
            return pin(reference, seen, &digest).map(Choice::Pin);
        }
        let ids: BTreeSet<_> = seen.values().map(|image| image.image_id.as_str()).collect();
        if let [id] = ids.iter().copied().collect::<Vec<_>>()[..] {
            return pin(reference, seen, id).map(Choice::Pin);
        }
        let each = seen
            .iter()
            .map(|(host, image)| format!("{host} has {}", image.image_id.chars().take(19).collect::<String>()));
        let differs =
            ImagesError::Differs { reference: reference.to_owned(), differences: each.collect::<Vec<_>>().join(", ") };
        return match (policy, said) {
            (PullPolicy::Missing, None) => Ok(Choice::Ask(differs)),
            (PullPolicy::Missing | PullPolicy::Never | PullPolicy::Always, _) => Err(differs),
        };
    }
    match (policy, said) {
        (PullPolicy::Missing, None) => Ok(Choice::Ask(missing)),
        (PullPolicy::Missing | PullPolicy::Never | PullPolicy::Always, _) => Err(missing),
    }
}

/// A registry digest that every host has.
fn shared_digest(seen: &BTreeMap<&HostId, &Image>) -> Option<String> {
    let mut all = seen.values().map(|image| image.repo_digests.iter().cloned().collect::<BTreeSet<_>>());
    let first = all.next()?;
    all.fold(first, |shared, next| shared.intersection(&next).cloned().collect()).into_iter().next()
}

fn pin(reference: &str, seen: &BTreeMap<&HostId, &Image>, text: &str) -> Result<ImagePin, ImagesError> {
    text.parse().map_err(|error: crate::spec::PinError| ImagesError::Malformed {
        host: seen.keys().next().map_or_else(|| "host".parse().expect("a name"), |host| (*host).clone()),
        reference: reference.to_owned(),
        detail: error.to_string(),
    })
}

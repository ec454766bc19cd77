//! A container's labels: how it is known again, whatever was lost.

use super::Labels;
use std::collections::HashMap;

/// Only this label decides whether a container is one of ours.
pub(super) const HOST: &str = "bgctl.host";
const SERVICE: &str = "bgctl.service";
const CONTAINER: &str = "bgctl.container";
const COLOUR: &str = "bgctl.colour";
const BERTH: &str = "bgctl.berth";
const GENERATION: &str = "bgctl.generation";
const RELEASE: &str = "bgctl.release";

impl Labels {
    /// `bgctl-HOST-SERVICE-CONTAINER-COLOUR-GENERATION`.
    pub fn container_name(&self) -> String {
        format!("bgctl-{}-{}-{}-{}-{}", self.host, self.service, self.container, self.colour, self.generation)
    }

    pub(super) fn to_map(&self) -> HashMap<String, String> {
        [
            (HOST, self.host.to_string()),
            (SERVICE, self.service.to_string()),
            (CONTAINER, self.container.clone()),
            (COLOUR, self.colour.to_string()),
            (BERTH, self.berth.to_string()),
            (GENERATION, self.generation.to_string()),
            (RELEASE, self.release.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// None: at least one label is missing or is not what we would have written.
    pub(super) fn from_map(map: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            host: map.get(HOST)?.parse().ok()?,
            service: map.get(SERVICE)?.parse().ok()?,
            container: map.get(CONTAINER)?.clone(),
            colour: map.get(COLOUR)?.parse().ok()?,
            berth: map.get(BERTH)?.parse().ok()?,
            generation: cutover::ids::Generation(map.get(GENERATION)?.parse().ok()?),
            release: map.get(RELEASE)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::berth::Berth;
    use cutover::ids::{Colour, Generation, ReleaseDigest};

    fn labels() -> Labels {
        Labels {
            host: "web-1".parse().unwrap(),
            service: "shop".parse().unwrap(),
            container: "app".to_owned(),
            colour: Colour::Green,
            berth: Berth::B,
            generation: Generation(42),
            release: ReleaseDigest([7; 32]),
        }
    }

    #[test]
    fn come_back_as_they_went() {
        assert_eq!(Labels::from_map(&labels().to_map()), Some(labels()));
        assert_eq!(labels().container_name(), "bgctl-web-1-shop-app-green-42");
    }

    #[test]
    fn every_one_is_needed_and_checked() {
        for key in labels().to_map().into_keys() {
            let mut map = labels().to_map();
            map.remove(&key);
            assert_eq!(Labels::from_map(&map), None, "without {key}");
            if key != CONTAINER {
                map.insert(key.clone(), "No Such Thing".to_owned());
                assert_eq!(Labels::from_map(&map), None, "nonsense in {key}");
            }
        }
    }
}

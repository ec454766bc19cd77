//! The host's durable state: the protocol's record, and what it takes to run it again from nothing.

use crate::berth::Berth;
use crate::docker::{Addresses, Subnet};
use crate::memory::{Memory, WrittenMemory};
use crate::nginx::Flag;
use crate::release::Release;
use crate::retired::Retired;
use bgctl_proto::convert::{hex, unhex};
use cutover::ids::{Colour, DeploymentId, Epoch, Generation, Incarnation, ReleaseDigest, ServiceName};
use cutover::message::Slot;
use cutover::participant::{Prepared, Record};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A place of a service on this host.
pub type Place = (ServiceName, Colour);

/// A set of fixed addresses of a service on this host.
pub type Mooring = (ServiceName, Berth);

/// What stands in a place.
#[derive(Clone, PartialEq, Eq)]
pub struct Standing {
    /// What.
    pub release: Release,
    /// At which addresses.
    pub berth: Berth,
    /// The generation it was made for.
    pub generation: Generation,
    /// Set once it no longer takes traffic: until when it stays warm, and before when it may not be
    /// stopped because requests may still be under way.
    pub retired: Option<Retired>,
}

impl Standing {
    /// Where it stands.
    pub fn mooring(&self) -> Mooring {
        (self.release.service.clone(), self.berth)
    }

    /// Names its containers: no two things that ever stand on a host share it.
    pub fn made_for(&self) -> (&ServiceName, Berth, ReleaseDigest, Generation) {
        (&self.release.service, self.berth, self.release.digest, self.generation)
    }
}

/// Everything that must survive.
#[derive(Clone)]
pub struct HostState {
    /// The protocol's part.
    pub record: Record,
    /// What stands where: served, promised, being made ready, or warm.
    pub places: BTreeMap<Place, Standing>,
    /// What stood in a place before something that is not decided yet moved in. It stays warm, comes back
    /// if that is aborted, and goes once it is switched to.
    pub displaced: BTreeMap<Place, Standing>,
    /// What is being taken away: its drain and its grace period are not over yet.
    pub leaving: Vec<(Place, Standing)>,
    /// The fixed addresses.
    pub addresses: Addresses,
    /// Of the store it follows, and of its hellos.
    pub memory: Memory,
    /// Who moved a service by hand, for each that is held.
    pub hands: BTreeMap<ServiceName, ByHand>,
}

/// A switch by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// When, in milliseconds since 1970, by this host's clock.
    pub at_unix_millis: u64,
    /// Whose hand: the user id at the other end of the socket.
    pub uid: u32,
}

impl HostState {
    /// A host that has never served anything.
    pub fn new(incarnation: Incarnation, subnet: Subnet) -> Self {
        Self {
            record: Record::new(incarnation),
            places: BTreeMap::new(),
            displaced: BTreeMap::new(),
            leaving: Vec::new(),
            addresses: Addresses::new(subnet),
            memory: Memory::default(),
            hands: BTreeMap::new(),
        }
    }

    /// Everything that stands, also what was displaced.
    pub fn standing(&self) -> impl Iterator<Item = (&Place, &Standing)> {
        self.places.iter().chain(&self.displaced)
    }

    /// What stands at these addresses.
    pub fn moored(&self, mooring: &Mooring) -> Option<(&Place, &Standing)> {
        self.standing().find(|(place, standing)| place.0 == mooring.0 && standing.berth == mooring.1)
    }

    /// What stands for a slot. A place has one name for what is held there and for what was promised in its
    /// stead: the release tells them apart, and for one release the generation.
    pub fn behind(&self, service: &ServiceName, slot: &Slot) -> Option<(&Place, &Standing)> {
        let place = (service.clone(), slot.colour);
        let all = [self.places.get_key_value(&place), self.displaced.get_key_value(&place)].into_iter().flatten();
        let same = all.filter(|(_, standing)| standing.release.digest == slot.release);
        same.max_by_key(|(_, standing)| standing.generation == slot.generation)
    }

    /// Where that is.
    pub fn berth(&self, service: &ServiceName, slot: &Slot) -> Option<Berth> {
        self.behind(service, slot).map(|(_, standing)| standing.berth)
    }

    /// What stands at these addresses, to be changed.
    pub fn moored_mut(&mut self, mooring: &Mooring) -> Option<&mut Standing> {
        let all = self.places.iter_mut().chain(&mut self.displaced);
        let mut found = all.filter(|(place, standing)| place.0 == mooring.0 && standing.berth == mooring.1);
        found.next().map(|(_, standing)| standing)
    }

    /// What a flag of the switch leads to; none if nothing is known to stand there.
    pub fn slot_behind(&self, service: &ServiceName, flag: Flag) -> Option<Slot> {
        let ((_, colour), standing) = self.moored(&(service.clone(), flag.berth))?;
        Some(Slot { generation: flag.generation, release: standing.release.digest, colour: *colour })
    }

    /// What it comes to, for a person.
    pub fn in_words(&self) -> String {
        let Record { applied, held, prepared, .. } = &self.record;
        let mut lines = Vec::new();
        for (role, slots) in [("applied", applied), ("held", held)] {
            for (service, slot) in slots {
                let version = self.behind(service, slot).map(|(_, standing)| standing.release.version.clone());
                let version = version.unwrap_or_else(|| slot.release.short());
                lines.push(format!("{service}  {role:<8} {}  {version}  generation {}", slot.colour, slot.generation));
            }
        }
        lines.extend(
            prepared.iter().map(|(id, prepared)| format!("promised to {id}, generation {}", prepared.generation)),
        );
        if lines.is_empty() { "nothing is applied".to_owned() } else { lines.join("\n") }
    }

    /// A berth where nothing of the service stands. None: what is applied, what is held and a promise take all
    /// three.
    pub fn free_berth(&self, service: &ServiceName) -> Option<Berth> {
        let is_free = |berth: &Berth| self.moored(&(service.clone(), *berth)).is_none();
        Berth::ALL.into_iter().find(is_free)
    }

    /// After a restart: what was being made ready and never promised is not there any more, and what it
    /// had displaced is back.
    pub fn forget_unpromised(&mut self, needed: &BTreeSet<(ServiceName, Slot)>) {
        let is_needed = |place: &Place, standing: &Standing| {
            let stands = |(service, slot): &(ServiceName, Slot)| {
                (service, slot.colour, slot.release) == (&place.0, place.1, standing.release.digest)
            };
            needed.iter().any(stands)
        };
        let unpromised =
            self.places.iter().filter(|(place, standing)| !is_needed(place, standing) && standing.retired.is_none());
        let unpromised: Vec<_> = unpromised.map(|(place, _)| place.clone()).collect();
        for place in unpromised {
            self.places.remove(&place);
            if let Some(before) = self.displaced.remove(&place) {
                self.places.insert(place, before);
            }
        }
    }
}

// --- as the journal keeps it: names and numbers a person can read ---

/// The journal's form.
#[derive(Serialize, Deserialize)]
pub struct Written {
    incarnation: String,
    max_epoch: u64,
    applied: BTreeMap<String, WrittenSlot>,
    prepared: BTreeMap<String, WrittenPromise>,
    /// Missing in what an older agent wrote.
    #[serde(default)]
    held: BTreeMap<String, WrittenSlot>,
    places: Vec<WrittenPlace>,
    displaced: Vec<WrittenPlace>,
    /// Missing in journals of older agents.
    #[serde(default)]
    leaving: Vec<WrittenPlace>,
    addresses: Addresses,
    /// Missing in journals of older agents.
    #[serde(default)]
    memory: WrittenMemory,
    #[serde(default)]
    hands: BTreeMap<String, ByHand>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSlot {
    generation: u64,
    release: String,
    colour: String,
}

#[derive(Serialize, Deserialize)]
struct WrittenPromise {
    generation: u64,
    revision: u64,
    services: BTreeMap<String, WrittenSlot>,
}

#[derive(Serialize, Deserialize)]
struct WrittenPlace {
    service: String,
    colour: String,
    berth: Berth,
    generation: u64,
    /// For people: `release` says the same.
    version: String,
    /// Hexadecimal.
    release: String,
    retired: Option<Retired>,
}

impl From<&HostState> for Written {
    fn from(state: &HostState) -> Self {
        let HostState { record, places, displaced, leaving, addresses, memory, hands } = state;
        let prepared = record.prepared.iter().map(|(deployment, prepared)| {
            let Prepared { generation, revision, services } = prepared;
            let promise =
                WrittenPromise { generation: generation.0, revision: revision.0, services: written_slots(services) };
            (deployment.to_string(), promise)
        });
        Self {
            incarnation: record.incarnation.to_string(),
            max_epoch: record.max_epoch.0,
            applied: written_slots(&record.applied),
            prepared: prepared.collect(),
            held: written_slots(&record.held),
            places: written_places(places),
            displaced: written_places(displaced),
            leaving: written_places(leaving.iter().map(|(place, standing)| (place, standing))),
            addresses: addresses.clone(),
            memory: memory.into(),
            hands: hands.iter().map(|(service, hand)| (service.to_string(), *hand)).collect(),
        }
    }
}

fn written_places<'a>(places: impl IntoIterator<Item = (&'a Place, &'a Standing)>) -> Vec<WrittenPlace> {
    let written = places.into_iter().map(|((service, colour), standing)| WrittenPlace {
        service: service.to_string(),
        colour: colour.to_string(),
        berth: standing.berth,
        generation: standing.generation.0,
        version: standing.release.version.clone(),
        release: hex(&standing.release.encoded),
        retired: standing.retired,
    });
    written.collect()
}

fn written_slots(slots: &BTreeMap<ServiceName, Slot>) -> BTreeMap<String, WrittenSlot> {
    let written = slots.iter().map(|(name, slot)| {
        let Slot { generation, release, colour } = slot;
        let slot = WrittenSlot { generation: generation.0, release: release.to_string(), colour: colour.to_string() };
        (name.to_string(), slot)
    });
    written.collect()
}

/// A state whose checksum fits and whose content does not: written by another program, or by a bug.
#[derive(Debug, thiserror::Error)]
#[error("the journal holds {what} that cannot be read: {detail}")]
pub struct StateError {
    what: &'static str,
    detail: String,
}

impl StateError {
    /// About a value.
    pub(crate) fn new(what: &'static str, detail: &dyn std::fmt::Display) -> Self {
        Self { what, detail: detail.to_string() }
    }
}

fn read<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StateError>
where
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| StateError { what, detail: error.to_string() })
}

fn read_slots(slots: BTreeMap<String, WrittenSlot>) -> Result<BTreeMap<ServiceName, Slot>, StateError> {
    let slots = slots.into_iter().map(|(name, slot)| {
        let WrittenSlot { generation, release, colour } = slot;
        let slot = Slot {
            generation: Generation(generation),
            release: read("a release digest", &release)?,
            colour: read("a colour", &colour)?,
        };
        Ok((read("a service name", &name)?, slot))
    });
    slots.collect()
}

impl TryFrom<Written> for HostState {
    type Error = StateError;

    fn try_from(written: Written) -> Result<Self, StateError> {
        let Written { incarnation, max_epoch, applied, prepared, held, .. } = written;
        let Written { places, displaced, leaving, addresses, memory, hands, .. } = written;
        let prepared = prepared.into_iter().map(|(deployment, promise)| {
            let prepared = Prepared {
                generation: Generation(promise.generation),
                revision: cutover::Revision(promise.revision),
                services: read_slots(promise.services)?,
            };
            Ok((read::<DeploymentId>("a deployment", &deployment)?, prepared))
        });
        let record = Record {
            incarnation: read("an incarnation", &incarnation)?,
            max_epoch: Epoch(max_epoch),
            applied: read_slots(applied)?,
            prepared: prepared.collect::<Result<_, StateError>>()?,
            held: read_slots(held)?,
        };
        let hands = hands.into_iter().map(|(service, hand)| Ok((read("a service name", &service)?, hand)));
        let hands = hands.collect::<Result<_, StateError>>()?;
        let (places, displaced) = (read_places(places)?, read_places(displaced)?);
        let leaving = read_places(leaving)?;
        Ok(Self { record, places, displaced, leaving, addresses, memory: memory.try_into()?, hands })
    }
}

fn read_places<C: FromIterator<(Place, Standing)>>(places: Vec<WrittenPlace>) -> Result<C, StateError> {
    let places = places.into_iter().map(|place| {
        let release = unhex("release", &place.release).and_then(|bytes| Release::decode(&bytes));
        let release = release.map_err(|error| StateError { what: "a release", detail: error.to_string() })?;
        let standing =
            Standing { release, berth: place.berth, generation: Generation(place.generation), retired: place.retired };
        Ok(((read("a service name", &place.service)?, read("a colour", &place.colour)?), standing))
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retired::Clocks;
    use bgctl_proto::ambient::Machine;
    use bgctl_proto::session as wire;
    use prost::Message;

    fn service() -> ServiceName {
        "web".parse().expect("a name")
    }

    fn release(version: &str) -> Release {
        let healthcheck = wire::Healthcheck { kind: Some(wire::healthcheck::Kind::Tcp(true)), ..Default::default() };
        let container = wire::Container {
            name: "app".to_owned(),
            pin: Some(wire::container::Pin::ImageId(format!("sha256:{version}"))),
            port: 8080,
            healthcheck: Some(healthcheck),
            ..Default::default()
        };
        let release = wire::Release {
            service: "web".to_owned(),
            version: version.to_owned(),
            containers: vec![container],
            fail_closed: Some(wire::FailClosed { grace_millis: 20_000 }),
            ..Default::default()
        };
        Release::decode(&release.encode_to_vec()).expect("a release")
    }

    fn standing(version: &str, berth: Berth, generation: u64) -> Standing {
        Standing { release: release(version), berth, generation: Generation(generation), retired: None }
    }

    fn slot(version: &str, generation: u64, colour: Colour) -> Slot {
        Slot { generation: Generation(generation), release: release(version).digest, colour }
    }

    /// v2 is applied at green, v1 serves by hand at blue, where v3 is promised.
    fn held_in_doubt() -> HostState {
        let mut state = HostState::new(Incarnation(7), "198.18.224.0/24".parse().expect("a subnet"));
        let (blue, green) = ((service(), Colour::Blue), (service(), Colour::Green));
        state.places =
            BTreeMap::from([(blue.clone(), standing("v3", Berth::C, 30)), (green, standing("v2", Berth::B, 20))]);
        let retired = Some(Retired::at(Clocks::new(Machine::ambient(), "a boot").now(), &release("v1")));
        state.leaving = vec![(blue.clone(), Standing { retired, ..standing("v0", Berth::C, 5) })];
        state.displaced = BTreeMap::from([(blue, Standing { retired, ..standing("v1", Berth::A, 10) })]);
        state.record.applied.insert(service(), slot("v2", 20, Colour::Green));
        state.record.held.insert(service(), slot("v1", 10, Colour::Blue));
        state.hands.insert(service(), ByHand { at_unix_millis: 1_763_632_564_000, uid: 1000 });
        state
    }

    #[test]
    fn a_switch_by_hand_is_read_back_with_who_and_when() {
        let state = held_in_doubt();
        let text = serde_json::to_string(&Written::from(&state)).expect("JSON");
        let written: Written = serde_json::from_str(&text).expect("the same");
        let read = HostState::try_from(written).expect("a state");
        assert_eq!((&read.record, &read.hands), (&state.record, &state.hands));
        assert!((read.places, read.displaced, read.leaving) == (state.places, state.displaced, state.leaving));
        // An agent from before there was such a thing wrote neither.
        let mut old: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let old = old.as_object_mut().map(|old| {
            old.remove("held");
            old.remove("hands");
            old.remove("leaving");
            serde_json::Value::from(old.clone())
        });
        let written: Written = serde_json::from_value(old.expect("an object")).expect("an older journal");
        assert!(HostState::try_from(written).expect("a state").record.held.is_empty());
    }

    #[test]
    fn what_is_held_and_what_is_promised_in_its_place_are_told_apart() {
        let mut state = held_in_doubt();
        let berth = |state: &HostState, version, generation, colour| {
            state.berth(&service(), &slot(version, generation, colour))
        };
        assert_eq!(berth(&state, "v1", 10, Colour::Blue), Some(Berth::A));
        assert_eq!(berth(&state, "v3", 30, Colour::Blue), Some(Berth::C));
        assert_eq!(berth(&state, "v2", 20, Colour::Green), Some(Berth::B));
        assert_eq!(berth(&state, "v2", 20, Colour::Blue), None);
        assert_eq!(state.free_berth(&service()), None);
        // After a restart the promise stands if it was written down, and what is held stays either way.
        let needed = |slots: &[Slot]| slots.iter().map(|slot| (service(), *slot)).collect::<BTreeSet<_>>();
        let known = [slot("v1", 10, Colour::Blue), slot("v2", 20, Colour::Green), slot("v3", 30, Colour::Blue)];
        state.forget_unpromised(&needed(&known));
        assert_eq!(berth(&state, "v3", 30, Colour::Blue), Some(Berth::C));
        state.forget_unpromised(&needed(&known[..2]));
        assert_eq!(berth(&state, "v3", 30, Colour::Blue), None);
        assert_eq!(berth(&state, "v1", 10, Colour::Blue), Some(Berth::A));
        assert!(state.displaced.is_empty());
    }
}

//! The fake's networks and containers. Nothing here waits; what depends on time is given it.

use super::images::Images;
use super::{Behaviour, CreateRequest, EngineError, EngineEvent, Left, Network};
use crate::docker::{Condition, ContainerFacts, Labels, Occupant, Subnet};
use crate::health::REFUSED;
use cutover::ids::HostId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Docker keeps as many for streams that are slow.
const DEATHS_KEPT_MAX: usize = 256;

#[derive(Default)]
pub(super) struct State {
    pub(super) images: Images,
    networks: BTreeMap<String, Subnet>,
    /// By id.
    containers: BTreeMap<String, Container>,
    /// What runs and the daemon does not know of, by id.
    strays: BTreeMap<String, Container>,
    /// What cannot be started under its id, because of what is left of it.
    entangled: BTreeSet<String>,
    /// How often an address with two at it was asked: they answer by turns.
    asked_of_two: u64,
    created: u64,
    boots: u64,
    deaths: VecDeque<EngineEvent>,
    deaths_dropped: u64,
}

#[derive(Clone)]
struct Container {
    name: String,
    /// None: not ours.
    labels: Option<Labels>,
    image_id: String,
    behaviour: Behaviour,
    network: String,
    address: Ipv4Addr,
    port: u16,
    life: Life,
    sick: bool,
    log: Vec<String>,
}

#[derive(Clone, Copy)]
enum Life {
    Created,
    Running { since: Duration },
    Ended { exit_code: i64, out_of_memory: bool },
}

pub(super) enum Stopped {
    Ended,
    MustBeKilled,
}

/// Where an event stream stands.
pub(super) struct Cursor {
    boots: u64,
    next: u64,
}

impl State {
    pub(super) fn ensure_network(&mut self, network: &Network) -> Result<(), EngineError> {
        let refuse = |detail: String| Err(EngineError::Network { name: network.name.clone(), detail });
        let wanted = network.subnet;
        match self.networks.get(&network.name) {
            Some(subnet) if *subnet == wanted => return Ok(()),
            Some(subnet) => return refuse(format!("it exists with {subnet}, but the agent is set to {wanted}")),
            None => {}
        }
        if self.networks.values().any(|other| other.overlaps(&wanted)) {
            return refuse(format!("Docker refuses subnet {wanted}: it overlaps with another"));
        }
        self.networks.insert(network.name.clone(), wanted);
        Ok(())
    }

    pub(super) fn remove_network(&mut self, name: &str) -> Result<(), EngineError> {
        let is_used = self.containers.values().any(|container| container.network == name && container.is_running());
        if is_used {
            let detail = "it has active endpoints".to_owned();
            return Err(EngineError::Refused { operation: format!("removing network {name}"), detail });
        }
        self.networks.remove(name);
        Ok(())
    }

    pub(super) fn occupy(&mut self, name: &str) {
        self.insert(Container {
            name: name.to_owned(),
            labels: None,
            image_id: String::new(),
            behaviour: Behaviour::default(),
            network: String::new(),
            address: Ipv4Addr::UNSPECIFIED,
            port: 0,
            life: Life::Created,
            sick: false,
            log: Vec::new(),
        });
    }

    pub(super) fn create(&mut self, request: &CreateRequest<'_>) -> Result<String, EngineError> {
        let reference = request.container.pin.reference();
        let image = self.images.find(reference).cloned().ok_or_else(|| EngineError::ImageMissing {
            reference: reference.to_owned(),
            detail: format!("No such image: {reference}"),
        })?;
        let name = request.labels.container_name();
        if let Some((id, holder)) = self.containers.iter().find(|(_, container)| container.name == name) {
            let id = id.clone();
            let ours = holder.labels.as_ref().is_some_and(|labels| labels.host == request.labels.host);
            if !ours {
                let detail = format!("the name is already in use by container {id}");
                return Err(EngineError::Taken { what: format!("container name {name}"), detail });
            }
            let same_labels = holder.labels.as_ref() == Some(&request.labels);
            let same_place = holder.network == request.network && holder.address == request.address;
            if same_labels && same_place && holder.image_id == image.id {
                return Ok(id);
            }
            self.remove(&id);
        }
        Ok(self.insert(Container {
            name,
            labels: Some(request.labels.clone()),
            image_id: image.id,
            behaviour: image.behaviour,
            network: request.network.to_owned(),
            address: request.address,
            port: request.container.port,
            life: Life::Created,
            sick: false,
            log: Vec::new(),
        }))
    }

    pub(super) fn start(&mut self, id: &str, now: Duration) -> Result<(), EngineError> {
        let refuse = |detail| Err(EngineError::Refused { operation: format!("starting container {id}"), detail });
        let Some(container) = self.containers.get(id) else { return refuse(format!("No such container: {id}")) };
        if container.is_running() {
            return Ok(());
        }
        if self.entangled.contains(id) {
            return refuse("id already in use".to_owned());
        }
        let (network, address) = (&container.network, container.address);
        let Some(subnet) = self.networks.get(network) else { return refuse(format!("network {network} not found")) };
        let of_bridge = address == subnet.gateway();
        let is_connected = container.is_connected();
        if is_connected && !of_bridge && !subnet.is_host(address) {
            return refuse(format!("Invalid address {address}: it does not belong to this network"));
        }
        if is_connected && (of_bridge || self.running_at(address).is_some()) {
            let detail = "Address already in use".to_owned();
            return Err(EngineError::Taken { what: format!("address {address}"), detail });
        }
        if let Some(container) = self.containers.get_mut(id) {
            container.life = Life::Running { since: now };
            container.sick = false;
            container.log.extend_from_slice(&container.behaviour.log);
        }
        Ok(())
    }

    /// The daemon is killed before it has written down that it started this.
    pub(super) fn start_and_forget(&mut self, id: &str, now: Duration, left: Left) -> Result<(), EngineError> {
        let is_new = self.containers.get(id).filter(|container| !container.is_running()).cloned();
        self.start(id, now)?;
        if let Some(before) = is_new
            && let Some(started) = self.containers.insert(id.to_owned(), before)
        {
            self.entangled.insert(id.to_owned());
            let stray = match left {
                Left::Nothing => None,
                Left::Waiting => Some(Container { port: 0, ..started }),
                Left::Program => Some(started),
            };
            self.strays.extend(stray.map(|stray| (id.to_owned(), stray)));
        }
        self.boots += 1;
        Err(EngineError::Unreachable { detail: "the daemon was killed".to_owned() })
    }

    pub(super) fn lose_power(&mut self) {
        self.strays.clear();
        self.entangled.clear();
        self.restart(false);
    }

    pub(super) fn lost_track(&self) -> Vec<Occupant> {
        self.strays.iter().map(occupant).collect()
    }

    pub(super) fn occupants(&self, network: &str, addresses: &[Ipv4Addr]) -> Vec<Occupant> {
        let running = self.containers.iter().filter(|(_, container)| container.is_running());
        let all = running.chain(&self.strays);
        let there = |(_, container): &(&String, &Container)| {
            container.network == network && addresses.contains(&container.address)
        };
        all.filter(there).map(occupant).collect()
    }

    pub(super) fn evict(&mut self, id: &str) {
        let was_there = self.strays.remove(id).is_some() || self.containers.get(id).is_some_and(Container::is_running);
        if was_there {
            self.entangled.insert(id.to_owned());
        }
        self.end(id, 137, false);
    }

    pub(super) fn is_anybody(&self, address: Ipv4Addr) -> bool {
        self.containers.values().chain(self.strays.values()).any(|container| container.is_at(address))
    }

    pub(super) fn stop(&mut self, id: &str) -> Stopped {
        let stubborn = |container: &Container| container.is_running() && container.behaviour.ignores_stop;
        if self.containers.get(id).is_some_and(stubborn) {
            return Stopped::MustBeKilled;
        }
        self.end(id, 0, false);
        Stopped::Ended
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.end(id, 137, false);
        self.containers.remove(id);
        self.entangled.remove(id);
    }

    /// Ends a container if it runs.
    pub(super) fn end(&mut self, id: &str, exit_code: i64, out_of_memory: bool) {
        let Some(container) = self.containers.get_mut(id).filter(|container| container.is_running()) else { return };
        container.life = Life::Ended { exit_code, out_of_memory };
        let Some(labels) = container.labels.clone() else { return };
        if self.deaths.len() == DEATHS_KEPT_MAX {
            self.deaths.pop_front();
            self.deaths_dropped += 1;
        }
        self.deaths.push_back(EngineEvent::Died { id: id.to_owned(), labels, exit_code });
    }

    pub(super) fn restart(&mut self, live_restore: bool) {
        self.boots += 1;
        if !live_restore {
            let all: Vec<_> = self.containers.keys().cloned().collect();
            all.iter().for_each(|id| self.end(id, 255, false));
        }
    }

    pub(super) fn prune(&mut self) {
        let used: BTreeSet<_> = self.containers.values().map(|container| container.image_id.clone()).collect();
        self.images.forget_all_but(&used);
    }

    pub(super) fn wipe(&mut self) {
        self.boots += 1;
        self.networks.clear();
        self.containers.clear();
        self.strays.clear();
        self.images.forget_all_but(&BTreeSet::new());
    }

    pub(super) fn set_sick(&mut self, id: &str, sick: bool) {
        for container in [self.containers.get_mut(id), self.strays.get_mut(id)].into_iter().flatten() {
            container.sick = sick;
        }
    }

    /// It runs on without an address.
    pub(super) fn disconnect(&mut self, id: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            container.address = Ipv4Addr::UNSPECIFIED;
        }
    }

    pub(super) fn inspect(&self, id: &str) -> Result<Option<ContainerFacts>, EngineError> {
        let Some(container) = self.containers.get(id) else { return Ok(None) };
        container.facts(id).map(Some).ok_or_else(|| EngineError::Refused {
            operation: format!("looking at container {id}"),
            detail: "it does not carry this program's labels".to_owned(),
        })
    }

    pub(super) fn list(&self, host: &HostId) -> Vec<ContainerFacts> {
        let facts = self.containers.iter().filter_map(|(id, container)| container.facts(id));
        facts.filter(|facts| facts.labels.host == *host).collect()
    }

    pub(super) fn log(&self, id: &str) -> Result<Vec<String>, EngineError> {
        let log = self.containers.get(id).map(|container| container.log.clone());
        log.ok_or_else(|| EngineError::Refused {
            operation: format!("reading the log of container {id}"),
            detail: format!("No such container: {id}"),
        })
    }

    pub(super) fn running_at(&self, address: Ipv4Addr) -> Option<String> {
        self.containers.iter().find(|(_, container)| container.is_at(address)).map(|(id, _)| id.clone())
    }

    pub(super) fn probe(&mut self, address: Ipv4Addr, port: u16, now: Duration) -> Result<String, String> {
        let known = self.containers.values().find(|container| container.is_at(address));
        let stray = self.strays.values().find(|container| container.is_at(address));
        let container = match (known, stray) {
            (Some(known), Some(stray)) => {
                // One address, two who have it: packets reach the one or the other.
                let turn = if self.asked_of_two.is_multiple_of(2) { known } else { stray };
                self.asked_of_two += 1;
                turn
            }
            (known, stray) => known.or(stray).ok_or("no route to host")?,
        };
        let Life::Running { since } = container.life else { return Err("no route to host".to_owned()) };
        if port != container.port {
            return Err(REFUSED.to_owned());
        }
        match container.behaviour.healthy_after {
            Some(_) if container.sick => Err("503 in 0.0 ms".to_owned()),
            Some(after) if now >= since + after => Ok("200 in 0.0 ms".to_owned()),
            Some(_) => Err(REFUSED.to_owned()),
            None => Err("503 in 0.0 ms".to_owned()),
        }
    }

    /// Ends what has ended by itself by now, earliest first.
    pub(super) fn settle(&mut self, now: Duration) {
        let due = |(id, container): (&String, &Container)| {
            let death = container.behaviour.dies?;
            let at = container.dies_at().filter(|at| *at <= now)?;
            Some((at, id.clone(), death))
        };
        let mut all: Vec<_> = self.containers.iter().filter_map(due).collect();
        all.sort_by_key(|(at, _, _)| *at);
        all.iter().for_each(|(_, id, death)| self.end(id, death.exit_code, death.out_of_memory));
    }

    pub(super) fn until_next_death(&self, now: Duration) -> Option<Duration> {
        let next = self.containers.values().filter_map(Container::dies_at).min();
        next.map(|at| at.saturating_sub(now))
    }

    pub(super) fn cursor(&self) -> Cursor {
        Cursor { boots: self.boots, next: self.deaths_dropped + self.deaths.len() as u64 }
    }

    /// Whether the daemon that the stream belongs to still runs.
    pub(super) fn is_current(&self, cursor: &Cursor) -> bool {
        cursor.boots == self.boots
    }

    pub(super) fn next_death(&self, cursor: &mut Cursor, host: &HostId) -> Option<EngineEvent> {
        let skipped = cursor.next.saturating_sub(self.deaths_dropped) as usize;
        for (number, event) in (self.deaths_dropped..).zip(&self.deaths).skip(skipped) {
            cursor.next = number + 1;
            let EngineEvent::Died { labels, .. } = event;
            if labels.host == *host {
                return Some(event.clone());
            }
        }
        None
    }

    fn insert(&mut self, container: Container) -> String {
        self.created += 1;
        // The number first: people are shown the beginning.
        let id = format!("{:012x}{:052x}", self.created, 0);
        self.containers.insert(id.clone(), container);
        id
    }
}

fn occupant((id, container): (&String, &Container)) -> Occupant {
    Occupant { id: id.clone(), address: container.address }
}

impl Container {
    fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    fn is_at(&self, address: Ipv4Addr) -> bool {
        self.is_running() && self.address == address
    }

    fn dies_at(&self) -> Option<Duration> {
        match self.life {
            Life::Running { since } => self.behaviour.dies.map(|death| since + death.after),
            Life::Created | Life::Ended { .. } => None,
        }
    }

    fn facts(&self, id: &str) -> Option<ContainerFacts> {
        let condition = match self.life {
            Life::Created => Condition::Created,
            Life::Running { .. } => Condition::Running,
            Life::Ended { exit_code, out_of_memory } => Condition::Exited { exit_code, out_of_memory },
        };
        let (labels, image_id) = (self.labels.clone()?, self.image_id.clone());
        let addresses = if self.is_connected() { vec![self.address] } else { Vec::new() };
        Some(ContainerFacts { id: id.to_owned(), labels, image_id, condition, addresses })
    }

    fn is_connected(&self) -> bool {
        !self.address.is_unspecified()
    }
}

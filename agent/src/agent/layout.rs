//! What follows from the state: addresses, nginx's shape and flags, and which places are kept.

use super::{Agent, Happening, Kept};
use crate::berth::Berth;
use crate::docker::{Condition, ContainerFacts, Labels};
use crate::executor::edge::Routes;
use crate::executor::job::Turn;
use crate::executor::keep::{Health, Keeper};
use crate::executor::{Failure, clear, sockets, vacate};
use crate::nginx::{Flag, ServiceShape, Shape};
use crate::release::{Release, Route};
use crate::state::{HostState, Mooring, Place, Standing};
use cutover::ids::{Colour, ServiceName};
use cutover::message::Slot;
use cutover::participant::Record;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often leftovers are looked for. One listing of this host's containers each time.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(30);

impl Agent {
    /// The fixed addresses of a release's containers in a berth. Those of the other berths are taken as
    /// well: nginx's config names all of them at all times.
    pub(super) fn addresses(&mut self, release: &Release, berth: Berth) -> Result<Vec<Ipv4Addr>, Failure> {
        let mut addresses = Vec::new();
        for container in &release.containers {
            for each in Berth::ALL {
                let address = self.state.addresses.allocate(&release.service, &container.name, each)?;
                if each == berth {
                    addresses.push(address);
                }
            }
        }
        Ok(addresses)
    }

    pub(super) fn known_addresses(&self, standing: &Standing) -> Option<Vec<Ipv4Addr>> {
        let Standing { release, berth, .. } = standing;
        let of = |name: &String| self.state.addresses.get(&release.service, name, *berth);
        release.containers.iter().map(|container| of(&container.name)).collect()
    }

    /// Where these slots lead.
    pub(super) fn routes(&self, slots: &BTreeMap<ServiceName, Slot>) -> Routes {
        routes(&self.state, slots)
    }

    /// Everything in nginx's config: each service that has something standing.
    pub(super) fn shape(&self) -> Shape {
        self.shape_with(&BTreeMap::new())
    }

    /// The same, with the routes of what is being made ready in these slots.
    pub(super) fn shape_with(&self, coming: &BTreeMap<ServiceName, Slot>) -> Shape {
        let names: BTreeSet<_> = self.state.places.keys().map(|(service, _)| service.clone()).collect();
        let services = names.into_iter().filter_map(|service| {
            let shape = self.service_shape(&service, coming.get(&service))?;
            Some((service, shape))
        });
        Shape { services: services.collect() }
    }

    fn service_shape(&self, service: &ServiceName, coming: Option<&Slot>) -> Option<ServiceShape> {
        let place = |colour: Colour| self.state.places.get(&(service.clone(), colour));
        let behind = |slot: &Slot| self.state.behind(service, slot).map(|(_, standing)| standing);
        let coming = coming.copied().or_else(|| self.coming(service)).as_ref().and_then(behind);
        let applied = self.state.record.applied.get(service).and_then(behind);
        let held = self.state.record.held.get(service).and_then(behind);
        let routed = coming.or(applied).or_else(|| Colour::BOTH.into_iter().find_map(place))?;
        let address = |berth: Berth| {
            let moored = self.state.moored(&(service.clone(), berth)).map(|(_, standing)| standing);
            let container = moored.unwrap_or(routed).release.containers.first()?;
            let address = self.state.addresses.get(service, &container.name, berth)?;
            Some(SocketAddrV4::new(address, container.port))
        };
        let [a, b, c] = Berth::ALL.map(address);
        // What is served keeps its ways in until the switch, and after one that never comes. So does what a switch
        // by hand may come back to: it must need no reload.
        let kept = [applied, held].into_iter().flatten();
        let routes = kept.fold(routed.release.routes.clone(), |routes, kept| all_routes(&routes, &kept.release.routes));
        Some(ServiceShape { routes, berths: [a?, b?, c?] })
    }

    /// What is promised, or being made ready, for this service.
    fn coming(&self, service: &ServiceName) -> Option<Slot> {
        let Record { applied, held, .. } = &self.state.record;
        let is_here = |slot: &Slot| [applied, held].iter().any(|slots| slots.get(service) == Some(slot));
        let mut needed = self.participant.needed_slots().into_iter().filter(|(name, _)| name == service);
        needed.find(|(_, slot)| !is_here(slot)).map(|(_, slot)| slot)
    }

    /// A keeper for every place that is served, promised or warm, and that no job is working on.
    pub(super) fn keep_places(&mut self) {
        let worked_on: BTreeSet<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.has_ended)
            .flat_map(|(_, job)| job.places.iter().cloned())
            .collect();
        let is_kept =
            |service: &ServiceName, standing: &Standing| self.kept.contains_key(&(service.clone(), standing.berth));
        let missing: Vec<_> = self
            .state
            .standing()
            .filter(|(place, standing)| !is_kept(&place.0, standing))
            .filter(|(place, standing)| {
                let is_current = self.state.places.get(*place).is_some_and(|current| current.berth == standing.berth);
                !(is_current && worked_on.contains(*place))
            })
            .map(|(place, standing)| (place.clone(), standing.clone()))
            .collect();
        for (place, standing) in missing {
            let is_checked = self.jobs.values().any(|job| job.is_ready && job.places.contains(&place));
            self.keep(&place, standing, if is_checked { Health::Healthy } else { Health::Starting });
        }
    }

    fn keep(&mut self, place: &Place, standing: Standing, health: Health) {
        let Some(addresses) = self.known_addresses(&standing) else { return };
        let wake = Arc::new(Notify::new());
        let mooring = (place.0.clone(), standing.berth);
        let (events, digest, name) = (self.events.clone(), standing.release.digest, mooring.clone());
        let keeper = Keeper {
            tools: self.tools.clone(),
            release: standing.release,
            generation: standing.generation,
            colour: place.1,
            berth: standing.berth,
            addresses,
            wake: Arc::clone(&wake),
            known: health.clone(),
        };
        let tell = move |health| drop(events.send(Happening::Kept(name.clone(), digest, health)));
        let task = tokio::spawn(keeper.run(tell));
        self.kept.insert(mooring, Kept { task: task.abort_handle(), wake, health });
    }

    pub(super) fn stop_keeping(&mut self, mooring: &Mooring) {
        if let Some(kept) = self.kept.remove(mooring) {
            kept.task.abort();
        }
    }

    /// Takes the containers of what stood in a place away, once nobody talks to them any more. An agent that dies
    /// meanwhile goes on with it after its start.
    pub(super) fn clear_away(&mut self, place: &Place, standing: Standing) {
        let mooring = standing.mooring();
        self.stop_keeping(&mooring);
        self.state.leaving.push((place.clone(), standing.clone()));
        self.clear(standing, self.tools.turns.try_take(&mooring));
    }

    fn clear(&self, standing: Standing, turn: Option<Turn>) {
        let addresses = self.known_addresses(&standing).unwrap_or_default();
        let addresses = sockets(&standing.release, &addresses);
        let (tools, events) = (self.tools.clone(), self.events.clone());
        tokio::spawn(async move {
            let _turn = match turn {
                Some(turn) => turn,
                None => tools.turns.take(&standing.mooring()).await,
            };
            let cleared = async {
                let there = tools.engine.list(&tools.host).await?;
                let is_it = |facts: &ContainerFacts| facts.labels.made_for() == standing.made_for();
                let gone: Vec<_> = there.into_iter().filter(is_it).collect();
                clear::clear(&tools, &gone, Some(&standing), &addresses).await
            };
            match cleared.await {
                Ok(()) => drop(events.send(Happening::Left(standing))),
                Err(error) => {
                    tracing::warn!(%error, "cannot clear a berth now; tried again when leftovers are looked for");
                    drop(events.send(Happening::NotCleared));
                }
            }
        });
    }

    /// What left is forgotten; the journal hears of it when it is written next.
    pub(super) fn left(&mut self, gone: &Standing) {
        self.state.leaving.retain(|(_, standing)| standing.made_for() != gone.made_for());
    }

    /// Lists this host's containers now and then, to find those that stand for nothing.
    pub(super) fn look_for_leftovers(&mut self) {
        if Instant::now() < self.sweep_from {
            return;
        }
        self.sweep_from = Instant::now() + SWEEP_EVERY;
        let (tools, events) = (self.tools.clone(), self.events.clone());
        let kept: BTreeSet<_> =
            self.state.standing().filter_map(|(_, standing)| self.known_addresses(standing)).flatten().collect();
        let all = self.state.addresses.all();
        tokio::spawn(async move {
            let Ok(there) = tools.engine.list(&tools.host).await else {
                return drop(events.send(Happening::NotCleared));
            };
            let is_running = |address: &Ipv4Addr| {
                there.iter().any(|facts| facts.condition == Condition::Running && facts.is_at(*address))
            };
            // Where something stands, what Docker does not know may be what serves: there its keeper decides, unless
            // somebody shares the address with it.
            let addresses: Vec<_> =
                all.into_iter().filter(|address| !kept.contains(address) || is_running(address)).collect();
            drop(events.send(Happening::Listed(there)));
            if let Err(error) = vacate::sweep(&tools, &addresses).await {
                tracing::warn!(%error, "cannot end what Docker lost track of; tried again with the next look");
            }
        });
    }

    /// Clears away what was left by a process that died, or while Docker did not answer. A service that
    /// serves nothing here yet is left alone: what is there may be all it has. So is a berth that someone
    /// works on.
    pub(super) fn sweep(&mut self, there: Vec<ContainerFacts>) {
        for facts in there {
            let Labels { service, berth, release, .. } = &facts.labels;
            let mooring = (service.clone(), *berth);
            let is_known = self.state.moored(&mooring).is_some_and(|(_, standing)| standing.release.digest == *release);
            if is_known || !self.state.record.applied.contains_key(service) {
                continue;
            }
            // Taken here, so that no job that starts from now on can adopt it first.
            let Some(turn) = self.tools.turns.try_take(&mooring) else { continue };
            let leaving =
                self.state.leaving.iter().find(|(_, standing)| standing.made_for() == facts.labels.made_for());
            if let Some((_, standing)) = leaving {
                self.clear(standing.clone(), Some(turn));
                continue;
            }
            tracing::info!(service = %mooring.0, berth = %mooring.1, id = %facts.id, "sweeping a leftover");
            let tools = self.tools.clone();
            tokio::spawn(async move {
                let _turn = turn;
                if let Err(error) = clear::clear(&tools, std::slice::from_ref(&facts), None, &[]).await {
                    tracing::warn!(%error, "cannot sweep a leftover now");
                }
            });
        }
    }

    /// Places whose time as the way back is over.
    pub(super) async fn retire_cold_places(&mut self) {
        let needed = self.participant.needed();
        let now = self.tools.clocks.now();
        let cold: Vec<_> = self
            .state
            .places
            .iter()
            .filter(|(place, standing)| {
                let is_cold = standing.retired.is_some_and(|retired| retired.is_cold(now));
                is_cold && !needed.contains(*place) && !self.is_led_to(&(place.0.clone(), standing.berth))
            })
            .map(|(place, _)| place.clone())
            .collect();
        if cold.is_empty() {
            return;
        }
        for place in cold {
            tracing::info!(service = %place.0, colour = %place.1, "no longer kept warm");
            if let Some(standing) = self.state.places.remove(&place) {
                self.clear_away(&place, standing);
            }
        }
        self.persist().await;
    }

    /// Releases that nothing here stands for any more.
    pub(super) fn forget_releases(&mut self) {
        let state = self.participant.state();
        let committed: BTreeSet<_> = state
            .iter()
            .flat_map(|state| state.services.values())
            .filter_map(|service| service.committed.map(|committed| committed.release))
            .collect();
        let standing: BTreeSet<_> = self.state.standing().map(|(_, standing)| standing.release.digest).collect();
        self.releases.retain(|digest, _| committed.contains(digest) || standing.contains(digest));
    }
}

/// Routes, and those of `others` that are not among them: name by name, as nginx takes each name of an
/// address once.
fn all_routes(routes: &[Route], others: &[Route]) -> Vec<Route> {
    let is_there = |other: &Route, name: Option<&String>| {
        routes.iter().any(|route| {
            let Route { address, port, server_names } = route;
            (address, port) == (&other.address, &other.port)
                && name.map_or(server_names.is_empty(), |name| server_names.contains(name))
        })
    };
    let missing = others.iter().filter_map(|other| {
        if other.server_names.is_empty() {
            return (!is_there(other, None)).then(|| other.clone());
        }
        let names = other.server_names.iter().filter(|name| !is_there(other, Some(name)));
        let server_names: Vec<_> = names.cloned().collect();
        (!server_names.is_empty()).then(|| Route { server_names, ..other.clone() })
    });
    routes.iter().cloned().chain(missing).collect()
}

/// Where these slots lead, with what stands on this host.
pub(super) fn routes(state: &HostState, slots: &BTreeMap<ServiceName, Slot>) -> Routes {
    let routes = slots.iter().filter_map(|(name, slot)| {
        let berth = state.berth(name, slot)?;
        let Slot { colour, generation, release: _ } = *slot;
        Some((name.clone(), Flag { colour, berth, generation }))
    });
    routes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16, names: &[&str]) -> Route {
        Route { address: None, port, server_names: names.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn routes_that_go_are_kept_beside_those_that_come_and_each_name_stands_once() {
        let old = [route(80, &[]), route(80, &["a", "b"]), route(81, &["a"])];
        assert_eq!(all_routes(&old, &old), old);
        assert_eq!(all_routes(&[route(82, &[])], &[route(81, &[])]), [route(82, &[]), route(81, &[])]);
        let new = [route(80, &["b", "c"])];
        let all = [route(80, &["b", "c"]), route(80, &[]), route(80, &["a"]), route(81, &["a"])];
        assert_eq!(all_routes(&new, &old), all);
    }
}

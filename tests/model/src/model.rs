//! The world as the checker sees it: what can happen in a state, and what must hold in all of them.

use crate::action::Action;
use crate::config::Config;
use crate::fleet::{Fleet, Memos};
use crate::host::{Mishap, Moment, Past};
use crate::names;
use crate::network::Packet;
use cutover::message::Outcome;
use stateright::{Model, Property};

/// The invariants that have a property.
const NUMBERS: [&str; 10] = ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"];

/// A configuration to be explored.
pub struct World {
    /// Its bounds.
    pub config: Config,
    memos: Memos,
}

impl World {
    /// Of this size.
    pub fn new(config: Config) -> Self {
        Self { config, memos: Memos::default() }
    }

    /// What happens without anything going wrong.
    fn ordinary(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        for (controller, leader) in fleet.controllers.iter().enumerate() {
            let Some(leader) = leader else { continue };
            for deployment in leader.asked.keys() {
                actions.push(Action::StoreAnswers { controller, deployment: deployment.clone() });
            }
            for (host, known) in fleet.hosts.iter().enumerate() {
                if leader.truth.members.get(names::host(host)) != Some(&known.disk.incarnation) {
                    actions.push(Action::Registers { controller, host });
                }
            }
            for deployment in fleet.undecided(controller) {
                actions.push(Action::DeadlinePasses { controller, deployment: deployment.clone() });
                if self.config.may_be_missing > 0 {
                    let hosts = 0..self.config.hosts;
                    let deployment = || deployment.clone();
                    actions.extend(hosts.map(|host| Action::Misses { controller, deployment: deployment(), host }));
                }
            }
        }
        for (host, _) in fleet.hosts.iter().enumerate() {
            let moments = moments(fleet, host);
            let ordinary = moments.into_iter().map(|moment| Action::Happens { host, moment, mishap: Mishap::None });
            actions.extend(ordinary);
        }
        for packet in fleet.network.packets() {
            let is_for_leaders = match &**packet {
                Packet::Vote { .. } | Packet::Lost { .. } | Packet::Applied { .. } => true,
                Packet::Prepare { .. } | Packet::State(_) | Packet::Write(_) => false,
            };
            if is_for_leaders {
                let controllers = (0..fleet.controllers.len()).filter(|index| fleet.controllers[*index].is_some());
                actions.extend(controllers.map(|controller| Action::Hears { controller, packet: packet.clone() }));
            }
        }
    }

    fn opens(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        let Some(services) = self.config.plan.get(usize::from(fleet.spent.opened)) else { return };
        for (controller, leader) in fleet.controllers.iter().enumerate() {
            if leader.as_ref().is_some_and(|leader| leader.truth.is_free(services.keys())) {
                actions.push(Action::Opens { controller, without: None });
                if fleet.spent.excluded < self.config.exclusions {
                    let hosts = 0..self.config.hosts;
                    actions.extend(hosts.map(|host| Action::Opens { controller, without: Some(host) }));
                }
            }
        }
    }

    fn faults(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        let (spent, config) = (&fleet.spent, &self.config);
        if spent.elected < config.epochs {
            for (controller, leader) in fleet.controllers.iter().enumerate() {
                if leader.as_ref().is_none_or(|leader| leader.epoch != fleet.store.epoch) {
                    actions.push(Action::IsElected { controller });
                }
            }
        }
        for packet in fleet.network.packets() {
            if matches!(&**packet, Packet::Write(_)) {
                actions.push(Action::WriteLands { packet: packet.clone() });
            }
        }
        for (host, here) in fleet.hosts.iter().enumerate() {
            let mut add = |moment, mishap| actions.push(Action::Happens { host, moment, mishap });
            if spent.crashed < config.crashes {
                add(Moment::Crashes, Mishap::None);
                for moment in moments(fleet, host) {
                    let acts = fleet.acts(config, &self.memos, host, &moment);
                    (1..acts).for_each(|acts| add(moment.clone(), Mishap::CrashAfter(acts)));
                }
            }
            if spent.failed < config.failures {
                for moment in moments(fleet, host) {
                    add(moment, Mishap::DiskFull);
                }
                here.jobs.iter().for_each(|work| add(Moment::CouldNotMakeReady(work.clone()), Mishap::None));
                add(Moment::CannotSwitch, Mishap::None);
                add(Moment::SwitchesUnseen, Mishap::None);
            }
            if config.moves_by_hand > 0 {
                here.disk.held.keys().for_each(|service| add(Moment::IsReleased(service.clone()), Mishap::None));
            }
            if spent.moved < config.moves_by_hand {
                let services = here.before.iter().flat_map(|before| before.keys());
                for service in services {
                    add(Moment::IsMovedByHand(service.clone()), Mishap::None);
                    if spent.crashed < config.crashes {
                        let moment = Moment::IsMovedByHand(service.clone());
                        let acts = fleet.acts(config, &self.memos, host, &moment);
                        (1..acts).for_each(|acts| add(moment.clone(), Mishap::CrashAfter(acts)));
                    }
                }
            }
            if spent.died < config.deaths {
                let promised = here.disk.prepared.values().flat_map(|prepared| &prepared.services);
                for (service, slot) in promised {
                    add(Moment::LosesContainer(service.clone(), slot.colour), Mishap::None);
                }
            }
            if spent.replaced < config.replacements {
                actions.push(Action::IsReplaced { host });
            }
        }
    }

    /// Whether anything is left to happen if nothing goes wrong any more.
    fn goes_on(&self, fleet: &Fleet) -> bool {
        let waits = fleet.controllers.iter().flatten().any(|leader| !leader.asked.is_empty());
        if waits || fleet.hosts.iter().any(|host| !host.jobs.is_empty() || host.switching) {
            return true;
        }
        let mut actions = Vec::new();
        self.ordinary(fleet, &mut actions);
        actions.iter().any(|action| fleet.next(&self.config, &self.memos, action).is_some())
    }
}

/// What can happen to a host by itself or by a message.
fn moments(fleet: &Fleet, host: usize) -> Vec<Moment> {
    let here = &fleet.hosts[host];
    let mut moments: Vec<_> = here.jobs.iter().cloned().map(Moment::MadeReady).collect();
    if here.switching {
        moments.push(Moment::Switches);
    }
    if here.retries {
        moments.push(Moment::TriesAgain);
    }
    let heard = fleet.network.packets().iter().filter(|packet| match &***packet {
        Packet::Prepare { to, .. } => to & (1 << host) != 0,
        Packet::State(_) => true,
        Packet::Vote { .. } | Packet::Lost { .. } | Packet::Applied { .. } | Packet::Write(_) => false,
    });
    moments.extend(heard.cloned().map(Moment::Hears));
    moments
}

impl Model for World {
    type State = Fleet;
    type Action = Action;

    fn init_states(&self) -> Vec<Fleet> {
        vec![Fleet::new(&self.config)]
    }

    fn actions(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        if fleet.broken.is_none() {
            self.ordinary(fleet, actions);
            self.opens(fleet, actions);
            self.faults(fleet, actions);
        }
    }

    fn next_state(&self, fleet: &Fleet, action: Action) -> Option<Fleet> {
        fleet.next(&self.config, &self.memos, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("S1", |_, fleet| !breaks(fleet, "S1")),
            Property::always("S2", |_, fleet| !breaks(fleet, "S2")),
            Property::always("S3", |_, fleet| !breaks(fleet, "S3")),
            Property::always("S4", |_, fleet| !breaks(fleet, "S4")),
            Property::always("S5", |_, fleet| !breaks(fleet, "S5")),
            Property::always("S6", |_, fleet| !breaks(fleet, "S6")),
            Property::always("S7", |_, fleet: &Fleet| !breaks(fleet, "S7")),
            Property::always("S8", |_, fleet| !breaks(fleet, "S8")),
            Property::always("S9", |_, fleet| !breaks(fleet, "S9")),
            Property::always("S10", |_, fleet| !breaks(fleet, "S10")),
            // A number that has no property of its own must not end a path unseen.
            Property::always("others", |_, fleet: &Fleet| {
                fleet.broken.as_ref().is_none_or(|broken| NUMBERS.contains(&broken.0))
            }),
            Property::always("L2", |world: &Self, fleet| {
                fleet.broken.is_some() || fleet.is_converged() || world.goes_on(fleet)
            }),
            Property::sometimes("a deployment is committed", |_, fleet| decided(fleet, Outcome::Commit)),
            Property::sometimes("a deployment is aborted", |_, fleet| decided(fleet, Outcome::Abort)),
            Property::sometimes("all serve the last one planned", |world: &Self, fleet: &Fleet| {
                let last = world.config.plan.len();
                last > 0
                    && fleet.is_converged()
                    && fleet.store.outcomes.get(names::deployment(last - 1)) == Some(&Outcome::Commit)
            }),
            Property::sometimes("a decision lands that its leader does not know of", |_, fleet: &Fleet| {
                let mut asked = fleet.controllers.iter().flatten().flat_map(|leader| leader.asked.keys());
                asked.any(|deployment| fleet.store.outcomes.contains_key(deployment))
            }),
        ];
        let config = &self.config;
        if config.hosts > 1 {
            properties
                .push(Property::sometimes("hosts serve different generations for a while", |_, fleet: &Fleet| {
                    fleet.hosts.iter().any(|host| host.served != fleet.hosts[0].served)
                }));
        }
        if config.epochs > 1 {
            properties.push(Property::sometimes("a stale leader is refused and stands down", |_, fleet: &Fleet| {
                fleet.spent.elected > 1 && fleet.controllers.iter().any(Option::is_none)
            }));
            properties.push(Property::sometimes("two drive one deployment", |_, fleet: &Fleet| {
                let [a, b] = &fleet.controllers;
                let both = a.as_ref().zip(b.as_ref());
                both.is_some_and(|(a, b)| a.running.keys().any(|deployment| b.running.contains_key(deployment)))
            }));
        }
        if config.crashes > 0 {
            properties.push(Property::sometimes("a host crashes in doubt and follows", |_, fleet: &Fleet| {
                fleet.hosts.iter().any(|host| host.past == Past::Followed)
            }));
        }
        if config.replacements > 0 {
            properties.push(Property::sometimes(
                "a promise of a life that ended is asked for again",
                |_, fleet: &Fleet| {
                    let mut driven = fleet.controllers.iter().flatten().flat_map(|leader| leader.running.values());
                    driven.any(|driven| {
                        let opened = driven.opened();
                        fleet.store.opened[&opened.deployment].participants != opened.participants
                    })
                },
            ));
        }
        if config.may_be_missing > 0 {
            properties.push(Property::sometimes("a silent host is left out", |_, fleet: &Fleet| {
                let mut driven = fleet.controllers.iter().flatten().flat_map(|leader| leader.running.values());
                driven.any(|driven| !driven.left_out().is_empty())
            }));
        }
        if config.moves_by_hand > 0 {
            properties.push(Property::sometimes("an older generation is served by hand", |_, fleet: &Fleet| {
                fleet.hosts.iter().any(|host| host.served != host.disk.applied && !host.disk.held.is_empty())
            }));
        }
        if config.exclusions + config.replacements + config.deaths > 0 {
            properties.push(Property::sometimes("a host catches up", |_, fleet: &Fleet| {
                let mut jobs = fleet.hosts.iter().flat_map(|host| &host.jobs);
                jobs.any(|work| matches!(work, cutover::participant::Work::CatchUp(_)))
            }));
        }
        properties
    }
}

fn breaks(fleet: &Fleet, number: &str) -> bool {
    fleet.broken.as_ref().is_some_and(|broken| broken.0 == number)
}

fn decided(fleet: &Fleet, outcome: Outcome) -> bool {
    fleet.store.outcomes.values().any(|decided| *decided == outcome)
}

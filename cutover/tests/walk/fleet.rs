//! Leaders, store, network and hosts of a walk. Only the two state machines under test are real.

use crate::host::Host;
use crate::leader::{self, Leader};
use crate::store::Store;
use cutover::ids::{DeploymentId, HostId, ServiceName};
use cutover::invariant::{self, Violation};
use cutover::message::{Applied, Hello, Lost, Prepare, State, Vote};
use std::collections::BTreeMap;

pub const HOSTS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    VoteBeforeFsync,
    CountOldIncarnation,
    AnnounceBeforeStored,
    ForgetPromises,
    ForgetPlaces,
}

#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub commits: u32,
    pub aborts: u32,
    pub switches: u32,
    pub catch_ups: u32,
    pub crashes: u32,
    pub takeovers: u32,
    pub replaced: u32,
    pub holds: u32,
    pub left_out: u32,
    pub taken_in: u32,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.aborts += other.aborts;
        self.switches += other.switches;
        self.catch_ups += other.catch_ups;
        self.crashes += other.crashes;
        self.takeovers += other.takeovers;
        self.replaced += other.replaced;
        self.holds += other.holds;
        self.left_out += other.left_out;
        self.taken_in += other.taken_in;
    }
}

/// SplitMix64: small, and the same on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[derive(Debug, Clone)]
pub enum ToHost {
    Prepare(Prepare),
    State(State),
}

#[derive(Debug, Clone)]
pub enum ToLeader {
    Hello(Hello),
    Vote(Vote),
    Lost(Lost),
    Applied(Applied),
}

#[derive(Debug, Clone)]
pub enum Packet {
    Down {
        host: HostId,
        message: ToHost,
    },
    /// To whichever leader: both hear it, as a proxy or a reconnect may deliver it to either.
    Up {
        host: HostId,
        message: ToLeader,
    },
}

pub struct Fleet {
    pub tally: Tally,
    dice: Dice,
    store: Store,
    leaders: Vec<Leader>,
    hosts: BTreeMap<HostId, Host>,
    network: Vec<Packet>,
    sabotage: Option<Sabotage>,
    deployments: u32,
    /// On the hosts.
    has_operators: bool,
}

pub fn service(index: usize) -> ServiceName {
    ["web", "api"][index].parse().expect("a name")
}

pub fn host_id(index: usize) -> HostId {
    format!("h{index}").parse().expect("a name")
}

impl Fleet {
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let hosts = (0..HOSTS).map(|index| (host_id(index), Host::new(index as u128 + 1))).collect();
        let mut fleet = Self {
            tally: Tally::default(),
            dice: Dice::new(seed),
            store: Store::default(),
            leaders: Vec::new(),
            hosts,
            network: Vec::new(),
            sabotage,
            deployments: 0,
            has_operators: false,
        };
        for (id, host) in &fleet.hosts {
            fleet.store.register(id, host.disk.incarnation);
        }
        fleet.elect();
        fleet
    }

    /// A fleet that went through two deployments in peace, with somebody on its hosts who goes back and forth.
    pub fn with_operators(seed: u64) -> Result<Self, Violation> {
        let mut fleet = Self::new(seed, None);
        for _ in 0..2 {
            fleet.deployments += 1;
            let id: DeploymentId = format!("d{}", fleet.deployments).parse().expect("a name");
            let leader = fleet.leaders.last_mut().expect("a leader");
            let services = [service(0), service(1)];
            let content = fleet.deployments as u8;
            leader.open(&mut fleet.store, &mut fleet.network, id, &services, content, None);
            fleet.heal()?;
        }
        fleet.has_operators = true;
        Ok(fleet)
    }

    fn elect(&mut self) {
        self.tally.takeovers += 1;
        let leader = Leader::take_over(&mut self.store, &mut self.network);
        // The one before may go on for a while without knowing.
        if self.leaders.len() > 1 {
            self.leaders.remove(0);
        }
        self.leaders.push(leader);
    }

    pub fn step(&mut self) -> Result<(), Violation> {
        match self.dice.below(100) {
            20..=29 if self.has_operators => self.by_hand()?,
            0..=54 => self.deliver()?,
            55..=82 => self.host_acts()?,
            83..=84 => self.host_is_away()?,
            85..=89 => self.open_deployment(),
            90..=91 => self.link_up(),
            92..=93 => self.crash_host()?,
            94 => self.replace_host(),
            95 => self.elect(),
            96..=97 => self.deadline()?,
            98 => self.lose_a_slot()?,
            _ => self.restart_timers()?,
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), Violation> {
        if self.network.is_empty() {
            return Ok(());
        }
        let index = self.dice.below(self.network.len());
        let packet = if self.dice.one_in(8) { self.network[index].clone() } else { self.network.swap_remove(index) };
        if self.dice.one_in(12) {
            return Ok(());
        }
        self.carry(packet)
    }

    fn carry(&mut self, packet: Packet) -> Result<(), Violation> {
        match packet {
            Packet::Down { host, message } => self.with_host(&host, |host| host.hear(message)),
            Packet::Up { host, message } => self.with_leaders(|leader, desk| leader.hear(desk, &host, &message)),
        }
    }

    /// Lets a host do something and checks what it did to its disk.
    fn with_host(&mut self, id: &HostId, act: impl FnOnce(&mut Host)) -> Result<(), Violation> {
        let host = self.hosts.get_mut(id).expect("a host");
        let before_served = host.served_by_the_store();
        host.sabotage = self.sabotage;
        act(host);
        for message in host.outbox.drain(..) {
            self.network.push(Packet::Up { host: id.clone(), message });
        }
        self.tally.switches += std::mem::take(&mut host.switches);
        self.tally.catch_ups += std::mem::take(&mut host.catch_ups);
        self.tally.holds += std::mem::take(&mut host.holds);
        for [before, after] in host.written.drain(..) {
            invariant::generation_never_falls(id, &before, &after)?;
            invariant::one_content_per_generation(id, &before, &after)?;
            invariant::a_hold_ends_with_the_next_generation(id, &before, &after)?;
        }
        for [services, served] in host.made.drain(..) {
            invariant::makes_ready_beside_what_serves(id, &services, &served)?;
        }
        let after = &host.disk;
        invariant::served_never_goes_back(id, &before_served, &host.served_by_the_store())?;
        invariant::served_is_kept(id, &host.served, &host.needed())?;
        invariant::serves_only_committed(id, after, &self.store.history)?;
        host.serves_what_it_may(id, &self.store.history)
    }

    fn any_host(&mut self) -> HostId {
        host_id(self.dice.below(HOSTS))
    }

    fn host_acts(&mut self) -> Result<(), Violation> {
        let id = self.any_host();
        let fails = self.dice.one_in(10);
        self.with_host(&id, |host| host.act(fails))
    }

    fn open_deployment(&mut self) {
        self.deployments += 1;
        let id: DeploymentId = format!("d{}", self.deployments).parse().expect("a name");
        let services = match self.dice.below(3) {
            0 => vec![service(0)],
            1 => vec![service(1)],
            _ => vec![service(0), service(1)],
        };
        let without = self.dice.one_in(4).then(|| self.any_host());
        let leader = self.leaders.last_mut().expect("a leader");
        leader.open(&mut self.store, &mut self.network, id, &services, self.deployments as u8, without);
    }

    fn link_up(&mut self) {
        let id = self.any_host();
        let host = self.hosts.get_mut(&id).expect("a host");
        host.link_up();
        for message in host.outbox.drain(..) {
            self.network.push(Packet::Up { host: id.clone(), message });
        }
    }

    fn crash_host(&mut self) -> Result<(), Violation> {
        self.tally.crashes += 1;
        let id = self.any_host();
        let forget = self.sabotage == Some(Sabotage::ForgetPromises);
        self.with_host(&id, |host| {
            host.crash(forget);
            host.link_up();
        })
    }

    fn replace_host(&mut self) {
        if !self.dice.one_in(4) {
            return;
        }
        self.tally.replaced += 1;
        let id = self.any_host();
        let incarnation = 1000 + u128::from(self.tally.replaced);
        let host = Host::new(incarnation);
        // A controller registers a new life before it listens to it.
        self.store.register(&id, host.disk.incarnation);
        self.hosts.insert(id, host);
        self.link_up();
    }

    fn host_is_away(&mut self) -> Result<(), Violation> {
        let id = self.any_host();
        self.with_leaders(|leader, desk| leader.away(desk, &id))
    }

    fn deadline(&mut self) -> Result<(), Violation> {
        self.with_leaders(|leader, desk| leader.deadline(desk))
    }

    /// Lets each leader in turn do something. None of it reaches a disk before the next message.
    fn with_leaders(
        &mut self,
        mut act: impl FnMut(&mut Leader, &mut leader::Desk<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let disks = self.hosts.iter().map(|(id, host)| (id.clone(), host.disk.clone())).collect();
        for leader in &mut self.leaders {
            let mut desk = leader::Desk {
                store: &mut self.store,
                network: &mut self.network,
                disks: &disks,
                dice: &mut self.dice,
                sabotage: self.sabotage,
                tally: &mut self.tally,
            };
            act(leader, &mut desk)?;
        }
        Ok(())
    }

    fn lose_a_slot(&mut self) -> Result<(), Violation> {
        let id = self.any_host();
        self.with_host(&id, Host::lose_a_slot)
    }

    fn by_hand(&mut self) -> Result<(), Violation> {
        let id = self.any_host();
        let resume = self.dice.one_in(4);
        self.with_host(&id, |host| host.by_hand(resume))
    }

    fn restart_timers(&mut self) -> Result<(), Violation> {
        let id = self.any_host();
        self.with_host(&id, Host::retry)
    }

    /// Faults stop. Every deployment must end, every host must reach what is committed.
    pub fn heal(&mut self) -> Result<(), Violation> {
        self.network.clear();
        self.elect();
        self.leaders = self.leaders.split_off(self.leaders.len() - 1);
        for round in 0..60 {
            if round == 30 {
                self.deadline()?;
            }
            for index in 0..HOSTS {
                let id = host_id(index);
                self.with_host(&id, |host| {
                    host.link_up();
                    host.retry();
                    for _ in 0..8 {
                        host.act(false);
                    }
                })?;
            }
            for packet in std::mem::take(&mut self.network) {
                self.carry(packet)?;
            }
        }
        if let Some((name, deployment)) = self.store.pending.iter().next() {
            let detail = format!("{deployment:?} of {name} never ended");
            return Err(Violation { number: "L1", detail });
        }
        self.hosts.iter().try_for_each(|(id, host)| invariant::converged(id, &host.disk, &self.store.committed))
    }
}

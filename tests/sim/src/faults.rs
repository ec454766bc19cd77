//! Does what the plan says goes wrong, and heals it.

use crate::coverage::{Coverage, rows};
use crate::fleet::{CONTROLLERS, Fleet};
use crate::net::ETCD;
use crate::plan::{Fault, Plan, Scheduled};
use bgctl_agent::docker::Condition;
use bgctl_agent::docker::fake::{Call, Fault as DockerFault};
use bgctl_agent::nginx::Flag;
use bgctl_controller::store::etcd::EtcdConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use turmoil::Sim;

const ALL_CALLS: [Call; 14] = [
    Call::Version,
    Call::EnsureNetwork,
    Call::RemoveNetwork,
    Call::Image,
    Call::RegistryDigest,
    Call::Pull,
    Call::Create,
    Call::Start,
    Call::Stop,
    Call::Remove,
    Call::Inspect,
    Call::List,
    Call::LogTail,
    Call::Events,
];

/// How often a container that flaps changes its mind.
const FLAP: Duration = Duration::from_secs(2);

/// How a link is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cut {
    Whole,
    OneWay,
    Held,
}

/// What goes wrong now.
pub struct Faults {
    coming: Vec<Scheduled>,
    /// Waiting for their moment, which is to come more often than so many times.
    waiting: Vec<(u64, Scheduled)>,
    /// When each ends.
    going_on: Vec<(Duration, Fault)>,
    /// By first and second.
    cuts: BTreeMap<(String, String), Cut>,
    down: BTreeSet<String>,
    late_host: Option<Duration>,
    flapped: Duration,
    /// Machines whose clock was ever wrong.
    pub off: BTreeSet<String>,
    /// What was hit how often.
    pub coverage: Coverage,
}

impl Faults {
    /// Of a plan. A host that comes late is not there yet.
    pub fn new(plan: &Plan, sim: &mut Sim<'_>) -> Self {
        let mut faults = Self {
            coming: plan.faults.iter().rev().cloned().collect(),
            waiting: Vec::new(),
            going_on: Vec::new(),
            cuts: BTreeMap::new(),
            down: BTreeSet::new(),
            late_host: plan.late_host,
            flapped: Duration::ZERO,
            off: BTreeSet::new(),
            coverage: Coverage::default(),
        };
        if plan.late_host.is_some() {
            let name = format!("h{}", plan.hosts);
            sim.crash(name.as_str());
            faults.down.insert(name);
        }
        faults
    }

    /// Begins and ends what is due.
    pub fn step(&mut self, now: Duration, sim: &mut Sim<'_>, fleet: &Fleet) {
        if self.late_host.is_some_and(|at| at <= now) {
            self.late_host = None;
            let name = format!("h{}", fleet.hosts.len());
            fleet.timeline.say("WORLD", format!("{name} comes"));
            self.coverage.row(36);
            self.start(&name, sim);
        }
        let over: Vec<_> = self.going_on.extract_if(.., |(end, _)| *end <= now).map(|(_, fault)| fault).collect();
        for fault in over {
            fleet.timeline.say("WORLD", format!("ends: {fault:?}"));
            self.end(&fault, sim, fleet);
        }
        while self.coming.last().is_some_and(|next| next.at <= now) {
            let Some(next) = self.coming.pop() else { break };
            if let Some((moment, _)) = next.moment {
                let so_far = fleet.checks.seen().moments(moment);
                self.waiting.push((so_far, next));
                continue;
            }
            let Scheduled { lasts, fault, .. } = next;
            let touched = rows(&fault, &fleet.checks.seen());
            if self.begin(&fault, sim, fleet) {
                fleet.timeline.say("WORLD", format!("{fault:?} for {:.1} s", lasts.as_secs_f64()));
                self.coverage.fault(fault.kind());
                touched.iter().for_each(|row| self.coverage.row(*row));
                self.going_on.push((now + lasts, fault));
            }
        }
        let came = |so_far: u64, scheduled: &Scheduled| {
            scheduled.moment.is_some_and(|(moment, _)| fleet.checks.seen().moments(moment) > so_far)
        };
        let come: Vec<_> = self.waiting.extract_if(.., |(so_far, scheduled)| came(*so_far, scheduled)).collect();
        for (_, Scheduled { moment, lasts, fault, .. }) in come {
            let at = now + moment.map_or(Duration::ZERO, |(_, after)| after);
            self.coming.push(Scheduled { at, moment: None, lasts, fault });
        }
        // The next one last.
        self.coming.sort_by_key(|scheduled| std::cmp::Reverse(scheduled.at));
        if now >= self.flapped + FLAP {
            self.flapped = now;
            self.flap(fleet);
        }
    }

    /// Ends everything, now.
    pub fn heal(&mut self, sim: &mut Sim<'_>, fleet: &Fleet) {
        self.coming.clear();
        self.waiting.clear();
        for (_, fault) in std::mem::take(&mut self.going_on) {
            self.end(&fault, sim, fleet);
        }
        fleet.etcd.state().extend_leases(Duration::ZERO);
        for name in std::mem::take(&mut self.down) {
            sim.bounce(name.as_str());
        }
    }

    fn start(&mut self, name: &str, sim: &mut Sim<'_>) {
        if self.down.remove(name) {
            sim.bounce(name);
        }
    }

    /// False: it is down already.
    fn stop(&mut self, name: &str, sim: &mut Sim<'_>) -> bool {
        if !self.down.insert(name.to_owned()) {
            return false;
        }
        sim.crash(name);
        true
    }

    /// False: something else goes wrong there already, or there is nothing that could.
    fn begin(&mut self, fault: &Fault, sim: &mut Sim<'_>, fleet: &Fleet) -> bool {
        let host = |name: &String| &fleet.hosts[name];
        match fault {
            Fault::Partition(a, b) => self.cut(a, b, Cut::Whole, sim),
            Fault::OneWay(from, to) => self.cut(from, to, Cut::OneWay, sim),
            Fault::Hold(a, b) => self.cut(a, b, Cut::Held, sim),
            Fault::Pause(who) => {
                let others = everybody(fleet);
                let mut is_any_cut = false;
                for other in others.iter().filter(|other| *other != who) {
                    is_any_cut |= self.cut(who, other, Cut::Held, sim);
                }
                is_any_cut
            }
            Fault::CrashController(who) => self.stop(who, sim),
            Fault::CrashLeader => self.stop_leader(sim, fleet),
            Fault::CrashLeaderAndLeaseOutlives => {
                let ttl = EtcdConfig::new(Vec::new()).lease_ttl_seconds;
                fleet.etcd.state().extend_leases(Duration::from_secs(u64::from(ttl) * 2));
                self.stop_leader(sim, fleet)
            }
            Fault::CrashAgent(who) => {
                let stopped = self.stop(who, sim);
                if stopped {
                    host(who).disk.process_died();
                }
                stopped
            }
            Fault::PowerLoss(who) => {
                let stopped = self.stop(who, sim);
                if stopped {
                    let lost = host(who).disk.power_lost();
                    fleet.timeline.say("WORLD", format!("{who} lost {}", if lost { "a write" } else { "no write" }));
                    host(who).engine.fake.lose_power();
                    host(who).proxy.fake.die();
                }
                stopped
            }
            Fault::CrashEtcd => self.stop(ETCD, sim),
            Fault::EtcdTroubled(rates) => {
                fleet.etcd.set_rates(*rates);
                true
            }
            Fault::LeaseLost => fleet.etcd.end_leases(),
            Fault::Compacted => {
                fleet.etcd.stall_watches(true);
                true
            }
            Fault::QuotaFull => {
                fleet.etcd.state().set_full(true);
                true
            }
            Fault::ClockJump(who, millis) => {
                self.off.insert(who.clone());
                match fleet.hosts.get(who) {
                    Some(host) => host.ambient.set_off(*millis),
                    None => fleet.controllers[who].set_off(*millis),
                }
                true
            }
            Fault::DockerRefuses(who, call) => {
                let fault = DockerFault::Refuse("Internal Server Error".to_owned());
                host(who).engine.fake.fail(*call, fault);
                true
            }
            Fault::DockerNamesTaken(who) => {
                let fault = DockerFault::Refuse("Conflict. The container name is already in use".to_owned());
                host(who).engine.fake.fail(Call::Create, fault);
                true
            }
            Fault::DockerHangs(who) => {
                ALL_CALLS.iter().for_each(|call| host(who).engine.fake.fail(*call, DockerFault::Hang));
                true
            }
            Fault::DockerReplyLost(who, call) => {
                host(who).engine.fake.fail(*call, DockerFault::ReplyLost);
                true
            }
            Fault::DockerRestart(who, live_restore) => {
                host(who).engine.fake.restart_daemon(*live_restore);
                true
            }
            Fault::DockerKilledStarting(who, left) => {
                host(who).engine.fake.fail(Call::Start, DockerFault::KilledMeanwhile(*left));
                true
            }
            Fault::DockerGone(who) => {
                ALL_CALLS.iter().for_each(|call| host(who).engine.fake.fail(*call, DockerFault::Unreachable));
                true
            }
            Fault::RegistryStalls(who) => {
                host(who).engine.fake.fail(Call::Pull, DockerFault::Hang);
                host(who).engine.fake.fail(Call::RegistryDigest, DockerFault::Hang);
                true
            }
            Fault::DiskFull(who) => {
                let full = || DockerFault::Refuse("no space left on device".to_owned());
                host(who).engine.fake.fail(Call::Pull, full());
                host(who).engine.fake.fail(Call::Create, full());
                host(who).disk.trouble(|trouble| trouble.is_full = true);
                true
            }
            Fault::DiskBroken(who) => {
                host(who).disk.trouble(|trouble| trouble.is_broken = true);
                true
            }
            Fault::DiskSlow(who, by) => {
                host(who).disk.trouble(|trouble| trouble.slower_by = *by);
                true
            }
            Fault::NginxIgnores(who) => {
                host(who).proxy.ignore(true);
                true
            }
            Fault::NginxDies(who) => {
                host(who).proxy.fake.die();
                true
            }
            Fault::SwitchDeleted(who) => {
                host(who).proxy.fake.lose_switch();
                true
            }
            Fault::FlagFlipped(who) => flip(fleet, who),
            Fault::HealthFlaps(_) => true,
            Fault::ContainerKilled(who) => {
                let engine = &host(who).engine;
                let running = engine.fake.listed(&host(who).name).into_iter();
                let mut running = running.filter(|facts| facts.condition == Condition::Running);
                let victim = running.next();
                victim.is_some_and(|facts| {
                    engine.fake.kill(&facts.id, 137, true);
                    true
                })
            }
            Fault::ImagesPruned(who) => {
                host(who).engine.fake.prune();
                true
            }
            Fault::HostReplaced(who) => {
                let stopped = self.stop(who, sim);
                if stopped {
                    host(who).disk.replaced();
                    host(who).engine.fake.wipe();
                    host(who).proxy.wipe();
                    fleet.checks.replaced(&host(who).name);
                }
                stopped
            }
        }
    }

    fn end(&mut self, fault: &Fault, sim: &mut Sim<'_>, fleet: &Fleet) {
        let host = |name: &String| &fleet.hosts[name];
        match fault {
            Fault::Partition(a, b) | Fault::OneWay(a, b) | Fault::Hold(a, b) => self.mend(a, b, sim),
            Fault::Pause(who) => {
                for other in everybody(fleet).iter().filter(|other| *other != who) {
                    self.mend(who, other, sim);
                }
            }
            Fault::CrashController(who) | Fault::CrashAgent(who) | Fault::PowerLoss(who) | Fault::HostReplaced(who) => {
                self.start(who, sim)
            }
            Fault::CrashLeader | Fault::CrashLeaderAndLeaseOutlives => {
                CONTROLLERS.iter().for_each(|name| self.start(name, sim));
            }
            Fault::CrashEtcd => self.start(ETCD, sim),
            Fault::EtcdTroubled(_) => fleet.etcd.set_rates(crate::etcd::Rates::default()),
            Fault::LeaseLost => {}
            Fault::Compacted => {
                fleet.etcd.compact();
                fleet.etcd.stall_watches(false);
            }
            Fault::QuotaFull => fleet.etcd.state().set_full(false),
            Fault::ClockJump(who, _) => match fleet.hosts.get(who) {
                Some(host) => host.ambient.set_off(0),
                None => fleet.controllers[who].set_off(0),
            },
            Fault::DockerRefuses(who, call) | Fault::DockerReplyLost(who, call) => host(who).engine.fake.heal(*call),
            Fault::DockerNamesTaken(who) => host(who).engine.fake.heal(Call::Create),
            Fault::DockerKilledStarting(who, _) => host(who).engine.fake.heal(Call::Start),
            Fault::DockerHangs(who) | Fault::DockerGone(who) => {
                ALL_CALLS.iter().for_each(|call| host(who).engine.fake.heal(*call));
            }
            Fault::RegistryStalls(who) => {
                host(who).engine.fake.heal(Call::Pull);
                host(who).engine.fake.heal(Call::RegistryDigest);
            }
            Fault::DiskFull(who) => {
                host(who).engine.fake.heal(Call::Pull);
                host(who).engine.fake.heal(Call::Create);
                host(who).disk.trouble(|trouble| trouble.is_full = false);
            }
            Fault::DiskBroken(who) => host(who).disk.trouble(|trouble| trouble.is_broken = false),
            Fault::DiskSlow(who, _) => host(who).disk.trouble(|trouble| trouble.slower_by = Duration::ZERO),
            Fault::NginxIgnores(who) => host(who).proxy.ignore(false),
            Fault::HealthFlaps(who) => {
                for facts in host(who).engine.fake.listed(&host(who).name) {
                    host(who).engine.fake.set_sick(&facts.id, false);
                }
            }
            Fault::DockerRestart(..)
            | Fault::NginxDies(_)
            | Fault::SwitchDeleted(_)
            | Fault::FlagFlipped(_)
            | Fault::ContainerKilled(_)
            | Fault::ImagesPruned(_) => {}
        }
    }

    fn stop_leader(&mut self, sim: &mut Sim<'_>, fleet: &Fleet) -> bool {
        let leader =
            fleet.etcd.state().get("/bg/v1/leader").map(|(value, ..)| String::from_utf8_lossy(value).into_owned());
        // `NAME HOST:PORT`.
        let name = leader.as_deref().and_then(|leader| leader.split_whitespace().next());
        name.is_some_and(|name| self.stop(name, sim))
    }

    fn cut(&mut self, a: &str, b: &str, how: Cut, sim: &mut Sim<'_>) -> bool {
        if self.cuts.contains_key(&(a.to_owned(), b.to_owned()))
            || self.cuts.contains_key(&(b.to_owned(), a.to_owned()))
        {
            return false;
        }
        match how {
            Cut::Whole => sim.partition(a, b),
            Cut::OneWay => sim.partition_oneway(a, b),
            Cut::Held => sim.hold(a, b),
        }
        self.cuts.insert((a.to_owned(), b.to_owned()), how);
        true
    }

    fn mend(&mut self, a: &str, b: &str, sim: &mut Sim<'_>) {
        match self.cuts.remove(&(a.to_owned(), b.to_owned())) {
            Some(Cut::Whole | Cut::OneWay) => sim.repair(a, b),
            Some(Cut::Held) => sim.release(a, b),
            None => {}
        }
    }

    fn flap(&self, fleet: &Fleet) {
        for (_, fault) in &self.going_on {
            let Fault::HealthFlaps(who) = fault else { continue };
            let host = &fleet.hosts[who];
            let sick = (fleet.clock.now().as_secs() / FLAP.as_secs()).is_multiple_of(2);
            for facts in host.engine.fake.listed(&host.name) {
                host.engine.fake.set_sick(&facts.id, sick);
            }
        }
    }
}

fn everybody(fleet: &Fleet) -> Vec<String> {
    let fixed = CONTROLLERS.into_iter().chain([ETCD]).map(str::to_owned);
    fixed.chain(fleet.hosts.keys().cloned()).collect()
}

/// Somebody leads a service's traffic to its standby, or nowhere. False: there is no traffic.
fn flip(fleet: &Fleet, who: &str) -> bool {
    let host = &fleet.hosts[who];
    let Some(mut flags) = host.proxy.fake.current() else { return false };
    let seen = fleet.checks.seen();
    let Some((service, flag)) = flags.services.iter_mut().next() else { return false };
    let standby = seen.disks.get(&host.name).and_then(|state| {
        let other = flag.as_ref()?.colour.other();
        let standing = state.places.get(&(service.clone(), other)).filter(|standing| standing.retired.is_some())?;
        Some(Flag { colour: other, berth: standing.berth, generation: standing.generation })
    });
    *flag = standby;
    drop(seen);
    host.proxy.turn_by_hand(&flags);
    true
}

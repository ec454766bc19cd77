//! What a seed draws: who is there, what people do, and what goes wrong when.

use crate::etcd::Rates;
use crate::fleet::{CONTROLLERS, HOSTS_MAX, PEOPLE, versions};
use crate::net::ETCD;
use crate::people::Command;
use bgctl_agent::docker::fake::{Call, Left};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// Before this nothing goes wrong: the fleet comes to be.
const CALM_START: Duration = Duration::from_secs(10);

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing gets through between these two.
    Partition(String, String),
    /// Nothing gets from the first to the second.
    OneWay(String, String),
    /// Everything between these two is late: it comes when this ends.
    Hold(String, String),
    /// Everything to and from this one is late.
    Pause(String),
    /// A controller dies.
    CrashController(String),
    /// Whoever leads dies.
    CrashLeader,
    /// Whoever leads dies, and its lease lives on.
    CrashLeaderAndLeaseOutlives,
    /// An agent dies; its host goes on.
    CrashAgent(String),
    /// A host loses power: what was not synced is lost, containers and nginx stop.
    PowerLoss(String),
    /// etcd's process dies and comes back.
    CrashEtcd,
    /// Requests to etcd are lost, or their answers, or they land late.
    EtcdTroubled(Rates),
    /// The leader's lease is gone before its time.
    LeaseLost,
    /// Watches say nothing, then the past is forgotten.
    Compacted,
    /// etcd is over its quota.
    QuotaFull,
    /// A machine's clock is off, in milliseconds.
    ClockJump(String, i64),
    /// Docker refuses a call.
    DockerRefuses(String, Call),
    /// Names of containers are taken.
    DockerNamesTaken(String),
    /// Docker answers nothing.
    DockerHangs(String),
    /// Docker does, and its answer is lost.
    DockerReplyLost(String, Call),
    /// Docker is restarted, with or without live-restore.
    DockerRestart(String, bool),
    /// There is no Docker.
    DockerGone(String),
    /// The registry sends nothing.
    RegistryStalls(String),
    /// No room for images and containers.
    DiskFull(String),
    /// The journal cannot be written.
    DiskBroken(String),
    /// Each sync takes a second or more.
    DiskSlow(String, Duration),
    /// nginx takes every change and goes on as before.
    NginxIgnores(String),
    /// nginx dies.
    NginxDies(String),
    /// The switch directory is deleted.
    SwitchDeleted(String),
    /// Somebody turns the flags by hand.
    FlagFlipped(String),
    /// What is served answers 503 now and then.
    HealthFlaps(String),
    /// A container is killed.
    ContainerKilled(String),
    /// Images that no container uses are gone.
    ImagesPruned(String),
    /// Another machine under the same name.
    HostReplaced(String),
    /// Docker is killed whenever it starts a container, and loses track of what is left of it.
    DockerKilledStarting(String, Left),
}

/// Every kind of fault, as coverage lists them, and as they are drawn: what comes last changes no plan of those before.
pub const KINDS: [&str; 35] = [
    "partition",
    "partition one way",
    "hold",
    "pause",
    "crash controller",
    "crash leader",
    "crash leader, lease outlives",
    "crash agent",
    "power loss",
    "crash etcd",
    "etcd requests lost or late",
    "lease lost early",
    "watch compacted",
    "quota full",
    "clock jump",
    "docker 500",
    "docker 409",
    "docker hang",
    "docker reply lost",
    "docker restart",
    "docker restart, live-restore",
    "docker gone",
    "registry stall",
    "disk full",
    "disk broken",
    "disk slow",
    "nginx ignores",
    "nginx dies",
    "switch deleted",
    "flag by hand",
    "health flap",
    "container killed",
    "image pruned",
    "host replaced",
    "docker killed while it starts",
];

impl Fault {
    /// Its kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Partition(..) => "partition",
            Self::OneWay(..) => "partition one way",
            Self::Hold(..) => "hold",
            Self::Pause(_) => "pause",
            Self::CrashController(_) => "crash controller",
            Self::CrashLeader => "crash leader",
            Self::CrashLeaderAndLeaseOutlives => "crash leader, lease outlives",
            Self::CrashAgent(_) => "crash agent",
            Self::PowerLoss(_) => "power loss",
            Self::CrashEtcd => "crash etcd",
            Self::EtcdTroubled(_) => "etcd requests lost or late",
            Self::LeaseLost => "lease lost early",
            Self::Compacted => "watch compacted",
            Self::QuotaFull => "quota full",
            Self::ClockJump(..) => "clock jump",
            Self::DockerRefuses(..) => "docker 500",
            Self::DockerNamesTaken(_) => "docker 409",
            Self::DockerHangs(_) => "docker hang",
            Self::DockerReplyLost(..) => "docker reply lost",
            Self::DockerRestart(_, false) => "docker restart",
            Self::DockerRestart(_, true) => "docker restart, live-restore",
            Self::DockerGone(_) => "docker gone",
            Self::RegistryStalls(_) => "registry stall",
            Self::DiskFull(_) => "disk full",
            Self::DiskBroken(_) => "disk broken",
            Self::DiskSlow(..) => "disk slow",
            Self::NginxIgnores(_) => "nginx ignores",
            Self::NginxDies(_) => "nginx dies",
            Self::SwitchDeleted(_) => "switch deleted",
            Self::FlagFlipped(_) => "flag by hand",
            Self::HealthFlaps(_) => "health flap",
            Self::ContainerKilled(_) => "container killed",
            Self::ImagesPruned(_) => "image pruned",
            Self::HostReplaced(_) => "host replaced",
            Self::DockerKilledStarting(..) => "docker killed while it starts",
        }
    }
}

/// What a fault may wait for, so that it falls where it hurts: most of the time nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// A deployment was opened.
    Opened,
    /// A host's promise came to its disk.
    Promised,
    /// A deployment was decided.
    Decided,
    /// A host wrote what it had switched to.
    Applied,
}

/// A fault with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// When it begins.
    pub at: Duration,
    /// It begins that long after the next such moment instead.
    pub moment: Option<(Moment, Duration)>,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// Everything a seed says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Agents there are.
    pub hosts: usize,
    /// The last of them comes only then.
    pub late_host: Option<Duration>,
    /// What is deployed.
    pub services: Vec<String>,
    /// What each person does.
    pub commands: Vec<Vec<(Duration, Command)>>,
    /// Sorted by time.
    pub faults: Vec<Scheduled>,
    /// When everything is healed.
    pub heal_at: Duration,
}

impl Plan {
    /// What this seed draws.
    pub fn draw(seed: u64) -> Self {
        let mut chance = SmallRng::seed_from_u64(seed ^ 0x51ed);
        let hosts = chance.random_range(2..=HOSTS_MAX);
        let seconds = match chance.random_range(0..100) {
            0..80 => chance.random_range(60..100),
            80..97 => chance.random_range(100..180),
            _ => chance.random_range(180..600),
        };
        let heal_at = Duration::from_secs(seconds);
        let mut services = vec!["web".to_owned()];
        if chance.random_bool(0.3) {
            services.push("api".to_owned());
        }
        let late_host = chance.random_bool(0.2).then(|| Duration::from_secs(chance.random_range(15..seconds.min(90))));
        let commands = commands(&mut chance, &services, heal_at);
        let mut faults = faults(&mut chance, hosts, heal_at);
        faults.sort_by_key(|scheduled| scheduled.at);
        Self { hosts, late_host, services, commands, faults, heal_at }
    }
}

fn commands(chance: &mut SmallRng, services: &[String], until: Duration) -> Vec<Vec<(Duration, Command)>> {
    let mut all = vec![Vec::new(); PEOPLE.len()];
    for service in services {
        all[0].push((Duration::from_secs(2), Command::Apply { service: service.clone() }));
        let deploy = Command::Deploy { service: service.clone(), version: "v1".to_owned() };
        all[0].push((Duration::from_secs(4), deploy));
    }
    let names: Vec<_> = versions().into_iter().map(|(version, _)| version).collect();
    // Good versions more often than others: a fleet that only fails shows little.
    let good = ["v1", "v2", "v3"];
    let mut at = Duration::from_secs(10);
    loop {
        at += Duration::from_millis(chance.random_range(1_000..14_000));
        if at >= until {
            break;
        }
        let service = services.choose(chance).cloned().unwrap_or_default();
        let from = if chance.random_bool(0.7) { &good[..] } else { &names[..] };
        let version = from.choose(chance).copied().unwrap_or("v1").to_owned();
        let command = match chance.random_range(0..100) {
            0..62 => Command::Deploy { service, version },
            62..72 => Command::DeployTwice { service, version },
            72..88 => Command::Rollback { service },
            88..97 => Command::Abort { service },
            _ => Command::Apply { service },
        };
        all[chance.random_range(0..PEOPLE.len())].push((at, command));
    }
    all
}

fn faults(chance: &mut SmallRng, hosts: usize, until: Duration) -> Vec<Scheduled> {
    let mut all = Vec::new();
    for kind in 0..KINDS.len() {
        // Each kind has a rate of its own: most are absent from most runs.
        let rate = match chance.random_range(0..100) {
            0..72 => continue,
            72..93 => 1,
            _ => chance.random_range(2..5),
        };
        for _ in 0..rate {
            let span = (until - CALM_START).as_millis();
            let millis = chance.random_range(0..u64::try_from(span).unwrap_or(u64::MAX));
            let at = CALM_START + Duration::from_millis(millis);
            let lasts = Duration::from_millis(match chance.random_range(0..10) {
                0..4 => chance.random_range(200..3_000),
                4..8 => chance.random_range(3_000..15_000),
                _ => chance.random_range(15_000..60_000),
            });
            let moment = chance.random_bool(0.6).then(|| {
                let moments = [Moment::Opened, Moment::Promised, Moment::Decided, Moment::Applied];
                let after = Duration::from_millis(chance.random_range(0..400));
                (moments.choose(chance).copied().unwrap_or(Moment::Opened), after)
            });
            all.push(Scheduled { at, moment, lasts, fault: fault(chance, kind, hosts) });
        }
    }
    all
}

fn fault(chance: &mut SmallRng, kind: usize, hosts: usize) -> Fault {
    let host = |chance: &mut SmallRng| format!("h{}", chance.random_range(1..=hosts));
    let controller = |chance: &mut SmallRng| CONTROLLERS.choose(chance).copied().unwrap_or("c1").to_owned();
    let pair = |chance: &mut SmallRng| {
        let other = if chance.random_bool(0.5) { ETCD.to_owned() } else { host(chance) };
        (controller(chance), other)
    };
    let call = |chance: &mut SmallRng| {
        let calls = [
            Call::Image,
            Call::RegistryDigest,
            Call::Pull,
            Call::Create,
            Call::Start,
            Call::Stop,
            Call::Remove,
            Call::Inspect,
            Call::List,
            Call::EnsureNetwork,
            Call::Events,
        ];
        calls.choose(chance).copied().unwrap_or(Call::List)
    };
    match kind {
        0 => {
            let (a, b) = pair(chance);
            Fault::Partition(a, b)
        }
        1 => {
            let (a, b) = pair(chance);
            if chance.random_bool(0.5) { Fault::OneWay(a, b) } else { Fault::OneWay(b, a) }
        }
        2 => {
            let (a, b) = pair(chance);
            Fault::Hold(a, b)
        }
        3 => Fault::Pause(if chance.random_bool(0.6) { controller(chance) } else { host(chance) }),
        4 => Fault::CrashController(controller(chance)),
        5 => Fault::CrashLeader,
        6 => Fault::CrashLeaderAndLeaseOutlives,
        7 => Fault::CrashAgent(host(chance)),
        8 => Fault::PowerLoss(host(chance)),
        9 => Fault::CrashEtcd,
        10 => Fault::EtcdTroubled(Rates {
            before: chance.random_range(0..150),
            after: chance.random_range(0..200),
            late: chance.random_range(0..100),
        }),
        11 => Fault::LeaseLost,
        12 => Fault::Compacted,
        13 => Fault::QuotaFull,
        14 => {
            let who = if chance.random_bool(0.5) { controller(chance) } else { host(chance) };
            Fault::ClockJump(who, if chance.random_bool(0.5) { 3_600_000 } else { -3_600_000 })
        }
        15 => Fault::DockerRefuses(host(chance), call(chance)),
        16 => Fault::DockerNamesTaken(host(chance)),
        17 => Fault::DockerHangs(host(chance)),
        18 => Fault::DockerReplyLost(host(chance), call(chance)),
        19 => Fault::DockerRestart(host(chance), false),
        20 => Fault::DockerRestart(host(chance), true),
        21 => Fault::DockerGone(host(chance)),
        22 => Fault::RegistryStalls(host(chance)),
        23 => Fault::DiskFull(host(chance)),
        24 => Fault::DiskBroken(host(chance)),
        25 => Fault::DiskSlow(host(chance), Duration::from_millis(chance.random_range(500..4_000))),
        26 => Fault::NginxIgnores(host(chance)),
        27 => Fault::NginxDies(host(chance)),
        28 => Fault::SwitchDeleted(host(chance)),
        29 => Fault::FlagFlipped(host(chance)),
        30 => Fault::HealthFlaps(host(chance)),
        31 => Fault::ContainerKilled(host(chance)),
        32 => Fault::ImagesPruned(host(chance)),
        33 => Fault::HostReplaced(host(chance)),
        _ => {
            let left = [Left::Nothing, Left::Waiting, Left::Program];
            Fault::DockerKilledStarting(host(chance), left.choose(chance).copied().unwrap_or(Left::Waiting))
        }
    }
}

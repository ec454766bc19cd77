//! The fault itself, and putting right what nobody but a person or systemd would.

use super::case::{Fault, Link, Side, Victim};
use super::scene::{ChaosError, Scene};
use crate::netfleet::{Machine, NetFleetError};
use crate::process::Process;
use rustix::process::Signal;
use std::time::Duration;

/// How long a link stays cut: longer than a lease lives, so that a leader without its store is deposed.
const CUT_FOR: Duration = Duration::from_secs(7);
/// For a process that was started just before to be there, and for one that was killed to be gone.
const THERE_LIMIT: Duration = Duration::from_secs(30);

/// Strikes host number `host` or, where it is no host's fault, member or leader, while `standing`, the process at the
/// point, is stopped; then lets that go on, and heals. Programs that died are started again by their machines.
pub(super) async fn strike(
    scene: &mut Scene,
    fault: Fault,
    host: usize,
    standing: Option<&Standing>,
) -> Result<(), ChaosError> {
    match fault {
        Fault::Kill(victim) => {
            kill(scene, victim, host).await?;
            go_on(standing);
        }
        Fault::Cut(link) => {
            let (these, those) = ends(scene, link, host)?;
            let these: Vec<_> = these.iter().map(String::as_str).collect();
            let those: Vec<_> = those.iter().map(String::as_str).collect();
            let cut = scene.fleet.cut(&these, &those)?;
            go_on(standing);
            // The length of the fault, not a wait for its consequences.
            tokio::time::sleep(CUT_FOR).await;
            scene.fleet.heal(cut);
        }
        Fault::Reboot => {
            scene.fleet.power_off(host).await?;
            // What stood on another machine goes on while the host is off.
            go_on(standing);
            scene.fleet.power_on(host).await?;
        }
    }
    Ok(())
}

/// A process that is stopped at a point.
#[derive(Debug)]
pub(super) struct Standing {
    /// None: it died before it could be looked at.
    pub(super) process: Option<Process>,
}

/// Everybody who might come to the point.
pub(super) fn candidates(scene: &Scene, side: Side, host: usize) -> &[Machine] {
    match side {
        Side::Leader => scene.fleet.controllers(),
        Side::Host => &scene.fleet.hosts()[host..=host],
    }
}

/// The program whose points these are.
pub(super) fn program(side: Side) -> &'static str {
    match side {
        Side::Leader => "controller",
        Side::Host => "agent",
    }
}

/// Lets the process at the point go on, if it still lives.
pub(super) fn go_on(standing: Option<&Standing>) {
    if let Some(process) = standing.and_then(|standing| standing.process) {
        process.signal(Signal::CONT);
    }
}

async fn kill(scene: &Scene, victim: Victim, host: usize) -> Result<(), ChaosError> {
    let struck = &scene.fleet.hosts()[host];
    let (machine, program) = match victim {
        Victim::Controller => (scene.leader()?, "controller"),
        Victim::Agent => (struck, "agent"),
        Victim::Dockerd => (struck, "dockerd"),
        Victim::Etcd => (&scene.fleet.etcd()[host % scene.fleet.etcd().len()], "etcd"),
        Victim::NginxWorker => return kill_nginx(struck, false).await,
        Victim::NginxMaster => return kill_nginx(struck, true).await,
    };
    let killed = machine.kill(program, THERE_LIMIT).await?;
    end_of(killed, program, machine).await
}

/// On a machine with much to do, it is there for some time after it was killed, and all seems well.
async fn end_of(killed: Process, program: &str, machine: &Machine) -> Result<(), ChaosError> {
    if killed.wait_end(THERE_LIMIT).await {
        return Ok(());
    }
    let what = format!("the end of {program} on {}", machine.name());
    Err(NetFleetError::Deadline { what, limit: THERE_LIMIT }.into())
}

/// A worker's parent is the master; the master's is not nginx.
async fn kill_nginx(host: &Machine, master: bool) -> Result<(), ChaosError> {
    let all = host.processes("nginx");
    let is_worker = |process: &Process| process.parent().is_some_and(|parent| all.contains(&parent));
    let found = all.iter().find(|process| is_worker(process) != master);
    let missing = || ChaosError::Missing { what: format!("nginx on {}", host.name()) };
    let found = *found.ok_or_else(missing)?;
    found.signal(Signal::KILL);
    end_of(found, "nginx", host).await
}

/// One master, and all others are its workers: nobody's worker still serves, whose end is yet to be felt.
pub(super) fn is_nginx_whole(host: &Machine) -> bool {
    let all = host.processes("nginx");
    let is_worker = |process: &&Process| process.parent().is_some_and(|parent| all.contains(&parent));
    let workers = all.iter().filter(is_worker).count();
    workers > 0 && all.len() == workers + 1
}

fn ends(scene: &Scene, link: Link, host: usize) -> Result<(Vec<String>, Vec<String>), ChaosError> {
    let fleet = &scene.fleet;
    let names = |machines: &[Machine]| machines.iter().map(|machine| machine.name().to_owned()).collect::<Vec<_>>();
    let struck = vec![fleet.hosts()[host].name().to_owned()];
    Ok(match link {
        Link::ControllerAgent => (struck, names(fleet.controllers())),
        Link::ControllerEtcd => (vec![scene.leader()?.name().to_owned()], names(fleet.etcd())),
        Link::EtcdEtcd => {
            let members = names(fleet.etcd());
            (vec![members[host % members.len()].clone()], members)
        }
        Link::AgentRegistry => {
            (struck, fleet.registry().map(|machine| machine.name().to_owned()).into_iter().collect())
        }
    })
}

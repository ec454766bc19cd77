//! What is tried: a fault, and the moment of a deployment at which it strikes; and many switches without one.

use crate::netfleet::Moment;
use std::fmt;

/// Whose step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The leading controller's.
    Leader,
    /// The agent's of the host that is struck.
    Host,
}

/// The nineteen steps of the test plan, with whose each is.
pub const STEPS: [(&str, Side); 19] = [
    ("intent_written", Side::Leader),
    ("pull", Side::Host),
    ("create", Side::Host),
    ("start", Side::Host),
    ("health", Side::Host),
    ("prepared_fsync", Side::Host),
    ("vote_sent", Side::Host),
    ("vote_received", Side::Leader),
    ("commit_sent", Side::Leader),
    ("commit_confirmed", Side::Leader),
    ("state_sent", Side::Leader),
    ("rename", Side::Host),
    ("probe", Side::Host),
    ("applied_fsync", Side::Host),
    ("ack", Side::Host),
    ("drain_start", Side::Host),
    ("drain_end", Side::Host),
    ("retire_mark", Side::Host),
    ("remove", Side::Host),
];

/// The phases of a deployment, each with the point that stands for it.
pub const PHASES: [(&str, &str, Side); 8] = [
    ("before prepare", "after_intent_written", Side::Leader),
    ("pulling", "before_pull", Side::Host),
    ("probing", "before_health", Side::Host),
    ("voted", "after_vote_sent", Side::Host),
    ("committing", "before_commit_sent", Side::Leader),
    ("switching", "before_rename", Side::Host),
    ("draining", "after_drain_start", Side::Host),
    ("retiring", "before_remove", Side::Host),
];

/// Points at which the struck host has not promised yet: nothing may be committed while it stands there.
const UNPROMISED: [&str; 11] = [
    "before_pull",
    "after_pull",
    "before_create",
    "after_create",
    "before_start",
    "after_start",
    "before_health",
    "after_health",
    "before_prepared_fsync",
    "after_prepared_fsync",
    "before_vote_sent",
];

/// Points at which the struck host has not said that it serves the new release: nobody may say so for it.
const UNACKNOWLEDGED: [&str; 9] = [
    "before_rename",
    "after_rename",
    "before_probe",
    "after_probe",
    "before_retire_mark",
    "after_retire_mark",
    "before_applied_fsync",
    "after_applied_fsync",
    "before_ack",
];

/// What the test plan asks of a scenario.
const SWITCHES: usize = 100;

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The controller that leads.
    Controller,
    /// The agent of the struck host.
    Agent,
    /// Its Docker; containers go on (`live-restore`).
    Dockerd,
    /// One etcd member.
    Etcd,
    /// The struck host's nginx worker.
    NginxWorker,
    /// Its nginx master.
    NginxMaster,
}

/// Everything that can die.
pub const VICTIMS: [Victim; 6] =
    [Victim::Controller, Victim::Agent, Victim::Dockerd, Victim::Etcd, Victim::NginxWorker, Victim::NginxMaster];

/// Which link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The struck host and all controllers.
    ControllerAgent,
    /// The leader and all etcd members.
    ControllerEtcd,
    /// One etcd member and the two others.
    EtcdEtcd,
    /// The struck host and the registry.
    AgentRegistry,
}

/// Everything that can be cut.
pub const LINKS: [Link; 4] = [Link::ControllerAgent, Link::ControllerEtcd, Link::EtcdEtcd, Link::AgentRegistry];

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9.
    Kill(Victim),
    /// A link is cut for a while.
    Cut(Link),
    /// The struck host loses its power, and gets it back.
    Reboot,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Case {
    /// A fault while a deployment runs.
    Strike(Strike),
    /// The struck host's dockerd dies while it starts a container.
    MidStart(Begun, Moment),
    /// No fault: so many switches, to the next version and back to the one that stands warm.
    Switches(usize),
}

/// What is being started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The container of the next release, by a deployment.
    Next,
    /// The container that takes the traffic, which died.
    Served,
}

/// A fault, and the moment at which it strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// When, in words.
    pub moment: String,
    /// The crash point that stands for it.
    pub point: String,
    /// Who comes to it.
    pub side: Side,
    /// What happens.
    pub fault: Fault,
}

impl Strike {
    fn at_point(when: &str, step: &str, side: Side, victim: Victim) -> Self {
        let point = format!("{when}_{step}");
        Self { moment: point.replace('_', " "), point, side, fault: Fault::Kill(victim) }
    }

    /// While the process stands at the point, nothing may be committed.
    pub fn is_unpromised(&self) -> bool {
        UNPROMISED.contains(&self.point.as_str())
    }

    /// While the process stands at the point, the struck host may not be said to serve the new release.
    pub fn is_unacknowledged(&self) -> bool {
        UNACKNOWLEDGED.contains(&self.point.as_str())
    }

    fn excuse(&self) -> Option<&'static str> {
        match self.fault {
            Fault::Kill(Victim::NginxWorker) => Some("what was under way in the worker ends with it"),
            Fault::Kill(Victim::NginxMaster) => Some("what was under way when nginx was started anew"),
            Fault::Reboot => Some("the host is off, and there is no other to its address"),
            Fault::Kill(Victim::Controller | Victim::Agent | Victim::Dockerd | Victim::Etcd) | Fault::Cut(_) => None,
        }
    }
}

impl Case {
    /// Why requests to the struck host are lost whatever anybody does. None: none may be.
    pub fn excuse(&self) -> Option<&'static str> {
        match self {
            Self::Strike(strike) => strike.excuse(),
            Self::MidStart(Begun::Served, _) => Some("what it serves is not there until it is started again"),
            Self::MidStart(Begun::Next, _) | Self::Switches(_) => None,
        }
    }

    /// Its name as a file's.
    pub fn file_name(&self) -> String {
        self.to_string().replace([' ', ':', ',', '-'], "_")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strike(strike) => strike.fmt(f),
            Self::MidStart(begun, moment) => {
                let begun = match begun {
                    Begun::Next => "the next",
                    Begun::Served => "the served",
                };
                let moment = match moment {
                    Moment::Begun => "begun",
                    Moment::Made => "made",
                    Moment::Running => "runs",
                };
                write!(f, "kill dockerd: starting {begun}, {moment}")
            }
            Self::Switches(count) => write!(f, "no fault: {count} switches back and forth"),
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Kill(victim) => write!(f, "kill {victim}: {}", self.moment),
            Fault::Cut(link) => write!(f, "cut {link}: {}", self.moment),
            Fault::Reboot => write!(f, "reboot: {}", self.moment),
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Controller => "controller",
            Self::Agent => "agent",
            Self::Dockerd => "dockerd",
            Self::Etcd => "etcd",
            Self::NginxWorker => "nginx worker",
            Self::NginxMaster => "nginx master",
        })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControllerAgent => "controller-agent",
            Self::ControllerEtcd => "controller-etcd",
            Self::EtcdEtcd => "etcd-etcd",
            Self::AgentRegistry => "agent-registry",
        })
    }
}

/// The whole matrix: 114 deaths right after a point, 38 right before one, 32 cuts, 8 losses of power, 4 deaths in the
/// middle of a start. And many switches without a fault.
pub fn all() -> Vec<Case> {
    let mut strikes = Vec::new();
    for (step, side) in STEPS {
        strikes.extend(VICTIMS.map(|victim| Strike::at_point("after", step, side, victim)));
        strikes
            .extend([Victim::Controller, Victim::Agent].map(|victim| Strike::at_point("before", step, side, victim)));
    }
    let phase = |(moment, point, side): (&str, &str, Side), fault| Strike {
        moment: moment.to_owned(),
        point: point.to_owned(),
        side,
        fault,
    };
    for link in LINKS {
        strikes.extend(PHASES.map(|each| phase(each, Fault::Cut(link))));
    }
    strikes.extend(PHASES.map(|each| phase(each, Fault::Reboot)));
    let starts = [Begun::Next, Begun::Served].into_iter();
    let starts = starts
        .flat_map(|begun| [Moment::Begun, Moment::Made, Moment::Running].map(|moment| Case::MidStart(begun, moment)));
    strikes.into_iter().map(Case::Strike).chain(starts).chain([Case::Switches(SWITCHES)]).collect()
}

/// The few that every change is tried with: each side, each kind of fault, the moments that matter most.
pub fn core() -> Vec<Case> {
    let wanted = [
        "kill agent: after prepared fsync",
        "kill agent: before probe",
        "kill controller: after commit sent",
        "kill controller: after state sent",
        "kill dockerd: after start",
        "cut controller-agent: voted",
        "reboot: switching",
    ];
    all().into_iter().filter(|case| wanted.contains(&case.to_string().as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_matrix_is_whole_and_has_no_case_twice() {
        let cases = all();
        let names: BTreeSet<_> = cases.iter().map(Case::to_string).collect();
        assert_eq!((cases.len(), names.len()), (114 + 38 + 32 + 8 + 6 + 1, 199));
        assert_eq!(core().len(), 7);
    }

    /// A point that is not in the programs would never be reached.
    #[test]
    fn every_point_is_in_the_program_whose_step_it_is() {
        let source = |folder: &str| {
            let mut text = String::new();
            let mut folders = vec![crate::workspace::root().join(folder).join("src")];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                    match entry.path() {
                        path if path.is_dir() => folders.push(path),
                        path => text.push_str(&std::fs::read_to_string(path).expect("a source file")),
                    }
                }
            }
            text
        };
        let (controller, agent) = (source("controller"), source("agent"));
        for case in all() {
            let Case::Strike(Strike { point, side, .. }) = case else { continue };
            let program = match side {
                Side::Leader => &controller,
                Side::Host => &agent,
            };
            assert!(program.contains(&format!("crashpoint!(\"{point}\"")), "{point} is not in its program");
        }
    }
}

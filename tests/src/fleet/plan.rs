//! What a fleet is made of, decided once and written down: everything later reads it from there.

use super::etcd::{self, Member};
use super::free::{free_port, free_subnets, is_free};
use super::relay::{Course, Wire};
use super::{FleetError, FleetOptions};
use crate::workspace::{program, system_library};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

/// Most controllers of one fleet.
pub const CONTROLLERS_MAX: usize = 5;
/// Members of etcd for several controllers: one may die.
const MEMBERS_FOR_SEVERAL: usize = 3;
/// Most hosts of one fleet: each needs a port next to the last one's and a Docker network.
pub const HOSTS_MAX: usize = 32;
/// Where the plan is kept in the fleet's folder.
const PLAN_FILE: &str = "fleet.json";

/// Where the controller keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// In a file of its own.
    Embedded,
    /// In a real etcd, which is part of the fleet.
    Etcd,
}

/// One fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Part of the names of its networks.
    pub id: String,
    /// All its files are in here.
    pub dir: PathBuf,
    /// Where the controller keeps its state.
    pub store: Store,
    /// The controllers, from number 1 on.
    pub controllers: Vec<Replica>,
    /// Members of etcd, from number 1 on; none with [`Store::Embedded`].
    pub etcd: Vec<Member>,
    /// What every member of etcd is started with besides.
    pub etcd_arguments: Vec<String>,
    /// Wires that can be cut; none unless they were asked for.
    pub wires: Vec<Course>,
    /// The hosts, from number 1 on.
    pub hosts: Vec<Host>,
    /// What is kept running, in the order of starting.
    pub programs: Vec<Program>,
}

/// One controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Also the name of its program.
    pub name: String,
    /// It listens here, on 127.0.0.1.
    pub port: u16,
    /// Others find it here, on 127.0.0.1: at its own port, or at the near end of a wire.
    pub advertised: u16,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// As in its certificate.
    pub name: String,
    /// Its nginx listens here, on 127.0.0.1, for what a service calls port 80.
    pub port: u16,
    /// And here, on 127.0.0.1, for load balancers that ask whether it is ready.
    pub ready_port: u16,
    /// Its Docker network.
    pub network: String,
    /// In CIDR notation.
    pub subnet: String,
}

/// A program that is started again when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name in the fleet: `etcd`, `controller`, `agent-HOST`; `etcd-1`, `controller-1` if there are several.
    pub name: String,
    /// What to run.
    pub path: PathBuf,
    /// With which arguments.
    pub arguments: Vec<String>,
    /// Set for it besides what it inherits.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
}

impl Host {
    /// Where users reach it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where load balancers ask whether it is ready.
    pub fn ready_address(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.ready_port))
    }

    /// The name of its agent's program.
    pub fn agent(&self) -> String {
        format!("agent-{}", self.name)
    }
}

impl Plan {
    /// Finds ports and networks that are free now, and the programs. `prefix` comes before `h1`, `h2` …
    /// With a base port, host i listens on that plus i, otherwise on any free port.
    pub(super) async fn draw_up(
        id: &str,
        prefix: &str,
        dir: &Path,
        options: &FleetOptions,
    ) -> Result<Self, FleetError> {
        let FleetOptions { hosts: host_count, controllers, store, base_port, .. } = options.clone();
        if host_count == 0 || host_count > HOSTS_MAX {
            return Err(FleetError::HostCount { asked: host_count });
        }
        if controllers == 0 || controllers > CONTROLLERS_MAX || (controllers > 1 && store == Store::Embedded) {
            return Err(FleetError::ControllerCount { asked: controllers });
        }
        let mut taken = BTreeSet::new();
        let mut hosts = Vec::with_capacity(host_count);
        for (index, subnet) in free_subnets(host_count).await?.into_iter().enumerate() {
            let number = index + 1;
            let port = match base_port {
                Some(base) => base + number as u16,
                None => free_port(&mut taken)?,
            };
            if !is_free(port) {
                return Err(FleetError::PortTaken { port });
            }
            let name = format!("{prefix}h{number}");
            let ready_port = free_port(&mut taken)?;
            hosts.push(Host { name, port, ready_port, network: format!("bgctl-{id}-h{number}"), subnet });
        }
        let mut plan = Self {
            id: id.to_owned(),
            dir: dir.to_owned(),
            store,
            controllers: Vec::new(),
            etcd: Vec::new(),
            etcd_arguments: options.etcd_arguments.clone(),
            wires: Vec::new(),
            hosts,
            programs: Vec::new(),
        };
        for name in names("controller", controllers) {
            let port = free_port(&mut taken)?;
            plan.controllers.push(Replica { name, port, advertised: port });
        }
        let members = match (store, controllers) {
            (Store::Embedded, _) => 0,
            (Store::Etcd, 1) => 1,
            (Store::Etcd, _) => MEMBERS_FOR_SEVERAL,
        };
        for name in names("etcd", members) {
            let (clients, peers) = (free_port(&mut taken)?, free_port(&mut taken)?);
            plan.etcd.push(Member { name, address: Ipv4Addr::LOCALHOST, clients, peers });
        }
        if options.wires {
            plan.lay_wires(&mut taken)?;
        }
        plan.programs = plan.choose_programs(options.clocks)?;
        Ok(plan)
    }

    /// Where the crash points of its programs are armed.
    pub fn crash_points(&self) -> PathBuf {
        self.dir.join("crashpoints")
    }

    /// Reads the plan of the fleet in `dir`. None: there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(dir: &Path) -> Result<Option<Self>, FleetError> {
        let path = dir.join(PLAN_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FleetError::File { action: "read", path, source }),
        };
        let plan = serde_json::from_str(&text);
        plan.map(Some).map_err(|error| FleetError::Plan { path, detail: error.to_string() })
    }

    /// Writes it down, in its folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), FleetError> {
        let path = self.dir.join(PLAN_FILE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| FleetError::Plan { path: path.clone(), detail: error.to_string() })?;
        fs::write(&path, text).map_err(|source| FleetError::File { action: "write", path, source })
    }

    /// What `bgctl` takes as BGCTL_CONTROLLERS: all of them.
    pub fn controllers(&self) -> String {
        let each = self.controllers.iter().map(|replica| format!("127.0.0.1:{}", replica.advertised));
        each.collect::<Vec<_>>().join(",")
    }

    /// Where a controller finds the members of etcd: at their own ports, or at the near ends of its wires. It is
    /// counted from 1.
    pub fn etcd_endpoints(&self, controller: usize) -> Vec<String> {
        let port = |(index, member): (usize, &Member)| {
            let wire = Wire::Store { controller, member: index + 1 };
            self.wires.iter().find(|course| course.wire == wire).map_or(member.clients, |course| course.near)
        };
        self.etcd.iter().enumerate().map(|member| format!("https://127.0.0.1:{}", port(member))).collect()
    }

    fn lay_wires(&mut self, taken: &mut BTreeSet<u16>) -> Result<(), FleetError> {
        for (index, replica) in self.controllers.iter_mut().enumerate() {
            let controller = index + 1;
            replica.advertised = free_port(taken)?;
            let wire = Wire::Front { controller };
            self.wires.push(Course { wire, near: replica.advertised, far: replica.port });
            for (index, member) in self.etcd.iter().enumerate() {
                let wire = Wire::Store { controller, member: index + 1 };
                self.wires.push(Course { wire, near: free_port(taken)?, far: member.clients });
            }
        }
        Ok(())
    }

    /// The operator's identity.
    pub fn operator_identity(&self) -> PathBuf {
        self.dir.join("identity/operators/fleet")
    }

    /// Everything a host keeps.
    pub fn host_dir(&self, host: &Host) -> PathBuf {
        self.dir.join("hosts").join(&host.name)
    }

    /// Where a program's output goes.
    pub fn log(&self, program: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{program}.log"))
    }

    /// A controller's config; its state and identity are in folders of its name beside it.
    pub fn controller_config(&self, replica: &Replica) -> PathBuf {
        self.dir.join(format!("{}.yaml", replica.name))
    }

    /// The spec of the sample service.
    pub fn spec(&self) -> PathBuf {
        self.dir.join("web.yaml")
    }

    fn choose_programs(&self, clocks: bool) -> Result<Vec<Program>, FleetError> {
        let config = |path: PathBuf| path.to_string_lossy().into_owned();
        let clock = |name: &str| if clocks { self.clock_environment(name) } else { Ok(Vec::new()) };
        let mut programs = Vec::new();
        if self.store == Store::Etcd {
            programs.extend(etcd::programs(&self.dir, &self.etcd, &self.etcd_arguments)?);
        }
        for replica in &self.controllers {
            programs.push(Program {
                name: replica.name.clone(),
                path: program("bgctl-controller")?,
                arguments: vec!["serve".to_owned(), "--config".to_owned(), config(self.controller_config(replica))],
                environment: clock(&replica.name)?,
            });
        }
        for host in &self.hosts {
            programs.push(Program {
                name: host.agent(),
                path: program("bgctl-agent")?,
                arguments: vec![
                    "run".to_owned(),
                    "--config".to_owned(),
                    config(self.host_dir(host).join("agent.yaml")),
                ],
                environment: clock(&host.agent())?,
            });
        }
        Ok(programs)
    }
}

impl Plan {
    /// Says how far a program's clock is off, for a fleet with clocks.
    pub fn clock(&self, program: &str) -> PathBuf {
        self.dir.join("clocks").join(program)
    }

    /// What makes a program look there. Only the time of day is changed: what the machine counts since its boot is not.
    fn clock_environment(&self, program: &str) -> Result<Vec<(String, String)>, FleetError> {
        let file = self.clock(program);
        let variables = [
            ("LD_PRELOAD", system_library("faketime/libfaketimeMT.so.1", "libfaketime")?.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        Ok(variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }
}

/// One has the plain name, several are counted.
fn names(what: &str, count: usize) -> Vec<String> {
    match count {
        1 => vec![what.to_owned()],
        several => (1..=several).map(|number| format!("{what}-{number}")).collect(),
    }
}

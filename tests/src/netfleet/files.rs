//! What runs on which machine, and the files it reads.

use super::engine::{self, SOCKET};
use super::{CONTROLLER_PORT, CONTROLLERS_MAX, HOSTS_MAX, Machine, NETWORK, NetFleet, NetFleetError, NetFleetOptions};
use super::{Program, REGISTRY_PORT};
use crate::fleet::etcd::{self, Member};
use crate::workspace::{program, system_program};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// etcd's ports, on each member's own address.
const ETCD_CLIENTS: u16 = 2379;
const ETCD_PEERS: u16 = 2380;

pub(super) fn check(options: &NetFleetOptions) -> Result<(), NetFleetError> {
    let within = |what, asked, most| match (1..=most).contains(&asked) {
        true => Ok(()),
        false => Err(NetFleetError::Count { what, asked, most }),
    };
    within("hosts", options.hosts, HOSTS_MAX)?;
    within("controllers", options.controllers, CONTROLLERS_MAX)
}

/// Makes the machines' folders, writes their files, and says what they run.
pub(super) async fn write_all(fleet: &mut NetFleet) -> Result<(), NetFleetError> {
    let identity = fleet.dir.join("identity");
    for machine in fleet.machines() {
        make_dir(machine.dir())?;
    }
    let spec = fleet.options.spec.replace(crate::images::REPOSITORY, &engine::repository(fleet));
    write(&fleet.spec_file(), &spec)?;
    controller(&["init", "--operator", "fleet", "--dir"], &[&identity]).await?;
    let member = |machine: &Machine| Member {
        name: machine.name().to_owned(),
        address: machine.address(),
        clients: ETCD_CLIENTS,
        peers: ETCD_PEERS,
    };
    let members: Vec<_> = fleet.etcd.iter().map(member).collect();
    let etcd_files = etcd::Files::of(&fleet.dir);
    etcd_files.make(&members.iter().map(|member| member.address).collect::<Vec<_>>())?;
    for (machine, member) in fleet.etcd.iter_mut().zip(&members) {
        let arguments = etcd::arguments(member, &members, &machine.dir().join("etcd"), &etcd_files);
        let path = system_program("etcd", "etcd-server")?;
        machine.set_programs(vec![Program { name: "etcd".to_owned(), path, arguments, after: None }]);
    }
    let store = etcd_files.store(&members.iter().map(Member::endpoint).collect::<Vec<_>>());
    for machine in &mut fleet.controllers {
        let config = machine.dir().join("controller.yaml");
        let (name, address, state) = (machine.name(), machine.address(), quoted(&machine.dir().join("state")));
        let identity = quoted(&identity);
        write(
            &config,
            &format!(
                "name: {name}\nlisten: {address}:{CONTROLLER_PORT}\nstate_dir: {state}\nidentity: {identity}\n\
                 store: {store}\n"
            ),
        )?;
        let path = program("bgctl-controller")?;
        machine.set_programs(vec![plain("controller", path, &["serve", "--config", &config.to_string_lossy()])]);
    }
    if let Some(machine) = &mut fleet.registry {
        let program = registry(machine)?;
        machine.set_programs(vec![program]);
    }
    let controllers = serde_json::json!(fleet.controller_addresses());
    let live_restore = fleet.options.live_restore;
    for host in &mut fleet.hosts {
        let out = host.dir().join("identity");
        let name = PathBuf::from(host.name());
        let words = ["issue-host", "--label", "role=web", "--dir"];
        controller(&words, &[&identity, Path::new("--out"), &out, Path::new("--"), &name]).await?;
        let config = host.dir().join("agent.yaml");
        write(&config, &agent_config(host, &controllers.to_string())?)?;
        let docker = docker(host, live_restore)?;
        let agent = Program {
            after: Some(SOCKET.into()),
            ..plain("agent", own_agent(host)?, &["run", "--config", &config.to_string_lossy()])
        };
        host.set_programs(vec![docker, agent]);
    }
    Ok(())
}

/// Under a name of this host's, so that another one can be put in its place on this host alone.
fn own_agent(host: &Machine) -> Result<PathBuf, NetFleetError> {
    let folder = host.dir().join("bin");
    make_dir(&folder)?;
    let link = folder.join("bgctl-agent");
    symlink(program("bgctl-agent")?, &link).map_err(NetFleetError::file("make", &link))?;
    Ok(link)
}

fn plain(name: &str, path: PathBuf, arguments: &[&str]) -> Program {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    Program { name: name.to_owned(), path, arguments, after: None }
}

fn registry(machine: &Machine) -> Result<Program, NetFleetError> {
    let config = machine.dir().join("registry.yml");
    let (data, address) = (quoted(&machine.dir().join("data")), machine.address());
    write(
        &config,
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\n\
             http: {{addr: \"{address}:{REGISTRY_PORT}\"}}\n"
        ),
    )?;
    let path = system_program("docker-registry", "docker-registry")?;
    Ok(plain("registry", path, &["serve", &config.to_string_lossy()]))
}

/// Everything at its place of old, because /run is the machine's own; but the data on its disk, and a storage driver
/// that asks nothing of the file system below. The machine's own configuration of Docker is another Docker's.
fn docker(host: &Machine, live_restore: bool) -> Result<Program, NetFleetError> {
    let config = host.dir().join("daemon.json");
    let [first, second, third] = NETWORK;
    let settings = serde_json::json!({
        "data-root": host.dir().join("docker"),
        "live-restore": live_restore,
        "storage-driver": "vfs",
        "cgroup-parent": format!("/{}", host.control_group()),
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "insecure-registries": [format!("{first}.{second}.{third}.0/24")],
    });
    write(&config, &settings.to_string())?;
    let path = system_program("dockerd", "docker.io")?;
    Ok(plain("dockerd", path, &["--config-file", &config.to_string_lossy(), "--host", &format!("unix://{SOCKET}")]))
}

fn agent_config(host: &Machine, controllers: &str) -> Result<String, NetFleetError> {
    let (state, identity) = (quoted(&host.dir().join("state")), quoted(&host.dir().join("identity")));
    let nginx = quoted(&system_program("nginx", "nginx")?);
    let address = host.address();
    Ok(format!(
        "controllers: {controllers}\nstate_dir: {state}\nidentity: {identity}\n\
         docker: {{socket: {SOCKET}}}\n\
         nginx: {{kind: private, binary: {nginx}, workers: 1, listen: {{\"80\": \"{address}:80\"}}}}\n"
    ))
}

async fn controller(words: &[&str], paths: &[&Path]) -> Result<(), NetFleetError> {
    let what = || format!("bgctl-controller {}", words[0]);
    let output = Command::new(program("bgctl-controller")?).args(words).args(paths).output().await;
    let output = output.map_err(|source| NetFleetError::Start { what: what(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let detail = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(NetFleetError::Command { what: what(), detail })
}

/// For YAML, which takes JSON's strings.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy().as_ref()).to_string()
}

fn make_dir(path: &Path) -> Result<(), NetFleetError> {
    fs::create_dir_all(path).map_err(NetFleetError::file("make", path))
}

fn write(path: &Path, text: &str) -> Result<(), NetFleetError> {
    fs::write(path, text).map_err(NetFleetError::file("write", path))
}

//! Writes what the fleet's programs read: configs, identities, the sample service's spec, and the file that
//! makes a shell an operator's.

use super::FleetError;
use super::etcd;
use super::plan::{Host, Plan, Replica, Store};
use crate::workspace::{program, system_program};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use tokio::process::Command;

/// The sample service: it waits for nothing, so that a person sees a deployment's own time.
const SPEC: &str = include_str!("../../fixtures/web.yaml");

/// Makes the fleet's folder and all its files.
pub(super) async fn write_all(plan: &Plan) -> Result<(), FleetError> {
    let dir = &plan.dir;
    for folder in ["logs", "run", "bin", "hosts", "crashpoints", "clocks"] {
        make_dir(&dir.join(folder))?;
    }
    plan.save()?;
    let bgctl = program("bgctl")?;
    let link = dir.join("bin/bgctl");
    symlink(&bgctl, &link).map_err(|source| FleetError::File { action: "link", path: link, source })?;
    write(&dir.join("env"), &env(plan))?;
    write(&plan.spec(), SPEC)?;
    let identity = dir.join("identity");
    controller(&["init", "--operator", "fleet", "--dir"], &[&identity]).await?;
    if plan.store == Store::Etcd {
        etcd::Files::of(dir).make(&[Ipv4Addr::LOCALHOST])?;
    }
    for (index, replica) in plan.controllers.iter().enumerate() {
        make_dir(&dir.join(&replica.name))?;
        let own = match index {
            0 => identity.clone(),
            _ => dir.join(format!("identity-{}", replica.name)),
        };
        if own != identity {
            let name = Path::new(&replica.name);
            controller(&["issue-controller", "--dir"], &[&identity, Path::new("--out"), &own, Path::new("--"), name])
                .await?;
        }
        write(&plan.controller_config(replica), &controller_config(plan, index, &own))?;
    }
    for host in &plan.hosts {
        let host_dir = plan.host_dir(host);
        make_dir(&host_dir)?;
        issue(plan, host, "role=web").await?;
        let nginx = system_program("nginx", "nginx")?;
        write(&host_dir.join("agent.yaml"), &agent_config(plan, host, &nginx))?;
    }
    Ok(())
}

/// Makes a host's identity, with this label.
pub(super) async fn issue(plan: &Plan, host: &Host, label: &str) -> Result<(), FleetError> {
    let (identity, out) = (plan.dir.join("identity"), plan.host_dir(host).join("identity"));
    if out.exists() {
        fs::remove_dir_all(&out).map_err(|source| FleetError::File { action: "remove", path: out.clone(), source })?;
    }
    let name = Path::new(&host.name);
    let paths = [identity.as_path(), Path::new("--out"), &out, Path::new("--"), name];
    controller(&["issue-host", "--label", label, "--dir"], &paths).await
}

fn controller_config(plan: &Plan, index: usize, identity: &Path) -> String {
    let replica = &plan.controllers[index];
    let store = match plan.store {
        Store::Embedded => "embedded".to_owned(),
        Store::Etcd => etcd::Files::of(&plan.dir).store(&plan.etcd_endpoints(index + 1)).to_string(),
    };
    let (state_dir, identity) = (quoted(&plan.dir.join(&replica.name)), quoted(identity));
    let Replica { name, port, advertised } = replica;
    format!(
        "listen: 127.0.0.1:{port}\nname: {name}\nadvertise: 127.0.0.1:{advertised}\nstate_dir: {state_dir}\n\
         identity: {identity}\nstore: {store}\n"
    )
}

fn agent_config(plan: &Plan, host: &Host, nginx: &Path) -> String {
    let host_dir = plan.host_dir(host);
    let (state_dir, identity) = (quoted(&host_dir.join("state")), quoted(&host_dir.join("identity")));
    let (network, subnet, port) = (&host.network, &host.subnet, host.port);
    let controllers: Vec<_> =
        plan.controllers.iter().map(|replica| format!("127.0.0.1:{}", replica.advertised)).collect();
    let (nginx, ready) = (quoted(nginx), host.ready_address());
    format!(
        "controllers: {controllers:?}\n\
         state_dir: {state_dir}\n\
         identity: {identity}\n\
         docker: {{socket: /var/run/docker.sock, network: {network}, subnet: {subnet}}}\n\
         ready: {ready}\n\
         nginx: {{kind: private, binary: {nginx}, workers: 1, listen: {{\"80\": \"127.0.0.1:{port}\"}}}}\n"
    )
}

fn env(plan: &Plan) -> String {
    let bin = shell_quoted(&plan.dir.join("bin"));
    let (controllers, identity) = (plan.controllers(), shell_quoted(&plan.operator_identity()));
    format!(
        "# Makes this shell an operator's of the local fleet: . .fleet/env\n\
         export PATH={bin}:\"$PATH\"\n\
         export BGCTL_CONTROLLERS={controllers}\n\
         export BGCTL_IDENTITY={identity}\n"
    )
}

async fn controller(words: &[&str], paths: &[&Path]) -> Result<(), FleetError> {
    let mut command = Command::new(program("bgctl-controller")?);
    command.args(words).args(paths);
    let failed = |detail| FleetError::Program { what: format!("bgctl-controller {}", words[0]), detail };
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// For YAML, which takes JSON's strings.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy().as_ref()).to_string()
}

fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

fn make_dir(path: &Path) -> Result<(), FleetError> {
    fs::create_dir_all(path).map_err(|source| FleetError::File { action: "make", path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), FleetError> {
    fs::write(path, text).map_err(|source| FleetError::File { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_folder_with_quotes_and_spaces_reaches_the_shell_whole() {
        let path = Path::new("/tmp/it's a \"fleet\"; $HOME");
        let command = format!("printf %s {}", shell_quoted(path));
        let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        assert_eq!(output.stdout, path.as_os_str().as_encoded_bytes());
    }
}

//! What is kept of a case that went wrong.

use crate::netfleet::{Machine, NetFleet};
use std::fs;
use std::path::Path;

/// For a Docker that may have died, in seconds.
const ANSWER_SECONDS: &str = "10";

/// The logs of every program on every machine, and of each host what nginx complained of, which containers its Docker
/// knows, and which processes are in containers.
pub(super) fn keep(fleet: &NetFleet, folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for machine in fleet.machines() {
        for entry in fs::read_dir(machine.dir().join("logs"))?.flatten() {
            let name = format!("{}-{}", machine.name(), entry.file_name().to_string_lossy());
            fs::copy(entry.path(), folder.join(name))?;
        }
    }
    for host in fleet.hosts() {
        let file = |name: &str| folder.join(format!("{}-{name}", host.name()));
        // None was started, or its folder is lost: nothing to keep.
        drop(fs::copy(host.dir().join("state/nginx/error.log"), file("nginx-error.log")));
        fs::write(file("containers.txt"), format!("{}\n{}", known(host), contained(host)))?;
    }
    Ok(())
}

fn known(host: &Machine) -> String {
    let words = ["--kill-after=1", ANSWER_SECONDS, "docker", "ps", "--all", "--no-trunc"];
    let said = host.command("timeout").map(|mut command| command.args(words).output());
    match said {
        Ok(Ok(output)) => {
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
        }
        Ok(Err(error)) => format!("docker ps: {error}\n"),
        Err(error) => format!("{error}\n"),
    }
}

fn contained(host: &Machine) -> String {
    let line =
        |one: crate::netfleet::Contained| format!("{} {} {}\n", one.container, one.process.pid, one.process.name());
    host.contained().into_iter().map(line).collect()
}

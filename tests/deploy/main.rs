//! Everything below `deploy/`, read by what will read it on a real host: the programs' own parsers, systemd,
//! the shell, and for the guide the programs' own command lines.

mod configs;
mod guide;
mod matrix;
mod units;
mod users;

use bgctl_tests::workspace;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which test reads which file. A new file without an entry fails.
const READ_BY: [(&str, &str); 10] = [
    ("README.md", "guide"),
    ("config/agent.yaml", "configs"),
    ("config/controller-of-three.yaml", "configs"),
    ("config/controller.yaml", "configs"),
    ("config/web.yaml", "configs"),
    ("install-packages", "this file"),
    ("systemd/bgctl-agent.service", "units"),
    ("systemd/bgctl-controller.service", "units"),
    ("systemd/bgctl-controller.sysusers.conf", "users"),
    ("systemd/bgctl-controller.tmpfiles.conf", "users"),
];

/// A file or folder of `deploy/`.
fn path(name: &str) -> PathBuf {
    workspace::root().join("deploy").join(name)
}

fn text(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs it to its end: whether it went well, and all it said.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A program of systemd's package.
fn systemd(program: &'static str) -> PathBuf {
    workspace::system_program(program, "systemd").unwrap_or_else(|error| panic!("{error}"))
}

fn files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("deploy/ is readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let name = path.strip_prefix(self::path("")).expect("below deploy/");
            found.insert(name.to_str().expect("a name in UTF-8").to_owned());
        }
    }
}

#[test]
fn every_file_is_read_by_a_test() {
    let mut found = BTreeSet::new();
    files(&path(""), &mut found);
    let known: BTreeSet<_> = READ_BY.map(|(name, _)| name.to_owned()).into();
    assert_eq!(found, known, "a file below deploy/ without a test, or a test without its file");
}

#[test]
fn the_install_script_is_a_script() {
    let (good, said) = run(Command::new("bash").arg("-n").arg(path("install-packages")));
    assert!(good, "{said}");
    let (good, said) = run(Command::new("bash").arg(path("install-packages")).arg("no-such-package"));
    assert!(!good && said.contains("unknown package no-such-package"), "{said}");
}

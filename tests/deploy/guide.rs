//! The guide: every command of ours on it is one that the programs take, every file it names is there.

use super::{path, run, text};
use bgctl_tests::workspace;
use std::process::Command;

/// The lines of the guide's shell blocks.
fn commands(guide: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_shell = false;
    for line in guide.lines() {
        match line.strip_prefix("```") {
            Some(language) => in_shell = !in_shell && language == "sh",
            None if in_shell => commands.push(line.to_owned()),
            None => {}
        }
    }
    commands
}

/// Whether a program takes this command line. `--help` at its end keeps it from being carried out.
fn is_taken(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let program = workspace::program(program).unwrap_or_else(|error| panic!("{error}"));
    let (good, said) = run(Command::new(program).args(words).arg("--help"));
    if good && said.contains("Usage: ") { Ok(()) } else { Err(format!("{line}: {said}")) }
}

#[test]
fn every_command_of_ours_is_taken() {
    let guide = text("README.md");
    let ours: Vec<_> = commands(&guide).into_iter().filter(|line| line.starts_with("bgctl")).collect();
    for verb in ["init", "issue-host", "issue-operator", "apply", "deploy", "rollback", "hosts", "remove"] {
        assert!(ours.iter().any(|line| line.split(' ').nth(1) == Some(verb)), "the guide does not show {verb}");
    }
    for line in ours {
        is_taken(&line).unwrap_or_else(|said| panic!("{said}"));
    }
}

#[test]
fn a_command_that_is_none_is_noticed() {
    for line in [
        "bgctl-controller init --operater alice",
        "bgctl-controller issue-hosts web-1",
        "bgctl-controller issue-host web-1 --label role --out x",
        "bgctl redeploy web",
        "bgctl-agent remove --all",
    ] {
        is_taken(line).expect_err(line);
    }
}

#[test]
fn every_file_it_installs_is_here() {
    let guide = text("README.md");
    let installed: Vec<_> = commands(&guide)
        .iter()
        .filter(|line| line.starts_with("install "))
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| word.starts_with("systemd/") || word.starts_with("config/"))
        .collect();
    assert!(installed.len() >= 6, "{installed:?}");
    for file in installed {
        assert!(path(&file).is_file(), "the guide installs {file}, which is not there");
    }
}

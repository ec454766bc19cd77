//! The units: does systemd understand them, do they confine, and do they let the programs do their work.

use super::{path, run, systemd, text};
use bgctl_tests::workspace;
use std::path::Path;
use std::process::Command;

/// What `systemd-analyze security` may give at most, in tenths: a service without any sandbox has 96.
const EXPOSURE_MAX: u32 = 30;

/// The first systemd that measures a unit that is not installed.
const MEASURES_FILES: u32 = 250;

/// Where the units expect the programs.
const INSTALLED: &str = "/usr/local/bin/";

/// What both must say; `ProtectHome`, `ProtectProc` and the capabilities differ.
const SANDBOX: [&str; 19] = [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
];

fn unit(program: &str) -> String {
    text(&format!("systemd/{program}.service"))
}

/// The words of every line with this key.
fn values<'a>(unit: &'a str, key: &'a str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

/// What systemd has to say of a unit, with the programs where they were built.
fn verify(program: &str, unit: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = stage(folder.path(), program, unit);
    let (good, said) = run(Command::new(systemd("systemd-analyze")).arg("verify").arg(&file));
    // It warns of other packages' units as well, and of an unknown key only that it passes it over.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("bgctl")).collect();
    if good && ours.is_empty() { Ok(()) } else { Err(said) }
}

/// The exposure in tenths.
fn exposure(program: &str, unit: &str) -> u32 {
    let folder = tempfile::tempdir().expect("a folder");
    let file = stage(folder.path(), program, unit);
    let mut command = Command::new(systemd("systemd-analyze"));
    let (_, said) = run(command.args(["security", "--offline=true", "--no-pager"]).arg(file));
    let line = said.lines().find(|line| line.contains("Overall exposure level"));
    let number = line.and_then(|line| line.rsplit_once(": ")?.1.split_whitespace().next()?.parse::<f64>().ok());
    (number.unwrap_or_else(|| panic!("no exposure in: {said}")) * 10.0).round() as u32
}

fn stage(folder: &Path, program: &str, unit: &str) -> std::path::PathBuf {
    let built = workspace::program(program).unwrap_or_else(|error| panic!("{error}"));
    let file = folder.join(format!("{program}.service"));
    let built = format!("{}/", built.parent().expect("a folder").display());
    std::fs::write(&file, unit.replace(INSTALLED, &built)).expect("written");
    file
}

fn systemd_version() -> u32 {
    let (_, said) = run(Command::new(systemd("systemd-analyze")).arg("--version"));
    let version = said.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    version.unwrap_or_else(|| panic!("no version in: {said}"))
}

#[test]
fn systemd_understands_both_units() {
    for program in ["bgctl-agent", "bgctl-controller"] {
        verify(program, &unit(program)).unwrap_or_else(|said| panic!("{program}: {said}"));
    }
}

#[test]
fn a_unit_that_is_wrong_is_noticed() {
    let right = unit("bgctl-agent");
    for (from, to) in [
        ("KillMode=process", "KilMode=process"),
        ("Type=notify", "Type=notifi"),
        ("bgctl-agent run", "no-such-program run"),
        ("PrivateTmp=yes", "PrivateTmp=often"),
    ] {
        assert!(right.contains(from), "{from}");
        verify("bgctl-agent", &right.replace(from, to)).expect_err(to);
    }
}

#[test]
fn both_units_confine() {
    for program in ["bgctl-agent", "bgctl-controller"] {
        let unit = unit(program);
        let missing: Vec<_> = SANDBOX.iter().filter(|line| !unit.lines().any(|has| has == **line)).collect();
        assert!(missing.is_empty(), "{program} does not say {missing:?}");
        assert_eq!(values(&unit, "UMask"), ["0077"], "{program}");
        if systemd_version() < MEASURES_FILES {
            eprintln!("systemd {} cannot measure a unit that is not installed", systemd_version());
            continue;
        }
        let exposure = exposure(program, &unit);
        assert!(exposure <= EXPOSURE_MAX, "{program} is exposed {exposure} tenths");
        let bare: String =
            unit.lines().filter(|line| !SANDBOX.contains(line)).map(|line| format!("{line}\n")).collect();
        assert!(self::exposure(program, &bare) > EXPOSURE_MAX, "the sandbox of {program} makes no difference");
    }
}

#[test]
fn both_programs_are_waited_for_and_started_again_for_ever() {
    for program in ["bgctl-agent", "bgctl-controller"] {
        let unit = unit(program);
        assert_eq!(values(&unit, "Type"), ["notify"], "{program} says when it is ready");
        assert_eq!(values(&unit, "Restart"), ["always"], "{program}");
        assert_eq!(values(&unit, "StartLimitIntervalSec"), ["0"], "{program}");
        assert_eq!(values(&unit, "WantedBy"), ["multi-user.target"], "{program}");
    }
}

#[test]
fn the_agent_stands_between_docker_and_nginx_and_takes_neither_down() {
    let unit = unit("bgctl-agent");
    assert_eq!(values(&unit, "After"), ["network-online.target", "docker.service"]);
    assert_eq!(values(&unit, "Before"), ["nginx.service"]);
    assert_eq!(values(&unit, "KillMode"), ["process"]);
    assert_eq!(values(&unit, "OOMPolicy"), ["continue"]);
    for bond in ["Requires", "BindsTo", "PartOf", "Requisite", "Upholds"] {
        assert!(values(&unit, bond).is_empty(), "{bond}= would take the agent down with others");
    }
}

#[test]
fn the_agent_may_write_where_its_config_says() {
    let unit = unit("bgctl-agent");
    let config = bgctl_agent::config::Config::load(&path("config/agent.yaml")).expect("the sample is valid");
    let state: Vec<_> = values(&unit, "StateDirectory").iter().map(|name| Path::new("/var/lib").join(name)).collect();
    assert_eq!(state, [config.state_dir], "StateDirectory and state_dir");
    assert_eq!(values(&unit, "StateDirectoryMode"), ["0711"], "nginx's workers must get through");
    let may_write = values(&unit, "ReadWritePaths");
    let nginx = config.nginx;
    let needed = [nginx.include_dir.as_path(), folder(&nginx.error_log), folder(&nginx.control_socket)];
    for needed in needed {
        let covered = may_write.iter().any(|granted| needed.starts_with(granted.trim_start_matches('-')));
        assert!(covered, "{} is not among {may_write:?}", needed.display());
    }
}

/// Else what its Docker lost track of keeps the address of what comes next.
#[test]
fn the_agent_may_see_and_end_what_docker_lost_track_of() {
    let unit = unit("bgctl-agent");
    assert_eq!(values(&unit, "ProtectProc"), ["default"]);
    assert!(values(&unit, "CapabilityBoundingSet").contains(&"CAP_KILL"));
}

fn folder(file: &Path) -> &Path {
    file.parent().expect("an absolute path")
}

#[test]
fn the_controller_has_what_its_config_says_and_no_more() {
    let unit = unit("bgctl-controller");
    let config = bgctl_controller::config::Config::default();
    let state: Vec<_> = values(&unit, "StateDirectory").iter().map(|name| Path::new("/var/lib").join(name)).collect();
    assert_eq!(state, [config.state_dir], "StateDirectory and state_dir");
    assert!(values(&unit, "ReadWritePaths").is_empty());
    assert!(unit.lines().any(|line| line == "CapabilityBoundingSet="), "it needs no capability");
    assert!(config.listen.port() >= 1024, "a lower port would need one");
    assert_eq!(values(&unit, "ProtectHome"), ["yes"]);
    assert_eq!(values(&unit, "ProtectProc"), ["invisible"]);
    let hidden = values(&unit, "InaccessiblePaths");
    let key = config.identity.join(bgctl_controller::identity::AUTHORITY_KEY);
    assert!(hidden.contains(&format!("-{}", key.display()).as_str()), "the CA's key is not hidden: {hidden:?}");
}

//! The controller's user, and what of its folder it may read.

use super::{path, run, systemd, text};
use bgctl_controller::identity;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const USER: &str = "bgctl-controller";

#[test]
fn the_units_user_is_the_one_that_is_made() {
    let unit = text("systemd/bgctl-controller.service");
    assert!(unit.contains(&format!("\nUser={USER}\nGroup={USER}\n")));
    let users = path("systemd/bgctl-controller.sysusers.conf");
    let (good, said) = run(Command::new(systemd("systemd-sysusers")).arg("--dry-run").arg(users));
    assert!(good, "{said}");
    assert!(text("systemd/bgctl-controller.sysusers.conf").contains(&format!("\nu {USER} - ")));
}

#[test]
fn the_folders_rules_are_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |rules: &Path| {
        // All lines are read, none is carried out.
        let mut command = Command::new(systemd("systemd-tmpfiles"));
        run(command.args(["--create", "--prefix=/nonexistent"]).arg(rules))
    };
    let (good, said) = check(&path("systemd/bgctl-controller.tmpfiles.conf"));
    assert!(good && said.is_empty(), "{said}");
    let broken = folder.path().join("broken.conf");
    let text = text("systemd/bgctl-controller.tmpfiles.conf");
    std::fs::write(&broken, text.replace("\nd /etc", "\n? /etc")).expect("written");
    let (good, said) = check(&broken);
    assert!(!good || !said.is_empty(), "a line that is none was passed over");
}

/// As on a real host, below another root: make the user, make the CA, set the rights.
#[test]
fn the_controller_may_read_its_key_and_not_the_cas() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: that the rights come out as they should cannot be tried");
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let below = |program: &'static str, rules: &str| {
        let mut command = Command::new(systemd(program));
        if program == "systemd-tmpfiles" {
            command.arg("--create");
        }
        let (good, said) = run(command.arg(format!("--root={}", root.path().display())).arg(path(rules)));
        assert!(good, "{program}: {said}");
    };
    std::fs::create_dir(root.path().join("etc")).expect("a folder");
    below("systemd-sysusers", "systemd/bgctl-controller.sysusers.conf");
    let dir = root.path().join("etc/bgctl-controller");
    let operator = identity::init(&dir, "alice").expect("a CA");
    below("systemd-tmpfiles", "systemd/bgctl-controller.tmpfiles.conf");
    let groups = std::fs::read_to_string(root.path().join("etc/group")).expect("groups");
    let group = groups.lines().find_map(|line| line.strip_prefix(&format!("{USER}:"))?.split(':').nth(1)?.parse().ok());
    let group: u32 = group.unwrap_or_else(|| panic!("no group {USER} in: {groups}"));
    let rights = |path: &Path| {
        let facts = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (facts.mode() & 0o777, facts.uid(), facts.gid())
    };
    assert_eq!(rights(&dir), (0o750, 0, group));
    assert_eq!(rights(&dir.join(identity::CONTROLLER_FILES.1)), (0o640, 0, group));
    assert_eq!(rights(&dir.join(identity::AUTHORITY_KEY)), (0o600, 0, 0));
    assert_eq!(rights(operator.parent().expect("operators")), (0o700, 0, 0));
    for public in [identity::AUTHORITY_CERTIFICATE, identity::CONTROLLER_FILES.0] {
        assert_eq!(rights(&dir.join(public)).0 & 0o044, 0o044, "{public}");
    }
}

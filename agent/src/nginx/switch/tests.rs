//! The switch on a file system, without nginx.

use super::super::trial::flags;
use super::*;
use std::os::unix::fs::PermissionsExt;

fn switch() -> (tempfile::TempDir, SwitchDir) {
    let dir = tempfile::tempdir().unwrap();
    let switch = SwitchDir::new(dir.path().join("state/switch"));
    (dir, switch)
}

fn turn(switch: &SwitchDir, text: &str) {
    let turned = switch.turn(&flags(text)).unwrap();
    switch.sync().unwrap();
    if let Some(turned) = turned {
        switch.forget_old(&turned).unwrap();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_generation_is_one_flag_a_service_and_one_text() {
    let (_dir, switch) = switch();
    assert_eq!(switch.read(), Ok(None));
    turn(&switch, "api none - 0, web green b 42");
    let current = switch.path().join("current");
    assert_eq!(fs::read_link(&current).unwrap(), Path::new("gen-1"));
    assert_eq!(names(&current), ["api.none", "generation", "web.b"]);
    assert_eq!(fs::read_to_string(current.join("generation")).unwrap(), "api none - 0\nweb green b 42\n");
    assert_eq!(switch.read(), Ok(Some(flags("api none - 0, web green b 42"))));
}

#[test]
fn whatever_the_umask_workers_of_another_user_may_read() {
    let (_dir, switch) = switch();
    turn(&switch, "web green b 42");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(switch.path()), 0o755);
    assert_eq!(mode(&switch.path().join("gen-1")), 0o755);
    assert_eq!(mode(&switch.path().join("gen-1/web.b")), 0o644);
    assert_eq!(mode(&switch.path().join("gen-1/generation")), 0o644);
}

#[test]
fn a_switch_that_was_closed_by_hand_is_opened_by_the_next_turn_to_the_same() {
    let (_dir, switch) = switch();
    turn(&switch, "web green b 42");
    let closed = ["", "gen-1", "gen-1/web.b", "gen-1/generation"].map(|name| switch.path().join(name));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let before = closed.each_ref().map(|path| mode(path));
    for path in closed.iter().rev() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(switch.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&closed[1], fs::Permissions::from_mode(0o700)).unwrap();
    assert!(switch.turn(&flags("web green b 42")).unwrap().is_none(), "it was turned");
    assert_eq!(closed.each_ref().map(|path| mode(path)), before);
}

#[test]
fn a_closed_state_directory_is_opened_for_passing_through() {
    let (_dir, switch) = switch();
    let state = switch.path().parent().unwrap();
    fs::create_dir(state).unwrap();
    fs::set_permissions(state, fs::Permissions::from_mode(0o700)).unwrap();
    turn(&switch, "web green b 42");
    assert_eq!(fs::metadata(state).unwrap().permissions().mode() & 0o777, 0o711);
}

#[test]
fn staging_changes_nothing_but_next_and_is_used_by_the_turn() {
    let (_dir, switch) = switch();
    turn(&switch, "web blue a 1");
    switch.stage(&flags("web green b 2")).unwrap();
    switch.stage(&flags("web green b 2")).unwrap();
    assert_eq!(names(switch.path()), ["current", "gen-1", "gen-2", "next"]);
    assert_eq!(switch.read(), Ok(Some(flags("web blue a 1"))));
    turn(&switch, "web green b 2");
    assert_eq!(names(switch.path()), ["current", "gen-1", "gen-2"]);
    assert_eq!(fs::read_link(switch.path().join("current")).unwrap(), Path::new("gen-2"));
}

#[test]
fn the_generation_before_is_kept_and_no_older_one() {
    let (_dir, switch) = switch();
    for number in 1..=9 {
        turn(&switch, &format!("web {} {number}", if number % 2 == 0 { "green b" } else { "blue a" }));
    }
    assert_eq!(names(switch.path()), ["current", "gen-8", "gen-9"]);
    switch.stage(&flags("web blue a 20")).unwrap();
    switch.stage(&flags("web blue a 21")).unwrap();
    assert_eq!(names(switch.path()), ["current", "gen-11", "gen-8", "gen-9", "next"]);
}

#[test]
fn somebody_who_looks_all_the_time_never_misses_it() {
    let (_dir, switch) = switch();
    turn(&switch, "web blue a 0");
    let current = switch.path().join("current");
    std::thread::scope(|scope| {
        let turning = scope.spawn(|| (1..=300).for_each(|number| turn(&switch, &format!("web blue a {number}"))));
        while !turning.is_finished() {
            fs::read_link(&current).unwrap();
        }
    });
    assert_eq!(switch.read(), Ok(Some(flags("web blue a 300"))));
}

#[test]
fn the_same_flags_are_no_turn() {
    let (_dir, switch) = switch();
    turn(&switch, "web blue a 1");
    assert!(switch.turn(&flags("web blue a 1")).unwrap().is_none());
    switch.stage(&flags("web blue a 1")).unwrap();
    assert_eq!(names(switch.path()), ["current", "gen-1"]);
}

#[test]
fn what_a_crash_left_half_made_is_stepped_over_and_cleared() {
    let (_dir, switch) = switch();
    turn(&switch, "web blue a 1");
    fs::create_dir(switch.path().join("gen-2")).unwrap();
    symlink("gen-2", switch.path().join("next")).unwrap();
    symlink("gen-2", switch.path().join(".next.new")).unwrap();
    turn(&switch, "web green b 2");
    assert_eq!(switch.read(), Ok(Some(flags("web green b 2"))));
    assert_eq!(names(switch.path()), ["current", "gen-1", "gen-3"]);
}

#[test]
fn a_damaged_switch_is_an_error_and_is_repaired_by_the_next_turn() {
    type Damage = fn(&Path);
    let damages: [Damage; 7] = [
        |current| fs::write(current.join("web.a"), "").unwrap(),
        |current| fs::remove_file(current.join("web.b")).unwrap(),
        |current| fs::remove_file(current.join("generation")).unwrap(),
        |current| fs::write(current.join("generation"), "web green b\n").unwrap(),
        |current| fs::write(current.join("generation"), "web green b 1 2\n").unwrap(),
        |current| fs::write(current.join("generation"), "web green - 1\n").unwrap(),
        |current| fs::write(current.join("generation"), "web green b 1\nweb blue a 2\n").unwrap(),
    ];
    for damage in damages {
        let (_dir, switch) = switch();
        turn(&switch, "web green b 1");
        damage(&switch.path().join("current"));
        assert!(matches!(switch.read(), Err(ProxyError::File { operation: "read", .. })), "{:?}", switch.read());
        turn(&switch, "web green b 1");
        assert_eq!(switch.read(), Ok(Some(flags("web green b 1"))));
    }
}

/// A disk of its own with room for eight files.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=8", "tmpfs"]).arg(dir.path());
        assert!(mount.status().unwrap().success(), "this test makes a small disk: run it as root");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_met_while_staging_and_leaves_the_switch_alone() {
    let disk = SmallDisk::new();
    let switch = SwitchDir::new(disk.0.path().join("switch"));
    turn(&switch, "web blue a 1");
    let before = names(switch.path());
    let many: Vec<_> = (0..8).map(|n| format!("s{n} green b 2")).collect();
    let error = switch.stage(&flags(&many.join(", "))).unwrap_err().to_string();
    assert!(error.contains("No space left") && error.contains("free some space"), "{error}");
    assert_eq!(names(switch.path()), before);
    assert_eq!(switch.read(), Ok(Some(flags("web blue a 1"))));
}

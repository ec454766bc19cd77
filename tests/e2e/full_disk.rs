//! Full disks: a small file system of its own for the state of one agent, and for the controller's.

use super::scene::{ABORTED, DONE, LIMIT, REFUSED, Scene, assert_nothing_lost, assert_says, bare, told};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The journal takes half of it.
const AGENT: &str = "size=1m,nr_inodes=200";
/// An empty store takes more than one.
const CONTROLLER: &str = "size=4m";
/// More than fits on either.
const CORE_DUMP_BYTES: usize = 8 * 1024 * 1024;

/// A file system in memory. Unmounted with the value, also when a test fails.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// With all that is there: what begins anew would be a new life of its host, or a store of another history.
    fn under(path: &Path, size: &str) -> Self {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside).expect("nobody works in it");
        fs::create_dir(path).expect("its name is free");
        run("mount", &["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), size.as_ref(), "bgctl-test".as_ref(), path]);
        run("cp", &["-a".as_ref(), &aside.join("."), path]);
        fs::remove_dir_all(&aside).expect("it was copied");
        Self(path.to_owned())
    }

    /// Takes what is left of it.
    fn fill(&self) {
        let file = self.0.join("somebody-elses-core-dump");
        let written = fs::write(&file, vec![1; CORE_DUMP_BYTES]);
        assert!(written.is_err(), "it fits");
    }

    fn free(&self) {
        fs::remove_file(self.0.join("somebody-elses-core-dump")).expect("it is there");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Programs still work in it: it is gone when they are.
        run("umount", &["-l".as_ref(), &self.0]);
    }
}

pub(super) fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output().expect("a program of every system");
    assert!(output.status.success(), "{program}: {} (as root?)", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_one_host_changes_nothing_and_is_told() {
    let mut scene = Scene::quiet(bare(2)).await;
    let (host, agent) = (scene.host(1).to_owned(), scene.fleet().hosts()[0].agent());
    let state = scene.fleet().plan().host_dir(&scene.fleet().hosts()[0]).join("state");
    // The agent goes on on the small disk, and with it its nginx.
    scene.hold(&agent).await;
    for process in bgctl_tests::process::working_in(&state, &["nginx"]) {
        assert!(process.end(std::time::Duration::from_secs(5)).await, "nginx does not end");
    }
    let disk = Tmpfs::under(&state, AGENT);
    scene.release(&agent);
    scene.connected().await;
    let spec = scene.fleet().plan().spec().to_string_lossy().into_owned();
    scene.expect(&["apply", "-f", &spec], DONE, &[]).await;
    scene.expect(&["deploy", "web", "--version", "v1"], DONE, &[]).await;
    scene.users_come().await;

    disk.fill();
    let ran = scene.bgctl(&["deploy", "web", "--version", "v2"]).await;
    match ran.code {
        Some(DONE) => scene.served("v2").await,
        Some(ABORTED | REFUSED) => {
            assert_says(&ran, &[&host, "No space left on device"]);
            assert_eq!(scene.at_rest().await, "v1");
        }
        _ => panic!("neither done nor a clean no: {}", told(&ran)),
    }
    // An agent that starts on a full disk serves all the same.
    let before = scene.fleet().kill(&agent).await.expect("it runs");
    scene.fleet().wait_restarted(&agent, before, LIMIT).await.expect("a restart");
    scene.connected().await;
    scene.at_rest().await;
    disk.free();
    scene.deploy("v3").await;
    // Before the fleet goes, which removes its folder.
    let report = scene.users_leave().await;
    assert_nothing_lost(&report);
    drop(disk);
    scene.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_controller_changes_nothing_and_is_told() {
    let mut scene = Scene::quiet(bare(2)).await;
    scene.hold("controller").await;
    let state = scene.fleet().plan().dir.join("controller");
    let disk = Tmpfs::under(&state, CONTROLLER);
    scene.release("controller");
    scene.connected().await;
    let spec = scene.fleet().plan().spec().to_string_lossy().into_owned();
    scene.expect(&["apply", "-f", &spec], DONE, &[]).await;
    scene.expect(&["deploy", "web", "--version", "v1"], DONE, &[]).await;
    scene.users_come().await;

    disk.fill();
    let mut told_no = Vec::new();
    let mut serving = "v1";
    for version in ["v2", "v3", "v2", "v3"] {
        let ran = scene.bgctl(&["deploy", "web", "--version", version]).await;
        match ran.code {
            Some(DONE) => serving = version,
            Some(_) => told_no.push(ran),
            None => panic!("bgctl was killed: {}", told(&ran)),
        }
    }
    for ran in told_no {
        assert_says(&ran, &["no space left"]);
    }
    // Also to whoever deploys nothing.
    scene.expect(&["controllers"], DONE, &["embedded", "is full", "make room there"]).await;
    disk.free();
    assert_eq!(scene.at_rest().await, serving);
    scene.deploy("v1").await;
    let report = scene.users_leave().await;
    assert_nothing_lost(&report);
    drop(disk);
    scene.down().await;
}

//! The store is put back from a backup: the fleet serves on as it is, says so, and obeys nobody until a person has
//! confirmed it. Then it goes on from there.

use super::scene::{DONE, LIMIT, REFUSED, Scene, assert_nothing_lost, hosts, on_etcd, told};
use bgctl_tests::workspace::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ASK_EVERY: Duration = Duration::from_millis(200);

/// Runs the controller's program; what it printed.
fn controller(arguments: &[&str]) -> String {
    let output = Command::new(program("bgctl-controller").expect("it was built")).args(arguments).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Waits until `bgctl` with these arguments says all of these words.
async fn says(scene: &Scene, arguments: &[&str], words: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let ran = scene.bgctl(arguments).await;
        if words.iter().all(|word| ran.stdout.contains(word)) {
            return;
        }
        assert!(Instant::now() < deadline, "`bgctl {}` never says {words:?}: {}", ran.arguments, told(&ran));
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The store is old, and everybody says so; nothing is deployed, and nothing changes for users.
async fn everybody_doubts(scene: &Scene, serving: &str) {
    scene.connected().await;
    says(scene, &["status"], &["THE STORE IS IN DOUBT", "bgctl store confirm"]).await;
    says(scene, &["hosts"], &["obeying nothing", "bgctl store confirm"]).await;
    for typed in [&["deploy", "web", "--version", "v3"][..], &["rollback", "web"]] {
        scene.expect(typed, REFUSED, &["nothing is deployed now", "bgctl store confirm"]).await;
    }
    scene.served(serving).await;
}

async fn confirmed(scene: &Scene) {
    scene.expect(&["store", "confirm"], DONE, &["confirmed"]).await;
    scene.connected().await;
    scene.expect(&["store", "confirm"], REFUSED, &["nothing to confirm"]).await;
    says(scene, &["status", "web"], &["ahead of the store"]).await;
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_put_back_is_obeyed_by_nobody_until_it_is_confirmed() {
    let mut scene = Scene::with_users(hosts(2)).await;
    let dir = scene.fleet().plan().dir.clone();
    let config = dir.join("controller.yaml").to_string_lossy().into_owned();
    let backup = dir.join("backup.redb").to_string_lossy().into_owned();

    // Taken while it serves, put back with the command.
    let said = controller(&["backup", &backup, "--config", &config]);
    assert!(said.contains("keys at revision"), "{said}");
    scene.deploy("v2").await;
    scene.hold("controller").await;
    let said = controller(&["restore", &backup, "--config", &config]);
    assert!(said.contains("bgctl store confirm") && said.contains("before"), "{said}");
    scene.release("controller");
    everybody_doubts(&scene, "v2").await;
    confirmed(&scene).await;
    scene.deploy("v3").await;
    assert_eq!(scene.at_rest().await, "v3");

    // A plain copy of the file, taken while the controller is down; and nobody says that it was put back.
    let (file, copy) = (dir.join("controller/store.redb"), dir.join("copy.redb"));
    scene.hold("controller").await;
    fs::copy(&file, &copy).expect("copied");
    scene.release("controller");
    scene.connected().await;
    scene.deploy("v1").await;
    scene.hold("controller").await;
    fs::copy(&copy, &file).expect("copied");
    scene.release("controller");
    everybody_doubts(&scene, "v1").await;
    // Agents that start while there is doubt remember it.
    let before = scene.fleet().kill_agent(1).await.expect("it runs");
    let agent = scene.fleet().hosts()[0].agent();
    scene.fleet().wait_restarted(&agent, before, LIMIT).await.expect("a restart");
    everybody_doubts(&scene, "v1").await;
    confirmed(&scene).await;
    scene.deploy("v2").await;
    assert_eq!(scene.at_rest().await, "v2");

    let report = scene.users_leave().await;
    assert_nothing_lost(&report);
    eprintln!("two backups put back under load: {}", report.total);
    assert!(report.targets.iter().all(|target| target.sequence() == "v1 → v2 → v3 → v1 → v2"), "{report}");
    scene.down().await;
}

/// Its data directory as it was, the way a snapshot without a raised revision leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_went_back_is_confirmed_only_when_its_revision_is_beyond_what_hosts_have_heard() {
    let mut scene = Scene::with_users(on_etcd(2)).await;
    let dir = scene.fleet().plan().dir.clone();
    let data = fs::read_dir(&dir).expect("it is there").map(|entry| entry.expect("readable").path());
    let is_data = |path: &PathBuf| path.join("member").is_dir();
    let data = data.flat_map(|path| [path.clone(), path.join("data"), path.join("etcd")]).find(is_data);
    let data = data.expect("etcd's data directory");
    let copy = dir.join("copy-of-etcd");
    scene.hold("controller").await;
    scene.hold("etcd").await;
    copy_all(&data, &copy);
    scene.release("etcd");
    scene.release("controller");
    scene.connected().await;
    for version in ["v2", "v3", "v2", "v3", "v2"] {
        scene.deploy(version).await;
    }
    scene.hold("controller").await;
    scene.hold("etcd").await;
    fs::remove_dir_all(&data).expect("removed");
    copy_all(&copy, &data);
    scene.release("etcd");
    scene.release("controller");
    everybody_doubts(&scene, "v2").await;
    scene.expect(&["store", "confirm"], REFUSED, &["--bump-revision 1000000000", "generations would come twice"]).await;
    // As etcd 3.4 leaves no other way: written to until it is beyond. Each spec that is accepted is a revision.
    let spec = include_str!("../fixtures/web.yaml");
    for number in 0..80 {
        let path = scene.spec("again.yaml", &format!("{spec}# {number}\n"));
        scene.expect(&["apply", "-f", &path], DONE, &[]).await;
    }
    confirmed(&scene).await;
    scene.deploy("v3").await;
    assert_eq!(scene.at_rest().await, "v3");
    let report = scene.users_leave().await;
    assert_nothing_lost(&report);
    scene.down().await;
}

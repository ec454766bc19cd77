//! etcd's disks are slow: what is asked of it times out, its members hold elections, and what comes of a deployment is
//! what `bgctl` says. Slow is here what strace makes of `fdatasync`, in the real members.

use super::controllers::{agreed, three};
use super::scene::{DONE, LIMIT, Scene, text};
use bgctl_tests::process::Process;
use bgctl_tests::workspace::system_program;
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A disk that is too slow for etcd by its own tables, and makes every write of a controller take part of a second.
const SLOW: Duration = Duration::from_millis(300);
/// Longer than the members wait before they hold an election, and than a controller waits for an answer.
const AS_GOOD_AS_DEAD: Duration = Duration::from_millis(2500);
/// How long a disk like that stays so: longer than a controller's lease.
const DEAD_FOR: Duration = Duration::from_secs(12);

/// The members of a fleet's etcd, each with a tracer that holds up its flushes.
struct SlowDisks {
    tracers: Vec<(Child, PathBuf)>,
}

impl SlowDisks {
    /// From now on, each flush takes this much longer.
    async fn of(scene: &Scene, delay: Duration) -> Self {
        scene.note(format!("--- each flush of etcd's takes {delay:?} longer"));
        let strace = system_program("strace", "strace").unwrap_or_else(|error| panic!("{error}"));
        let mut tracers = Vec::new();
        for member in &scene.fleet().plan().etcd {
            let Process { pid, .. } = scene.fleet().process(&member.name).expect("it runs");
            let [calls, said] =
                ["calls", "said"].map(|kind| scene.fleet().plan().log(&format!("{}-{kind}", member.name)));
            let inject = format!("inject=fdatasync:delay_exit={}", delay.as_micros());
            let tracer = Command::new(&strace)
                .args(["-f", "-e", "trace=fdatasync", "-e", &inject, "-p", &pid.to_string(), "-o"])
                .arg(&calls)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(&said).expect("a file"))
                .kill_on_drop(true)
                .spawn();
            let deadline = Instant::now() + LIMIT;
            while !fs::read_to_string(&said).is_ok_and(|said| said.contains("attached")) {
                let said = fs::read_to_string(&said).unwrap_or_default();
                assert!(Instant::now() < deadline, "strace does not attach to {}; it takes root: {said}", member.name);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tracers.push((tracer.expect("strace"), calls));
        }
        Self { tracers }
    }

    /// They are as fast as before. How many flushes were held up.
    async fn heal(self, scene: &Scene) -> usize {
        let mut slowed = 0;
        for (mut tracer, calls) in self.tracers {
            let process = tracer.id().and_then(|pid| Process::of(pid as i32)).expect("it traces");
            process.signal(Signal::TERM);
            tracer.wait().await.expect("its end");
            slowed += fs::read_to_string(calls).expect("what it saw").matches("(DELAYED)").count();
        }
        scene.note(format!("--- etcd's disks are fast again, {slowed} flushes were not"));
        slowed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_on_slow_disks_of_etcd_ends_as_it_is_told() {
    let scene = Scene::with_users(three(2)).await;

    // Slow all the time: it takes longer, and ends.
    let disks = SlowDisks::of(&scene, SLOW).await;
    let ran = scene.bgctl(&["deploy", "web", "--version", "v2", "--json"]).await;
    let serving = agreed(&scene, &ran, "v1", "v2").await;
    let slowed = disks.heal(&scene).await;
    eprintln!("{SLOW:?} a flush: exit code {:?} after {:?}, {slowed} flushes held up", ran.code, ran.took);
    assert!(slowed > 0, "no disk was slow");

    // So slow that nothing is answered in time, in the middle of a deployment.
    let asked = if serving == "v1" { "v2" } else { "v1" };
    let (ran, slowed) = tokio::join!(scene.bgctl(&["deploy", "web", "--version", "slow", "--json"]), async {
        scene.until_pending().await;
        let disks = SlowDisks::of(&scene, AS_GOOD_AS_DEAD).await;
        let told = scene.expect(&["status", "web", "--json"], DONE, &[]).await;
        let answer = told.json().expect("a document");
        assert_eq!(text(&answer["services"][0]["version"]), serving);
        tokio::time::sleep(DEAD_FOR).await;
        disks.heal(&scene).await
    });
    agreed(&scene, &ran, &serving, "slow").await;
    eprintln!("{AS_GOOD_AS_DEAD:?} a flush: exit code {:?} after {:?}, {slowed} flushes held up", ran.code, ran.took);
    assert!(slowed > 0, "no disk was slow");

    scene.fleet().wait_all_controllers().await.expect("all are there");
    scene.deploy(asked).await;
    scene.end().await;
}

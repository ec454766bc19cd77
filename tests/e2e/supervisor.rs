//! The stand-in for systemd, with stand-ins for the programs: they are started again, given up when that is no
//! use, and none outlives the fleet, however it ends.

use bgctl_tests::fleet::{Fleet, Plan, Program, RESTART_DELAY, Run, SUPERVISOR, Store};
use bgctl_tests::process::{Process, working_in};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// A supervisor and the folder it works in. Killed when dropped: tests end it in their own ways.
struct Supervised {
    dir: TempDir,
    supervisor: Child,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Its programs first, or they would outlive a failed test.
        for process in working_in(self.dir.path(), &["sleep", "sh"]) {
            process.signal(Signal::KILL);
        }
        self.supervisor.kill().expect("it is ours");
        self.supervisor.wait().expect("its end");
    }
}

impl Supervised {
    fn start(scripts: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let programs = scripts.iter().map(|(name, script)| Program {
            name: (*name).to_owned(),
            environment: Vec::new(),
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), (*script).to_owned()],
        });
        let plan = Plan {
            id: "standins".to_owned(),
            dir: dir.path().to_owned(),
            store: Store::Embedded,
            controllers: Vec::new(),
            etcd: Vec::new(),
            etcd_arguments: Vec::new(),
            wires: Vec::new(),
            hosts: Vec::new(),
            programs: programs.collect(),
        };
        for folder in ["run", "logs"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        plan.save().expect("a plan");
        let supervisor = Command::new(env!("CARGO_BIN_EXE_fleet"))
            .args(["supervise", "--dir"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("the supervisor");
        Self { dir, supervisor }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, program: &str) -> Option<Run> {
        Run::load(self.dir(), program)
    }

    fn process(&self, program: &str) -> Option<Process> {
        self.run(program)?.process.filter(Process::is_alive)
    }

    async fn runs(&self, program: &str) -> Process {
        wait(&format!("{program} running"), || self.process(program)).await
    }
}

async fn wait<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `exec`, so that the process is the sleep itself.
const FOR_EVER: &str = "exec sleep 1000";

#[tokio::test]
async fn a_killed_program_is_started_again_after_a_pause() {
    let supervised = Supervised::start(&[("controller", FOR_EVER), ("agent-h1", FOR_EVER)]);
    let before = supervised.runs("controller").await;
    let bystander = supervised.runs("agent-h1").await;
    let killed_at = Instant::now();
    assert!(before.signal(Signal::KILL));
    let after = wait("another process", || supervised.process("controller").filter(|process| *process != before)).await;
    assert!(killed_at.elapsed() >= RESTART_DELAY, "{:?}", killed_at.elapsed());
    assert!(after.is_alive());
    assert!(bystander.is_alive());
    let run = supervised.run("controller").expect("it was written");
    assert_eq!((run.starts, run.last_end.as_deref()), (2, Some("signal: 9 (SIGKILL)")));
}

#[tokio::test]
async fn a_program_that_cannot_run_is_given_up() {
    let supervised = Supervised::start(&[("hopeless", "exit 3"), ("agent-h1", FOR_EVER)]);
    let run = wait("giving up", || supervised.run("hopeless").filter(|run| run.given_up)).await;
    assert_eq!(run.last_end.as_deref(), Some("exit status: 3"));
    assert!(supervised.runs("agent-h1").await.is_alive());
}

#[tokio::test]
async fn when_the_owner_goes_everything_goes() {
    let mut supervised = Supervised::start(&[("controller", FOR_EVER), ("stubborn", "trap '' TERM; exec sleep 1000")]);
    let stubborn = supervised.runs("stubborn").await;
    // From here on it takes no notice of SIGTERM.
    wait("deafness", || (stubborn.name() == "sleep").then_some(())).await;
    let programs = [supervised.runs("controller").await, stubborn];
    drop(supervised.supervisor.stdin.take());
    wait("the end of the supervisor", || supervised.supervisor_ended()).await;
    assert!(programs.iter().all(|process| !process.is_alive()));
    assert!(!supervised.dir().exists());
    assert_eq!(working_in(supervised.dir(), &["sleep", "sh"]), []);
}

#[tokio::test]
async fn a_fleet_whose_supervisor_was_killed_is_still_taken_down() {
    let supervised = Supervised::start(&[("controller", FOR_EVER)]);
    let orphan = supervised.runs("controller").await;
    let supervisor = supervised.runs(SUPERVISOR).await;
    assert!(supervisor.signal(Signal::KILL));
    assert!(supervisor.wait_end(LIMIT).await);
    assert!(orphan.is_alive());
    // The plan says `sh`, the process goes by `sleep`: no name finds it, its record does.
    assert!(Fleet::down_in(supervised.dir()).await.expect("it can be taken down"));
    assert!(!orphan.is_alive());
    assert!(!supervised.dir().exists());
    assert!(!Fleet::down_in(supervised.dir()).await.expect("a second time is fine"));
}

#[tokio::test]
async fn a_fleet_told_to_stay_outlives_its_owner() {
    let mut supervised = Supervised::start(&[("controller", FOR_EVER)]);
    supervised.runs("controller").await;
    let supervisor = supervised.runs(SUPERVISOR).await;
    fs::write(supervised.dir().join("run/stay"), "").expect("a file");
    drop(supervised.supervisor.stdin.take());
    // It still does its work: the end of the pipe came before this.
    supervised.runs("controller").await.signal(Signal::KILL);
    wait("a restart", || supervised.run("controller").filter(|run| run.starts == 2)).await;
    assert!(supervisor.is_alive());
    assert!(Fleet::down_in(supervised.dir()).await.expect("it can be taken down"));
    assert!(!supervisor.is_alive());
}

impl Supervised {
    fn supervisor_ended(&self) -> Option<()> {
        Process::of(self.supervisor.id() as i32).is_none_or(|process| !process.is_alive()).then_some(())
    }
}

//! The rest of a host: Docker with `live-restore`, nginx in a person's hands, the switch, the journal, the agent.

use super::stage::{ABORTED, CONNECTIONS, DONE, LIMIT, Stage, until};
use bgctl_tests::netfleet::{NetFleetOptions, Order};
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;

/// Where the journal's second half begins.
const HALF_BYTES: usize = 256 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn nginx_by_hand_a_lost_switch_a_torn_journal_and_another_agent() {
    let stage = Stage::up(NetFleetOptions::default()).await;
    for host in 0..2 {
        stage.told(host, "warnings", str::is_empty).await;
    }
    stage.deploy("v2").await;
    docker_dies_alone(&stage).await;
    nginx_is_reloaded_by_hand(&stage).await;
    the_switch_is_lost(&stage).await;
    the_journal_is_torn(&stage).await;
    an_agent_dies_while_a_colour_retires(&stage).await;
    another_agent_is_put_in_place(&stage).await;
}

async fn docker_dies_alone(stage: &Stage) {
    let before = (stage.started(0, "v2"), stage.started(0, "v1"));
    let seen = stage.strike("dockerd dies and its containers do not", 0, "v2", async {
        let was = stage.host(0).kill("dockerd", LIMIT).await.expect("it runs");
        stage.host(0).wait_restarted("dockerd", was, LIMIT).await.expect("a restart");
        until("Docker's answer", || stage.started(0, "v2").is_some()).await;
    });
    seen.await.lost_nothing().versions(&["v2"]);
    assert_eq!((stage.started(0, "v2"), stage.started(0, "v1")), before, "a container was started anew");
    stage.deploy("v3").await;
    stage.deploy("v2").await;
}

/// A reload ends the workers, and with them the connections they keep: each user may lose the one request that is
/// under way just then.
async fn nginx_is_reloaded_by_hand(stage: &Stage) {
    let state = stage.host(0).dir().join("state/nginx");
    let config = state.join("nginx.conf");
    let good = fs::read_to_string(&config).expect("nginx's config");
    let (prefix, file) = (state.to_string_lossy().into_owned(), config.to_string_lossy().into_owned());
    let reload = ["nginx", "-p", &prefix, "-c", &file, "-s", "reload"];
    let seen = stage.strike("nginx is reloaded by hand", 0, "v2", async {
        stage.shell(0, &reload);
    });
    let seen = seen.await;
    assert!(seen.versions(&["v2"]).struck.total.failed <= CONNECTIONS as u64, "{}", seen.struck);

    let address = stage.host(0).address();
    let pid = state.join("nginx.pid");
    let seen = stage.strike("nginx's config is edited and taken", 0, "v2", async {
        let bad = format!(
            "pid {};\nevents {{}}\nhttp {{ server {{ listen {address}:80; return 503; }} }}\n",
            pid.to_string_lossy()
        );
        fs::write(&config, bad).expect("nginx's config");
        stage.shell(0, &reload);
        until("the config's return", || fs::read_to_string(&config).is_ok_and(|now| now == good)).await;
    });
    seen.await.versions(&["v2"]);
    stage.deploy("v3").await;
    stage.deploy("v2").await;
}

/// nginx then looks at the spare, within the second until the agent puts the switch back: users lose nothing, and do
/// not meet the version that stands warm.
async fn the_switch_is_lost(stage: &Stage) {
    let switch = stage.host(0).dir().join("state/switch");
    let current = switch.join("current");
    let seen = stage.strike("the switch's symlink is removed", 0, "v2", async {
        fs::remove_file(&current).expect("a symlink");
        until("its return", || current.exists()).await;
    });
    seen.await.lost_nothing().versions(&["v2"]);
    let seen = stage.strike("the switch is deleted", 0, "v2", async {
        fs::remove_dir_all(&switch).expect("a folder");
        until("its return", || current.exists()).await;
    });
    seen.await.lost_nothing().versions(&["v2"]);
    stage.deploy("v3").await;
    stage.deploy("v2").await;
}

fn journal(stage: &Stage) -> PathBuf {
    stage.host(0).dir().join("state/journal")
}

/// A write that stopped in the middle: the end of the text is not there.
fn torn(bytes: &[u8], half: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let this = &mut bytes[half * HALF_BYTES..(half + 1) * HALF_BYTES];
    let end = this.iter().position(|byte| *byte == 0).expect("room that is left");
    this[end / 2..].fill(0);
    bytes
}

/// The half that was written last: the higher count in its first line.
fn newest(bytes: &[u8]) -> usize {
    let count = |half: &[u8]| -> u64 {
        let line = half.split(|byte| *byte == b'\n').next().expect("a line");
        let count = String::from_utf8_lossy(line).split(' ').nth(2).map(str::to_owned);
        count.expect("a header").parse().expect("a count")
    };
    usize::from(count(&bytes[HALF_BYTES..]) > count(&bytes[..HALF_BYTES]))
}

async fn the_journal_is_torn(stage: &Stage) {
    let path = journal(stage);
    let seen = stage.strike("the journal's last write is torn", 0, "v2", async {
        stage.stop_agent(0).await;
        let bytes = fs::read(&path).expect("the journal");
        fs::write(&path, torn(&bytes, newest(&bytes))).expect("the journal");
        stage.host(0).release("agent");
        until("the agent's start", || stage.host(0).process("agent").is_some()).await;
    });
    seen.await.lost_nothing().versions(&["v2"]);
    stage.deploy("v3").await;
    stage.deploy("v2").await;

    let seen = stage.strike("the journal is torn for good", 0, "v2", async {
        stage.stop_agent(0).await;
        let good = fs::read(&path).expect("the journal");
        let bad = torn(&torn(&good, 0), 1);
        fs::write(&path, &bad).expect("the journal");
        stage.host(0).release("agent");
        let log = stage.host(0).log("agent");
        until("the agent's refusal", || fs::read_to_string(&log).is_ok_and(|said| said.contains("is damaged"))).await;
        stage.told(0, "connected", |told| told == "false").await;
        assert_eq!(fs::read(&path).expect("the journal"), bad, "it was written over");
        fs::write(&path, &good).expect("the journal");
    });
    seen.await.lost_nothing().versions(&["v2"]);
    stage.deploy("v3").await;
    stage.deploy("v2").await;
}

/// v1 has no place any more once a third version comes: its container goes, whoever is killed over it.
async fn an_agent_dies_while_a_colour_retires(stage: &Stage) {
    for (point, version, goes) in [("after_drain_start", "v1", "v3"), ("before_remove", "v3", "v2")] {
        let from = if version == "v1" { "v2" } else { "v1" };
        let what = format!("the agent dies {}", point.replace('_', " "));
        let seen = stage.strike(&what, 0, version, async {
            stage.host(0).points().arm(point, Order::Abort).expect("a file");
            stage.deploy(version).await;
            assert!(stage.host(0).points().wait_reached(point, LIMIT).await, "nobody came to {point}");
            until("the end of what retired", || !stage.containers(0, true).iter().any(|(of, _)| of == goes)).await;
        });
        seen.await.lost_nothing().versions(&[&format!("{from} → {version}")]);
    }
}

/// Stopped in the middle of a deployment, another file under its name, started again.
async fn another_agent_is_put_in_place(stage: &Stage) {
    let host = stage.host(0);
    let program = host.dir().join("bin/bgctl-agent");
    let upgrade = async {
        until("the new container", || stage.started(0, "slow").is_some()).await;
        host.hold("agent").expect("a file");
        let was = host.process("agent").expect("it runs");
        was.signal(Signal::TERM);
        until("the agent's end", || !was.is_alive()).await;
        let new = program.with_extension("new");
        fs::copy(&program, &new).expect("a copy");
        fs::rename(&new, &program).expect("another file under its name");
        host.release("agent");
    };
    let seen = stage.strike("the agent is upgraded in the middle of a deployment", 0, "slow", async {
        let (ran, ()) = tokio::join!(stage.bgctl(&["deploy", "web", "--version", "slow"]), upgrade);
        match ran.code {
            Some(DONE) => {}
            Some(ABORTED) => stage.deploy("slow").await,
            _ => panic!("neither done nor aborted: {}", ran.short()),
        }
    });
    seen.await.lost_nothing().versions(&["v3 → slow"]);
    assert!(!program.is_symlink(), "the old program");
    stage.deploy("v1").await;
}

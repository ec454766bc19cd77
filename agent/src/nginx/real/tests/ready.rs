//! What load balancers see through a real nginx.

use super::super::super::trial::client::get;
use super::super::super::trial::host::{Host, Real};
use super::super::super::trial::load::{self, Load};
use super::super::super::trial::{flags, service};
use super::super::super::{Answer, ProxyError, Readiness};
use super::{backends, up};
use http::StatusCode;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

const OK: StatusCode = StatusCode::OK;
const NOT: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const TOLD: usize = 40;

fn asked_at(mut host: Real) -> Real {
    host.has_ready = true;
    host
}

fn answer(is_ready: bool, line: &str) -> Answer {
    Answer { is_ready, line: line.to_owned(), tens: None }
}

fn told(is_ready: bool, line: &str) -> Readiness {
    Readiness {
        services: [(service("web"), answer(is_ready, line))].into(),
        host: answer(is_ready, "the host"),
        memory: String::new(),
    }
}

async fn flips_without_a_reload(host: &Real) {
    let _backends = backends(host, 0).await;
    let proxy = up(host, &["web"], "web blue a 1").await;
    let door = host.network().ready();
    let load = Load::start(host.network().door(), 20);
    assert_eq!(get(door, "/ready").await.0, NOT, "nobody has said anything yet");
    for turn in 0..TOLD {
        let is_ready = turn % 2 == 0;
        let line = format!("web, turn {turn}");
        proxy.tell_ready(&told(is_ready, &line)).await.unwrap();
        let status = if is_ready { OK } else { NOT };
        assert_eq!(get(door, "/ready/web").await, (status, format!("{line}\n")));
        assert_eq!(get(door, "/ready").await, (status, "the host\n".to_owned()));
    }
    assert_eq!(get(door, "/ready/api").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(door, "/web.no").await.0, StatusCode::NOT_FOUND);
    assert_eq!(load.stop().await, load::Result { failed: 0, closed: 0, wrong: 0 });
}

#[tokio::test]
async fn forty_changes_of_readiness_reload_nothing_on_a_private_nginx() {
    flips_without_a_reload(&asked_at(Real::private())).await;
}

#[tokio::test]
async fn forty_changes_of_readiness_reload_nothing_on_the_distributions_nginx() {
    let frozen = "open_file_cache max=1000; open_file_cache_valid 1h; open_file_cache_errors on; disable_symlinks on;";
    flips_without_a_reload(&asked_at(Real::systemd_with(frozen, "include conf.d/*.conf;"))).await;
}

#[tokio::test]
async fn where_the_switch_cannot_be_read_nobody_is_ready() {
    let host = asked_at(Real::systemd());
    let proxy = up(&host, &["web"], "web blue a 1").await;
    let door = host.network().ready();
    let yes = told(true, "ready: web");
    proxy.tell_ready(&yes).await.unwrap();
    assert_eq!(get(door, "/ready").await.0, OK);
    let current =
        host.state_dir().join("switch").join(std::fs::read_link(host.state_dir().join("switch/current")).unwrap());
    std::fs::rename(&current, current.with_extension("away")).unwrap();
    assert_eq!((get(door, "/ready").await.0, get(door, "/ready/web").await.0), (NOT, NOT));
    std::fs::rename(current.with_extension("away"), &current).unwrap();
    assert_eq!(get(door, "/ready").await.0, OK);

    // nginx's workers run as somebody else where the master is root.
    let is_root = rustix::process::getuid().is_root();
    if is_root {
        set_permissions(host.state_dir().join("switch"), Permissions::from_mode(0o700)).unwrap();
        assert_eq!((get(door, "/ready").await.0, get(door, "/ready/web").await.0), (NOT, NOT));
        set_permissions(host.state_dir().join("switch"), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(get(door, "/ready").await.0, OK);
    }

    host.lose_switch();
    assert_eq!((get(door, "/ready").await.0, get(door, "/ready/web").await.0), (NOT, NOT));
    proxy.restore(&flags("web blue a 1")).await.unwrap();
    assert_eq!(get(door, "/ready").await.0, NOT, "what was told is lost as well");
    proxy.tell_ready(&yes).await.unwrap();
    assert_eq!(get(door, "/ready").await.0, OK);
}

#[tokio::test]
async fn an_answer_for_a_time_runs_out_by_itself() {
    let host = asked_at(Real::private());
    let proxy = up(&host, &["web"], "web blue a 1").await;
    let door = host.network().ready();
    let ten = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 10;
    let timed = |tens| Readiness {
        services: [(service("web"), Answer { tens: Some(tens), ..answer(true, "ready: web") })].into(),
        ..told(true, "")
    };
    proxy.tell_ready(&timed(ten..=ten + 3)).await.unwrap();
    assert_eq!(get(door, "/ready/web").await, (OK, "ready: web\n".to_owned()));
    proxy.tell_ready(&timed(ten - 4..=ten - 1)).await.unwrap();
    let (status, body) = get(door, "/ready/web").await;
    assert!(status == NOT && body.contains("the agent has not been heard of"), "{status} {body}");
}

#[tokio::test]
async fn a_service_at_the_door_of_the_load_balancers_is_refused() {
    let host = asked_at(Real::private());
    let mut shape = host.network().shape(&["web"]);
    shape.services.values_mut().for_each(|web| web.routes[0].port = host.network().ready().port());
    let error = host.proxy().reshape(&shape).await.unwrap_err();
    let said = error.to_string();
    assert!(
        matches!(error, ProxyError::Refused { .. }) && said.contains("web listens on") && said.contains("agent.yaml"),
        "{said}"
    );
}

//! A private nginx's life: whose processes are whose, and what a crash leaves.

use super::super::trial::host::{Host, Real};
use super::super::trial::{eventually, flags, service};
use super::super::{Proxy, ProxyError};
use super::*;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

async fn up(host: &Real) -> std::sync::Arc<dyn Proxy> {
    let proxy = host.proxy();
    proxy.reshape(&host.network().shape(&["web"])).await.unwrap();
    proxy.switch(&flags("web blue a 1")).await.unwrap();
    proxy
}

/// A process of somebody else's, which must live.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_pid_file_that_names_somebody_else_harms_nobody() {
    let host = Real::private();
    let proxy = up(&host).await;
    let mut bystander = Bystander::start();
    let pid_file = host.identity().pid_file;
    // With nginx running: it is found all the same.
    std::fs::write(&pid_file, format!("{}\n", bystander.0.id())).unwrap();
    proxy.reshape(&host.network().shape(&["web", "api"])).await.unwrap();
    assert_eq!(host.identity().all(Role::Master).len(), 1);
    // With nginx gone: it is started anew.
    host.kill_nginx();
    std::fs::write(&pid_file, format!("{}\n", bystander.0.id())).unwrap();
    proxy.ensure_running().await.unwrap();
    assert_eq!(proxy.observe().await, Ok(flags("api none - 0, web blue a 1")));
    std::fs::write(&pid_file, format!("{}\n", bystander.0.id())).unwrap();
    proxy.stop().await.unwrap();
    assert!(bystander.lives());
}

#[tokio::test]
async fn another_nginx_is_not_ours_whatever_the_pid_file_says() {
    let (ours, other) = (Real::private(), Real::private());
    let (proxy, other_proxy) = (up(&ours).await, up(&other).await);
    ours.kill_nginx();
    let pid = other.identity().master().unwrap().pid();
    std::fs::write(ours.identity().pid_file, format!("{pid}\n")).unwrap();
    assert!(ours.identity().master().is_none());
    proxy.ensure_running().await.unwrap();
    proxy.stop().await.unwrap();
    assert_eq!(other_proxy.observe().await, Ok(flags("web blue a 1")));
}

#[tokio::test]
async fn workers_whose_master_was_killed_make_way_for_a_new_one() {
    let host = Real::private();
    let proxy = up(&host).await;
    let before = host.identity().master().unwrap().pid();
    host.signal(Role::Master, Signal::KILL);
    eventually("the master is gone", async || host.identity().all(Role::Master).is_empty()).await;
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")), "its worker serves on");
    proxy.ensure_running().await.unwrap();
    assert_ne!(host.identity().master().unwrap().pid(), before);
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
    proxy.reshape(&host.network().shape(&["web", "api"])).await.unwrap();
}

#[tokio::test]
async fn nginx_is_nobodys_child_and_outlives_the_agent() {
    let host = Real::private();
    up(&host).await;
    let pid = host.identity().master().unwrap().pid();
    let [parent, session] = parent_and_session(&pid.to_string());
    assert_ne!(parent, std::process::id().to_string());
    let [_, ours] = parent_and_session("self");
    assert_ne!(session, ours, "a signal to the agent's group must not reach it");
}

/// As the kernel prints them: a session whose leader is outside this PID namespace is 0, which getsid(2)'s
/// wrapper refuses.
fn parent_and_session(process: &str) -> [String; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    [fields[1].to_owned(), fields[3].to_owned()]
}

#[tokio::test]
async fn stopping_leaves_no_process_and_no_socket_and_may_be_repeated() {
    let host = Real::private();
    let proxy = up(&host).await;
    for _ in 0..2 {
        proxy.stop().await.unwrap();
        assert!(Role::ALL.iter().all(|role| host.identity().all(*role).is_empty()));
        assert!(!socket(&host.state_dir()).exists());
    }
    proxy.ensure_running().await.unwrap();
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
}

#[tokio::test]
async fn a_port_that_is_taken_at_the_start_is_named() {
    let host = Real::private();
    let proxy = up(&host).await;
    proxy.stop().await.unwrap();
    let held = std::net::TcpListener::bind(host.network().door()).unwrap();
    let error = proxy.ensure_running().await.unwrap_err();
    assert!(matches!(error, ProxyError::NotAnswering { .. }), "{error}");
    let door = host.network().door();
    assert!(error.to_string().contains(&format!("bind() to {door} failed")), "{error}");
    drop(held);
    proxy.ensure_running().await.unwrap();
}

#[tokio::test]
async fn a_config_that_keeps_nginx_from_starting_is_replaced_by_a_good_one() {
    let host = Real::private();
    let proxy = up(&host).await;
    proxy.stop().await.unwrap();
    std::fs::write(host.installed(), "broken by hand;").unwrap();
    let error = proxy.ensure_running().await.unwrap_err().to_string();
    assert!(error.contains("it does not start") && error.contains("broken"), "{error}");
    proxy.reshape(&host.network().shape(&["web"])).await.unwrap();
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let mut host = Real::private();
    host.config.binary = "/nowhere/nginx".into();
    let error = host.proxy().ensure_running().await.unwrap_err().to_string();
    assert!(error.contains("cannot run /nowhere/nginx"), "{error}");
}

#[tokio::test]
async fn a_log_that_grew_is_put_aside_and_written_anew() {
    let host = Real::private();
    let proxy = up(&host).await;
    let log = host.state_dir().join("nginx/error.log");
    std::fs::File::options().write(true).open(&log).unwrap().set_len(ERROR_LOG_BYTES_MAX + 1).unwrap();
    proxy.ensure_running().await.unwrap();
    assert!(log.with_extension("log.1").exists());
    eventually("the log is open again", async || log.exists()).await;
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
}

#[tokio::test]
async fn names_as_long_as_they_may_be_are_served() {
    let host = Real::private();
    let proxy = host.proxy();
    let name = "s".repeat(63);
    let mut shape = host.network().shape(&[&name]);
    let label = "l".repeat(62);
    shape.services.values_mut().for_each(|it| it.routes[0].server_names = vec![[&*label; 4].join(".")]);
    proxy.reshape(&shape).await.unwrap();
    proxy.switch(&flags(&format!("{name} green b 1"))).await.unwrap();
    assert!(proxy.observe().await.unwrap().services.contains_key(&service(&name)));
}

#[tokio::test]
async fn a_state_directory_with_a_blank_and_behind_a_symlink_is_fine() {
    let host = Real::private();
    std::fs::create_dir_all(host.path("real dir/state")).unwrap();
    symlink(host.path("real dir/state"), host.state_dir()).unwrap();
    let proxy = up(&host).await;
    host.kill_nginx();
    proxy.ensure_running().await.unwrap();
    assert_eq!(host.identity().all(Role::Master).len(), 1);
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
}

//! Side by side with an operator's own config.

use super::super::trial::flags;
use super::super::trial::host::{Host, Real};
use super::super::{Proxy, ProxyError, Reshaped};
use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

async fn up(host: &Real) -> Arc<dyn Proxy> {
    let proxy = host.proxy();
    proxy.reshape(&host.network().shape(&["web"])).await.unwrap();
    proxy.switch(&flags("web blue a 1")).await.unwrap();
    proxy
}

#[tokio::test]
async fn a_fault_in_the_operators_own_files_is_quoted_and_nothing_is_touched() {
    let host = Real::systemd();
    let proxy = up(&host).await;
    let before = fs::read_to_string(host.installed()).unwrap();
    fs::write(host.path("conf.d/other.conf"), "server { listne 80; }\n").unwrap();
    let error = proxy.reshape(&host.network().shape(&["web", "api"])).await.unwrap_err();
    assert!(matches!(error, ProxyError::Invalid { .. }), "{error}");
    assert!(error.to_string().contains("\"listne\" in") && error.to_string().contains("other.conf:1"), "{error}");
    assert_eq!(fs::read_to_string(host.installed()).unwrap(), before);
    assert!(matches!(proxy.validate().await, Err(ProxyError::Invalid { .. })));
    assert_eq!(proxy.on_disk().await, Ok(Some(flags("web blue a 1"))));
    proxy.switch(&flags("web green b 2")).await.unwrap();
    fs::remove_file(host.path("conf.d/other.conf")).unwrap();
    assert_eq!(proxy.reshape(&host.network().shape(&["web"])).await, Ok(Reshaped::Unchanged));
}

#[tokio::test]
async fn nothing_is_left_when_the_first_shape_is_refused() {
    let host = Real::systemd();
    fs::write(host.path("conf.d/other.conf"), "server { listne 80; }\n").unwrap();
    host.proxy().reshape(&host.network().shape(&["web"])).await.unwrap_err();
    assert!(!host.installed().exists());
    let left: Vec<_> = fs::read_dir(host.path("conf.d")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["other.conf"]);
}

#[tokio::test]
async fn a_config_that_does_not_include_ours_is_explained() {
    let host = Real::systemd_with("", "");
    let error = host.proxy().reshape(&host.network().shape(&["web"])).await.unwrap_err().to_string();
    let dir = host.path("conf.d");
    assert!(error.contains(&format!("write `include {}/*.conf;` into http {{}}", dir.display())), "{error}");
    assert!(!host.installed().exists());
}

#[tokio::test]
async fn an_include_of_everything_never_meets_our_half_written_file() {
    let host = Real::systemd_with("", "include conf.d/*;");
    let proxy = up(&host).await;
    proxy.reshape(&host.network().shape(&["web", "api"])).await.unwrap();
    assert_eq!(proxy.observe().await, Ok(flags("api none - 0, web blue a 1")));
}

#[tokio::test]
async fn a_default_site_in_the_way_is_explained() {
    let host = Real::systemd();
    let door = host.network().door();
    fs::write(host.path("conf.d/default.conf"), format!("server {{ listen {door} default_server; }}\n")).unwrap();
    let error = host.proxy().reshape(&host.network().shape(&["web"])).await.unwrap_err().to_string();
    assert!(error.contains("duplicate default server") && error.contains("give the service a server_name"), "{error}");
}

#[tokio::test]
async fn an_nginx_that_is_down_is_said_to_be_and_not_started() {
    let host = Real::systemd();
    let proxy = up(&host).await;
    host.kill_nginx();
    let error = proxy.ensure_running().await.unwrap_err();
    assert!(matches!(error, ProxyError::NotAnswering { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("nginx.service is inactive") && said.contains("systemctl start nginx"), "{said}");
    assert!(host.identity().master().is_none());
}

#[tokio::test]
async fn a_socket_of_a_killed_nginx_does_not_keep_the_next_from_starting() {
    let host = Real::systemd();
    let proxy = up(&host).await;
    host.kill_nginx();
    assert!(host.config.control_socket.exists(), "a killed nginx leaves its socket");
    // What the agent does at its start, which systemd orders before nginx's.
    host.proxy().restore(&flags("web blue a 1")).await.unwrap();
    assert!(!host.config.control_socket.exists());
    host.start_nginx();
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
}

#[tokio::test]
async fn a_socket_that_somebody_listens_on_is_left_alone() {
    let host = Real::systemd();
    let _listener = UnixListener::bind(&host.config.control_socket).unwrap();
    host.proxy().restore(&flags("web blue a 1")).await.unwrap();
    assert!(host.config.control_socket.exists());
}

#[tokio::test]
async fn a_candidate_that_a_crash_left_in_place_is_taken_out() {
    let host = Real::systemd();
    let proxy = up(&host).await;
    let good = fs::read_to_string(host.installed()).unwrap();
    // As `kill -9` of the agent during `nginx -t` leaves it.
    fs::write(host.state_dir().join("nginx-set-aside.conf"), &good).unwrap();
    fs::write(host.installed(), "half tested").unwrap();
    host.proxy().restore(&flags("web blue a 1")).await.unwrap();
    assert_eq!(fs::read_to_string(host.installed()).unwrap(), good);
    assert!(!host.state_dir().join("nginx-set-aside.conf").exists());
    assert_eq!(proxy.validate().await, Ok(()));
}

#[tokio::test]
async fn stopping_takes_our_file_out_and_leaves_nginx_running() {
    let host = Real::systemd();
    let proxy = up(&host).await;
    for _ in 0..2 {
        proxy.stop().await.unwrap();
        assert!(!host.installed().exists());
        assert!(host.identity().master().is_some());
    }
    assert!(proxy.switch(&flags("web green b 2")).await.is_err());
}

#[tokio::test]
async fn workers_that_may_not_enter_the_switch_refuse_the_shape() {
    assert!(rustix::process::geteuid().is_root(), "this test needs workers of another user: run it as root");
    let host = Real::systemd();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(host.path(""), fs::Permissions::from_mode(0o700)).unwrap();
    let error = host.proxy().reshape(&host.network().shape(&["web"])).await.unwrap_err().to_string();
    assert!(error.contains("may it enter"), "{error}");
    assert!(!host.installed().exists());
}

//! What users see through a real nginx.

mod ready;

use super::super::trial::backend::{Backend, header};
use super::super::trial::client::{Client, post};
use super::super::trial::host::{Host, Real};
use super::super::trial::load::{self, Load, active};
use super::super::trial::{eventually, flags};
use super::super::{Proxy, ProxyError, Reshaped};
use crate::berth::Berth;
use http::StatusCode;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

const SWITCHES: usize = 40;
const CONNECTIONS: usize = 50;

async fn backends(host: &Real, service: u8) -> [Backend; 3] {
    let start = |berth: Berth| Backend::start(host.network().place(service, berth), berth.as_str());
    [start(Berth::A).await, start(Berth::B).await, start(Berth::C).await]
}

async fn up(host: &Real, services: &[&str], to: &str) -> Arc<dyn Proxy> {
    let proxy = host.proxy();
    proxy.reshape(&host.network().shape(services)).await.unwrap();
    proxy.switch(&flags(to)).await.unwrap();
    proxy
}

async fn served(host: &Real) -> (StatusCode, String) {
    post(host.network().door(), "users.example").await
}

fn ok(name: &str) -> (StatusCode, String) {
    (StatusCode::OK, name.to_owned())
}

async fn switch_under_load(host: &Real) {
    let _backends = backends(host, 0).await;
    let proxy = up(host, &["web"], "web blue a 1").await;
    let load = Load::start(host.network().door(), CONNECTIONS);
    for turn in 1..=SWITCHES {
        let seen = load.requests();
        eventually("users are answered between two switches", async || load.requests() >= seen + 2 * CONNECTIONS).await;
        let to = flags(&format!("web {} {} {turn}", if turn % 2 == 1 { "green" } else { "blue" }, active(turn)));
        proxy.stage(&to).await.unwrap();
        load.turn();
        proxy.switch(&to).await.unwrap();
        load.turn();
    }
    assert_eq!(load.stop().await, load::Result { failed: 0, closed: 0, wrong: 0 });
}

#[tokio::test]
async fn forty_switches_under_load_lose_nothing_on_a_private_nginx() {
    switch_under_load(&Real::private()).await;
}

#[tokio::test]
async fn forty_switches_under_load_lose_nothing_on_the_distributions_nginx() {
    // With connections that nginx ends often, and says so: a client that listens loses nothing by it.
    switch_under_load(&Real::systemd_with("keepalive_requests 100;", "include conf.d/*.conf;")).await;
}

#[tokio::test]
async fn a_cache_and_a_symlink_ban_of_the_operators_do_not_freeze_the_switch() {
    let host = Real::systemd_with(
        "open_file_cache max=1000; open_file_cache_valid 1h; open_file_cache_errors on; disable_symlinks on;",
        "include conf.d/*.conf;",
    );
    let _backends = backends(&host, 0).await;
    let proxy = up(&host, &["web"], "web blue a 1").await;
    for (to, berth) in [("web blue a 1", "a"), ("web green b 2", "b"), ("web blue c 3", "c"), ("web green a 4", "a")] {
        proxy.switch(&flags(to)).await.unwrap();
        // As often as there are workers, and more: each has its own cache.
        for _ in 0..8 {
            assert_eq!(served(&host).await, ok(berth));
        }
    }
}

#[tokio::test]
async fn a_service_without_a_release_answers_503() {
    let host = Real::private();
    up(&host, &["web"], "web none - 0").await;
    assert_eq!(served(&host).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn with_the_switch_deleted_or_closed_the_active_berth_answers() {
    for host in [Real::private(), Real::systemd_with("", "include conf.d/*.conf;")] {
        let _backends = backends(&host, 0).await;
        let proxy = up(&host, &["web"], "web blue a 1").await;
        for (to, berth) in [("web green b 2", "b"), ("web blue c 3", "c"), ("web green a 4", "a")] {
            proxy.switch(&flags(to)).await.unwrap();
            let spare = host.state_dir().join("spare").join(format!("web.{berth}"));
            eventually("the spare", async || spare.exists()).await;
            let switch = host.state_dir().join("switch");
            std::fs::set_permissions(&switch, Permissions::from_mode(0o000)).unwrap();
            assert_eq!(served(&host).await, ok(berth), "closed");
            host.lose_switch();
            assert_eq!(served(&host).await, ok(berth), "deleted");
            proxy.restore(&flags(to)).await.unwrap();
            assert_eq!(served(&host).await, ok(berth), "restored");
        }
    }
}

#[tokio::test]
async fn with_the_switch_and_its_spare_deleted_whichever_berth_lives_answers() {
    let host = Real::private();
    let [a, b, c] = backends(&host, 0).await;
    let proxy = up(&host, &["web"], "web green b 1").await;
    host.lose_switch();
    std::fs::remove_dir_all(host.state_dir().join("spare")).unwrap();
    assert_eq!(served(&host).await, ok("a"));
    a.kill().await;
    b.kill().await;
    for _ in 0..20 {
        assert_eq!(served(&host).await, ok("c"));
    }
    let said = proxy.switch(&flags("web green c 2")).await;
    assert!(said.is_ok(), "{said:?}");
    assert_eq!(served(&host).await, ok("c"));
    drop(c);
}

#[tokio::test]
async fn the_first_flag_that_is_found_ends_the_lookup() {
    let host = Real::private();
    let _backends = backends(&host, 0).await;
    up(&host, &["web"], "web none - 0").await;
    let current = host.state_dir().join("switch/current");
    // Never so by the agent's hand: each flag more stands before those that were found so far.
    for (flag, berth) in [("web.c", "c"), ("web.b", "b"), ("web.a", "a")] {
        std::fs::write(current.join(flag), "").unwrap();
        assert_eq!(served(&host).await, ok(berth));
    }
}

#[tokio::test]
async fn a_container_that_was_replaced_at_its_address_gets_the_next_post() {
    let host = Real::private();
    let [a, _b, _c] = backends(&host, 0).await;
    let proxy = up(&host, &["web"], "web blue a 1").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(host.network().door()).await.unwrap();
        assert_eq!(client.post(&[("host", "a")]).await.unwrap().0, StatusCode::OK);
        clients.push(client);
    }
    // Away from a, and back to a new one there at once: nginx still held connections to the one before.
    proxy.switch(&flags("web green b 2")).await.unwrap();
    a.kill().await;
    let _a = Backend::start(host.network().place(0, Berth::A), "new").await;
    proxy.switch(&flags("web blue a 3")).await.unwrap();
    for client in &mut clients {
        let (status, body) = client.post(&[("host", "a")]).await.unwrap();
        assert_eq!((status, body.lines().next()), (StatusCode::OK, Some("new")));
    }
}

#[tokio::test]
async fn connections_to_a_container_are_kept() {
    let host = Real::private();
    let [a, ..] = &backends(&host, 0).await;
    up(&host, &["web"], "web blue a 1").await;
    let mut client = Client::connect(host.network().door()).await.unwrap();
    for _ in 0..50 {
        assert_eq!(client.post(&[("host", "a")]).await.unwrap().0, StatusCode::OK);
    }
    assert_eq!(a.connections(), 1);
}

#[tokio::test]
async fn an_app_is_told_who_asked_and_how() {
    let host = Real::private();
    let _backends = backends(&host, 0).await;
    up(&host, &["web"], "web blue a 1").await;
    let mut client = Client::connect(host.network().door()).await.unwrap();
    let (_, plain) = client.post(&[("host", "shop.example:8081"), ("x-forwarded-for", "192.0.2.7")]).await.unwrap();
    assert!(plain.contains("POST /some/path?with=query HTTP/1.1"), "{plain}");
    assert_eq!(header(&plain, "host"), Some("shop.example:8081"));
    assert_eq!(header(&plain, "x-forwarded-host"), Some("shop.example:8081"));
    assert_eq!(header(&plain, "x-forwarded-for"), Some("192.0.2.7, 127.0.0.1"));
    assert_eq!(header(&plain, "x-real-ip"), Some("127.0.0.1"));
    assert_eq!(header(&plain, "x-forwarded-proto"), Some("http"));
    assert_eq!((header(&plain, "connection"), header(&plain, "upgrade")), (None, None));

    let secure = [("host", "a"), ("x-forwarded-proto", "https")];
    let (_, secure) = client.post(&secure).await.unwrap();
    assert_eq!(header(&secure, "x-forwarded-proto"), Some("https"));
    let odd = [("host", "a"), ("x-forwarded-proto", "gopher"), ("upgrade", "h2c"), ("connection", "upgrade")];
    let (_, odd) = client.post(&odd).await.unwrap();
    assert_eq!(header(&odd, "x-forwarded-proto"), Some("http"));
    assert_eq!((header(&odd, "connection"), header(&odd, "upgrade")), (None, None));
    let socket = [("host", "a"), ("upgrade", "WebSocket"), ("connection", "Upgrade")];
    let (_, socket) = client.post(&socket).await.unwrap();
    assert_eq!((header(&socket, "connection"), header(&socket, "upgrade")), (Some("upgrade"), Some("websocket")));
}

#[tokio::test]
async fn services_on_one_port_are_told_apart_by_name() {
    let host = Real::private();
    let _web = Backend::start(host.network().place(0, Berth::A), "web").await;
    let _api = Backend::start(host.network().place(1, Berth::B), "api").await;
    up(&host, &["web", "api"], "api green b 1, web blue a 1").await;
    let door = host.network().door();
    assert_eq!(post(door, "api.example").await, ok("api"));
    assert_eq!(post(door, "anything.example").await, ok("web"));
}

async fn a_taken_port_is_named(host: &Real, in_words_of: &str) {
    let _backends = backends(host, 0).await;
    let proxy = up(host, &["web"], "web blue a 1").await;
    let before = std::fs::read_to_string(host.installed()).unwrap();
    let mut client = Client::connect(host.network().door()).await.unwrap();
    let mut shape = host.network().shape(&["web"]);
    let mut taken = host.network().door();
    taken.set_port(taken.port() + 1);
    let _held = std::net::TcpListener::bind(taken).unwrap();
    shape.services.values_mut().for_each(|web| web.routes[0].port = taken.port());

    let error = proxy.reshape(&shape).await.unwrap_err();
    assert!(matches!(error, ProxyError::NotReloaded { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(in_words_of) && said.contains(&format!("bind() to {taken} failed")), "{said}");
    assert_eq!(std::fs::read_to_string(host.installed()).unwrap(), before);
    assert_eq!(client.post(&[("host", "a")]).await.unwrap().0, StatusCode::OK, "the user's connection is still there");
    assert_eq!(proxy.reshape(&host.network().shape(&["web"])).await, Ok(Reshaped::Unchanged));
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
}

#[tokio::test]
async fn a_port_that_is_taken_leaves_the_private_nginx_as_it_was() {
    a_taken_port_is_named(&Real::private(), "error.log").await;
}

#[tokio::test]
async fn a_port_that_is_taken_leaves_the_distributions_nginx_as_it_was() {
    a_taken_port_is_named(&Real::systemd(), "error.log").await;
}

async fn a_change_by_hand_is_undone_by_the_next_reshape(host: &Real) {
    let proxy = up(host, &["web"], "web blue a 1").await;
    let rendered = std::fs::read_to_string(host.installed()).unwrap();
    std::fs::write(host.installed(), rendered.replace("proxy_connect_timeout 2s", "proxy_connect_timeout 9s")).unwrap();
    assert_eq!(proxy.reshape(&host.network().shape(&["web"])).await, Ok(Reshaped::Reloaded));
    assert_eq!(std::fs::read_to_string(host.installed()).unwrap(), rendered);

    std::fs::write(host.installed(), "broken by hand;").unwrap();
    let invalid = proxy.validate().await.unwrap_err();
    assert!(matches!(invalid, ProxyError::Invalid { .. }) && invalid.to_string().contains("broken"), "{invalid}");
    // It never came into force: nobody's connection is closed for it.
    assert_eq!(proxy.reshape(&host.network().shape(&["web"])).await, Ok(Reshaped::Unchanged));
    assert_eq!(std::fs::read_to_string(host.installed()).unwrap(), rendered);
    assert_eq!(proxy.validate().await, Ok(()));
    assert_eq!(proxy.observe().await, Ok(flags("web blue a 1")));
}

#[tokio::test]
async fn a_change_by_hand_on_a_private_nginx_is_undone() {
    a_change_by_hand_is_undone_by_the_next_reshape(&Real::private()).await;
}

#[tokio::test]
async fn a_change_by_hand_on_the_distributions_nginx_is_undone() {
    a_change_by_hand_is_undone_by_the_next_reshape(&Real::systemd()).await;
}

#[tokio::test]
async fn a_switch_that_nginx_cannot_be_seen_to_follow_is_an_error_and_was_made() {
    let host = Real::private();
    let proxy = up(&host, &["web"], "web blue a 1").await;
    host.kill_nginx();
    let error = proxy.switch(&flags("web green b 2")).await.unwrap_err();
    assert!(matches!(error, ProxyError::NotAnswering { .. }), "{error}");
    assert_eq!(proxy.on_disk().await, Ok(Some(flags("web green b 2"))));
    proxy.ensure_running().await.unwrap();
    assert_eq!(proxy.switch(&flags("web green b 2")).await.unwrap().renamed_at, None);
}

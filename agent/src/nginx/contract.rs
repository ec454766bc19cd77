//! What every nginx must do, the fake one included. Each clause runs on each kind.

use super::trial::flags;
use super::trial::host::{Fake, Host, Real};
use super::trial::service;
use super::{Answer, Flags, Proxy, ProxyError, Readiness, Reshaped};

macro_rules! contract {
    ($($clause:ident,)*) => {
        mod fake {
            use super::*;
            $(#[tokio::test] async fn $clause() { super::$clause(&Fake::new()).await })*
        }
        mod private {
            use super::*;
            $(#[tokio::test] async fn $clause() { super::$clause(&Real::private()).await })*
        }
        mod systemd {
            use super::*;
            $(#[tokio::test] async fn $clause() { super::$clause(&Real::systemd()).await })*
        }
    };
}

contract! {
    a_fresh_host_knows_no_switch,
    a_shape_is_loaded_once,
    a_new_service_answers_nobody_until_it_is_switched,
    the_switch_is_followed_and_made_once,
    two_services_turn_together,
    flags_and_shape_must_name_the_same_services,
    a_contradiction_between_services_changes_nothing,
    what_was_staged_may_be_passed_over,
    an_agent_that_starts_anew_finds_everything,
    a_restored_switch_is_there_before_the_shape,
    nginx_that_died_comes_back_with_the_same_switch,
    a_lost_switch_is_said_and_not_invented,
    a_service_that_leaves_takes_its_flag_along,
    what_load_balancers_are_told_is_found_by_the_next_agent,
}

async fn up(host: &dyn Host, names: &[&str]) -> std::sync::Arc<dyn Proxy> {
    let proxy = host.proxy();
    assert_eq!(proxy.reshape(&host.network().shape(names)).await, Ok(Reshaped::Reloaded));
    proxy
}

async fn assert_says(proxy: &dyn Proxy, expected: &str) {
    assert_eq!(proxy.observe().await, Ok(flags(expected)));
    assert_eq!(proxy.on_disk().await, Ok(Some(flags(expected))));
}

async fn a_fresh_host_knows_no_switch(host: &dyn Host) {
    let proxy = host.proxy();
    assert_eq!(proxy.on_disk().await, Ok(None));
    assert!(matches!(proxy.observe().await, Err(ProxyError::NotAnswering { .. })));
    let early = proxy.switch(&flags("web blue a 1")).await;
    assert!(matches!(early, Err(ProxyError::Refused { .. })), "{early:?}");
    assert_eq!(proxy.on_disk().await, Ok(None));
    assert!(proxy.version().await.unwrap().split('.').count() >= 3);
}

async fn a_shape_is_loaded_once(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    let shape = host.network().shape(&["web"]);
    assert_eq!(proxy.reshape(&shape).await, Ok(Reshaped::Unchanged));
    assert_eq!(host.proxy().reshape(&shape).await, Ok(Reshaped::Unchanged));
    assert_eq!(proxy.reshape(&host.network().shape(&["web", "api"])).await, Ok(Reshaped::Reloaded));
    assert_eq!(proxy.validate().await, Ok(()));
}

async fn a_new_service_answers_nobody_until_it_is_switched(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    assert_says(&*proxy, "web none - 0").await;
    proxy.switch(&flags("web green b 4")).await.unwrap();
    proxy.reshape(&host.network().shape(&["web", "api"])).await.unwrap();
    assert_says(&*proxy, "api none - 0, web green b 4").await;
}

async fn the_switch_is_followed_and_made_once(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    for to in ["web blue a 7", "web green c 9", "web green c 11", "web green b 11", "web none - 0", "web blue a 12"] {
        proxy.stage(&flags(to)).await.unwrap();
        assert!(proxy.switch(&flags(to)).await.unwrap().renamed_at.is_some(), "{to}");
        assert_says(&*proxy, to).await;
        assert_eq!(proxy.switch(&flags(to)).await.unwrap().renamed_at, None, "{to} again");
        assert_says(&*proxy, to).await;
    }
}

async fn two_services_turn_together(host: &dyn Host) {
    let proxy = up(host, &["web", "api-v2"]).await;
    for to in ["api-v2 blue a 3, web blue c 3", "api-v2 green b 5, web green a 5", "api-v2 blue c 8, web green a 5"] {
        proxy.switch(&flags(to)).await.unwrap();
        assert_says(&*proxy, to).await;
    }
}

async fn flags_and_shape_must_name_the_same_services(host: &dyn Host) {
    let proxy = up(host, &["web", "api"]).await;
    for (wrong, said) in [
        ("api blue a 1, db blue a 1, web blue a 1", "db: not in nginx's shape"),
        ("web blue a 1", "api: in nginx's shape and without a flag"),
        ("", "api, web: in nginx's shape and without a flag"),
    ] {
        for refused in [proxy.stage(&flags(wrong)).await, proxy.switch(&flags(wrong)).await.map(|_| ())] {
            let error = refused.unwrap_err();
            assert!(matches!(error, ProxyError::Refused { .. }) && error.to_string().contains(said), "{error}");
        }
    }
    assert_says(&*proxy, "api none - 0, web none - 0").await;
}

async fn a_contradiction_between_services_changes_nothing(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    proxy.switch(&flags("web blue a 3")).await.unwrap();
    let mut shape = host.network().shape(&["web", "api"]);
    for shape in shape.services.values_mut() {
        shape.routes[0].server_names = vec!["same.example".to_owned()];
    }
    let error = proxy.reshape(&shape).await.unwrap_err();
    assert!(matches!(error, ProxyError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("same.example belongs to api and to web"), "{error}");
    assert_says(&*proxy, "web blue a 3").await;
    assert_eq!(proxy.validate().await, Ok(()));
    assert_eq!(proxy.reshape(&host.network().shape(&["web"])).await, Ok(Reshaped::Unchanged));
}

async fn what_was_staged_may_be_passed_over(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    proxy.stage(&flags("web blue a 3")).await.unwrap();
    proxy.stage(&flags("web blue a 3")).await.unwrap();
    assert_says(&*proxy, "web none - 0").await;
    proxy.switch(&flags("web green b 5")).await.unwrap();
    assert_says(&*proxy, "web green b 5").await;
    proxy.switch(&flags("web blue a 3")).await.unwrap();
    assert_says(&*proxy, "web blue a 3").await;
}

async fn an_agent_that_starts_anew_finds_everything(host: &dyn Host) {
    up(host, &["web"]).await.switch(&flags("web green b 5")).await.unwrap();
    let proxy = host.proxy();
    assert_says(&*proxy, "web green b 5").await;
    proxy.switch(&flags("web blue a 6")).await.unwrap();
    assert_says(&*host.proxy(), "web blue a 6").await;
}

async fn a_restored_switch_is_there_before_the_shape(host: &dyn Host) {
    let proxy = host.proxy();
    proxy.restore(&flags("web green b 5")).await.unwrap();
    proxy.restore(&flags("web green b 5")).await.unwrap();
    assert_eq!(proxy.on_disk().await, Ok(Some(flags("web green b 5"))));
    proxy.ensure_running().await.unwrap();
    proxy.ensure_running().await.unwrap();
    proxy.reshape(&host.network().shape(&["web"])).await.unwrap();
    assert_says(&*proxy, "web green b 5").await;
}

async fn nginx_that_died_comes_back_with_the_same_switch(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    proxy.switch(&flags("web green b 5")).await.unwrap();
    host.kill_nginx();
    assert!(matches!(proxy.observe().await, Err(ProxyError::NotAnswering { .. })));
    assert_eq!(proxy.on_disk().await, Ok(Some(flags("web green b 5"))));
    proxy.restore(&flags("web blue a 6")).await.unwrap();
    host.start_nginx();
    proxy.ensure_running().await.unwrap();
    assert_says(&*proxy, "web blue a 6").await;
}

async fn a_lost_switch_is_said_and_not_invented(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    proxy.switch(&flags("web green b 5")).await.unwrap();
    host.lose_switch();
    assert!(matches!(proxy.observe().await, Err(ProxyError::File { .. })));
    assert_eq!(proxy.on_disk().await, Ok(None));
    proxy.reshape(&host.network().shape(&["web", "api"])).await.unwrap();
    assert_eq!(proxy.on_disk().await, Ok(None));
    proxy.restore(&flags("api none - 0, web green b 5")).await.unwrap();
    assert_says(&*proxy, "api none - 0, web green b 5").await;
}

async fn a_service_that_leaves_takes_its_flag_along(host: &dyn Host) {
    let proxy = up(host, &["web", "api"]).await;
    proxy.switch(&flags("api green b 5, web green b 5")).await.unwrap();
    proxy.reshape(&host.network().shape(&["web"])).await.unwrap();
    assert_says(&*proxy, "web green b 5").await;
    proxy.reshape(&host.network().shape(&["web", "api"])).await.unwrap();
    assert_says(&*proxy, "api none - 0, web green b 5").await;
    proxy.reshape(&Default::default()).await.unwrap();
    assert_eq!(proxy.observe().await, Ok(Flags::default()));
    assert!(proxy.switch(&flags("web green b 5")).await.is_err());
}

async fn what_load_balancers_are_told_is_found_by_the_next_agent(host: &dyn Host) {
    let proxy = up(host, &["web"]).await;
    assert_eq!(proxy.told_ready().await, Ok(Readiness::default()));
    proxy.switch(&flags("web green b 5")).await.unwrap();
    let answer = |is_ready, line: &str| Answer { is_ready, line: line.to_owned(), tens: None };
    for told in [
        Readiness {
            services: [(service("web"), answer(true, "ready: web"))].into(),
            host: answer(true, "ready"),
            memory: "web 5".to_owned(),
        },
        Readiness { host: answer(false, "not ready: web"), ..Readiness::default() },
    ] {
        proxy.tell_ready(&told).await.unwrap();
        assert_eq!(host.proxy().told_ready().await, Ok(told));
    }
    host.lose_switch();
    assert_eq!(proxy.told_ready().await, Ok(Readiness::default()));
}

//! What fails while hosts make ready: one no is enough, nothing changes, and the message says where and why.

use super::docker::{self, Foreign};
use super::scene::{ABORTED, DONE, LIMIT, Scene, assert_says, hosts, result, text, told};
use bgctl_tests::load::{Load, LoadOptions, Method, Target};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const GOOD: &str = include_str!("../fixtures/web.yaml");

/// Two seconds to become healthy instead of ten.
fn impatient() -> String {
    let spec = GOOD.replace("start_period: 10s", "start_period: 2s, interval: 250ms");
    assert_ne!(spec, GOOD);
    spec
}

/// A deployment that fails with these words, on this host or on any; users see nothing of it, and the way back
/// is as near as before.
async fn fails(scene: &Scene, service: &str, version: &str, on: Option<usize>, words: &[&str]) {
    let before = scene.status().await.expect("a status");
    let ran = scene.expect(&["deploy", service, "--version", version], ABORTED, words).await;
    let history = scene.expect(&["history", service, "--limit", "1", "--json"], DONE, &[]).await;
    let answer = history.json().unwrap_or_else(|| panic!("{}", told(&history)));
    let deployment = &answer["deployments"][0];
    assert_eq!((&deployment["phase"], &deployment["version"]), (&"aborted".into(), &version.into()), "{deployment}");
    let reason = text(&deployment["reason"]);
    let named = (1..=3).find(|number| reason.contains(scene.host(*number)));
    assert!(named.is_some() && (on.is_none() || named == on), "the wrong host, or none, in: {reason}");
    assert_says(&ran, &[&reason]);
    let hosts = deployment["hosts"].as_array().unwrap_or_else(|| panic!("no hosts: {deployment}"));
    assert!(hosts.iter().any(|host| host["phase"] == "failed"), "no host is said to have failed: {deployment}");
    scene.at_rest().await;
    let kept = |status: &Value| {
        ["version", "generation", "rollback_version", "rollback_ready"].map(|what| status[what].clone())
    };
    // A host tells how it is once a second.
    let deadline = Instant::now() + LIMIT;
    loop {
        let after = scene.status().await.expect("a status");
        if kept(&after) == kept(&before) {
            return;
        }
        assert!(Instant::now() < deadline, "something changed: {before}, now {after}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_never_get_well_change_nothing() {
    let scene = Scene::with_users(hosts(3)).await;
    scene.deploy("v2").await;
    let spec = scene.spec("impatient.yaml", &impatient());
    scene.expect(&["apply", "-f", &spec], DONE, &[]).await;
    fails(&scene, "web", "crash", None, &["exited with code 1", "cannot start without a database"]).await;
    fails(&scene, "web", "broken", None, &["503", "demo-app broken listens on port 8080"]).await;
    // What failed is taken away again.
    for number in 1..=3 {
        docker::only(scene.host(number), &["v1", "v2"]).await;
    }
    scene.roll_back(&["rollback"], "v1").await;
    scene.deploy("v3").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_took_or_broke_on_one_host_changes_nothing_on_any() {
    let scene = Scene::with_users(hosts(3)).await;

    // The address of the standby colour on host 2 is somebody else's.
    let network = scene.fleet().hosts()[1].network.clone();
    let taken = scene.fleet().hosts()[1].subnet.replace(".0/24", ".3");
    let foreign = Foreign::at(&network, &taken);
    fails(&scene, "web", "v2", Some(2), &["Address already in use"]).await;
    drop(foreign);
    scene.deploy("v2").await;
    scene.deploy("v1").await;

    // nginx of host 3 would not survive a restart.
    let host = &scene.fleet().hosts()[2];
    let config = scene.fleet().plan().host_dir(host).join("state/nginx/nginx.conf");
    let good = fs::read_to_string(&config).expect("nginx's config");
    let spoiled = format!("{good}\nlisten_to_reason on;\n");
    fs::write(&config, &spoiled).expect("nginx's config");
    fails(&scene, "web", "v3", Some(3), &["unknown directive \"listen_to_reason\""]).await;
    fs::write(&config, &good).expect("nginx's config");
    scene.deploy("v3").await;
    // The way back waits for nobody: it goes on, and puts the file right without a reload.
    fs::write(&config, &spoiled).expect("nginx's config");
    scene.roll_back(&["rollback"], "v1").await;
    assert_eq!(fs::read_to_string(&config).expect("nginx's config"), good, "it was not put right");
    // So does an agent that starts over.
    fs::write(&config, &spoiled).expect("nginx's config");
    let before = scene.fleet().kill_agent(3).await.expect("it runs");
    scene.fleet().wait_restarted(&host.agent(), before, LIMIT).await.expect("a restart");
    scene.connected().await;
    assert_eq!(fs::read_to_string(&config).expect("nginx's config"), good, "it was not put right");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_on_one_host_keeps_a_new_service_off_all() {
    let scene = Scene::with_users(hosts(3)).await;
    let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("an address")).collect();
    scene
        .reconfigure(|number, config| {
            config.replace("listen: {", &format!("listen: {{\"81\": \"{}\", ", addresses[number - 1]))
        })
        .await;
    let shop = GOOD.replace("service: web", "service: shop").replace("listen: 80", "listen: 81");
    let path = scene.spec("shop.yaml", &shop);
    scene.expect(&["apply", "-f", &path], DONE, &["shop"]).await;

    // Hosts 1 and 3 could; host 2 cannot.
    let mut listeners = listeners.into_iter();
    drop(listeners.next());
    let taken = listeners.next().expect("three");
    drop(listeners.next());
    let words = [addresses[1].to_string(), "Address already in use".to_owned()];
    fails(&scene, "shop", "v1", Some(2), &[&words[0], &words[1]]).await;
    drop(taken);
    let ran = scene.expect(&["deploy", "shop", "--version", "v1", "--json"], DONE, &[]).await;
    assert_eq!(result(&ran)["hosts"].as_array().map(Vec::len), Some(3), "{}", told(&ran));
    let once = LoadOptions { connections: 1, method: Method::Get, ..LoadOptions::default() };
    let shop = Load::start(addresses.into_iter().map(Target::new).collect(), once).expect("good options");
    shop.warm(Duration::from_secs(10)).await.expect("the new service on every host");
    super::scene::assert_nothing_lost(&shop.stop().await);
    scene.deploy("v2").await;
    // A new service is a reload of nginx, and that closes idle connections: no more than once on each host.
    let mut scene = scene;
    let report = scene.users_leave().await;
    eprintln!("users of the old service while a new one came: {report}");
    assert!(report.targets.iter().all(|target| target.sequence() == "v1 → v2"), "{report}");
    scene.down().await;
}

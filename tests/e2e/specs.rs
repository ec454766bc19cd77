//! Specs with mistakes: each is refused with its file, line and column, and nothing changes.

use super::scene::{DONE, REFUSED, Scene, hosts};

const GOOD: &str = include_str!("../fixtures/web.yaml");

/// What is replaced by what, where the mistake is then, and what is said of it.
const MISTAKES: [(&str, &str, &str, &str); 6] = [
    ("prepare_timeout: 30s", "prepare_timout: 30s", ":14:1", "prepare_timout"),
    ("prepare_timeout: 30s", "prepare_timeout: 30 parsecs", ":14:18", "30s"),
    ("port: 8080", "port: eighty", ":7:11", "port"),
    ("listen: 80", "listen: 80000", ":11:", "65535"),
    ("service: web", "service: Web_1", ":2:10", "a-z"),
    ("http: /health", "http: \"/health;}\"", ":9:", "/health;}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_shown_where_they_are() {
    let scene = Scene::with_users(hosts(1)).await;
    for (right, wrong, place, said) in MISTAKES {
        let text = GOOD.replace(right, wrong);
        assert_ne!(text, GOOD, "{right:?} is not in the fixture");
        let path = scene.spec("mistake.yaml", &text);
        scene.expect(&["apply", "-f", &path], REFUSED, &[&format!("mistake.yaml{place}"), said]).await;
    }
    scene.expect(&["apply", "-f", "/does/not/exist.yaml"], REFUSED, &["/does/not/exist.yaml"]).await;
    let status = scene.status().await.expect("a status");
    assert_eq!(status["spec_revision"], 1, "a refused spec was recorded: {status}");
    let same = scene.fleet().plan().spec().to_string_lossy().into_owned();
    scene.expect(&["apply", "-f", &same], DONE, &[]).await;
    assert_eq!(scene.status().await.expect("a status")["spec_revision"], 1, "nothing changed, and yet a new revision");
    scene.deploy("v2").await;
    scene.end().await;
}

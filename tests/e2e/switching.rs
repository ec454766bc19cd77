//! What goes well: deployments and rollbacks under load, and what their results say.

use super::scene::{Scene, hosts, result};
use bgctl_tests::fleet::Ran;
use serde_json::Value;

enum Act {
    Deploy(&'static str),
    /// To this version.
    RollBack(&'static str),
}

use Act::{Deploy, RollBack};

/// Five deployments and five rollbacks; twice two rollbacks in a row, which go back two versions.
const ACTS: [Act; 10] = [
    Deploy("v2"),
    RollBack("v1"),
    Deploy("v2"),
    Deploy("v3"),
    RollBack("v2"),
    RollBack("v1"),
    Deploy("v3"),
    Deploy("v2"),
    RollBack("v3"),
    RollBack("v1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn ten_switches_lose_nothing_and_each_result_tells_all() {
    let scene = Scene::with_users(hosts(3)).await;
    let mut expected = vec!["v1"];
    for act in ACTS {
        let (ran, to) = match act {
            Deploy(to) => (scene.deploy(to).await, to),
            RollBack(to) => (scene.roll_back(&["rollback", "--json"], to).await, to),
        };
        let (kind, from) = (if matches!(act, Deploy(_)) { "deploy" } else { "rollback" }, expected[expected.len() - 1]);
        assert_tells_all(&ran, kind, from, to);
        expected.push(to);
    }
    assert_eq!(scene.committed().await, expected, "history");
    scene.end().await;
}

/// Every number a person or a program may want is there, and they fit together.
fn assert_tells_all(ran: &Ran, kind: &str, from: &str, to: &str) {
    let result = result(ran);
    let told = ["outcome", "kind", "from_version", "version", "service"].map(|name| result[name].as_str());
    assert_eq!(told, [Some("done"), Some(kind), Some(from), Some(to), Some("web")], "{result}");
    assert_eq!((&result["exit_code"], &result["attached"]), (&0.into(), &false.into()), "{result}");
    let micros = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{kind} {to}: a time is missing: {result}"));
    let [prepared, decided, applied] =
        ["prepared_micros", "decided_micros", "applied_micros"].map(|name| micros(&result[name]));
    assert!(prepared <= decided && decided <= applied, "{result}");
    let skew = micros(&result["skew_micros"]);
    assert!(skew <= applied - decided, "the skew is longer than all of the switching: {result}");
    let all = result["hosts"].as_array().unwrap_or_else(|| panic!("no hosts: {result}"));
    assert_eq!(all.len(), 3, "{result}");
    for host in all {
        assert_eq!(host["phase"], "switched", "{result}");
        let [voted, switched] = ["voted_micros", "switched_micros"].map(|name| micros(&host[name]));
        assert!(voted <= switched, "{result}");
        assert!(micros(&host["rename_micros"]) > 0 && micros(&host["proof_micros"]) > 0, "{result}");
        if kind == "deploy" {
            let [started, healthy] = ["started_micros", "healthy_micros"].map(|name| micros(&host[name]));
            assert!(started <= healthy && healthy <= voted, "a vote before the health check: {result}");
        }
    }
    eprintln!(
        "{kind} {from} → {to}: {:.0} ms from start to exit, skew {:.2} ms",
        ran.took.as_secs_f64() * 1000.0,
        skew as f64 / 1000.0
    );
}

//! A version that is healthy at the switch and dies after it: the watch takes the fleet back by itself.

use super::scene::{DONE, ROLLED_BACK, Scene, hosts, result, text, told};
use bgctl_tests::load::LoadReport;

/// From the first to the last request that was lost.
fn lost(report: &LoadReport) -> String {
    let times: Vec<_> = report.targets.iter().flat_map(|target| &target.failures).map(|note| note.at_micros).collect();
    let (first, last) = (times.iter().min().copied().unwrap_or(0), times.iter().max().copied().unwrap_or(0));
    format!("{} of {} requests lost, over {} ms", report.total.failed, report.total.sent, (last - first) / 1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_dies_after_the_switch_is_taken_back() {
    let mut scene = Scene::with_users(hosts(3)).await;
    scene.deploy("v2").await;

    // Without --watch the command is over at the switch, and the fleet is taken back all the same.
    let ran = scene.expect(&["deploy", "web", "--version", "late", "--json"], DONE, &[]).await;
    let first = text(&result(&ran)["deployment"]);
    scene.served("late").await;
    scene.served("v2").await;
    assert_eq!(scene.at_rest().await, "v2");
    let report = scene.users_leave().await;
    eprintln!("taken back by the watch: {}", lost(&report));
    assert!(report.targets.iter().all(|target| target.sequence() == "v1 → v2 → late → v2"), "{report}");

    // With --watch it ends with the taking back, and its exit code says so.
    scene.users_come().await;
    let watch = ["deploy", "web", "--version", "late", "--watch", "--json"];
    let ran = scene.expect(&watch, ROLLED_BACK, &[]).await;
    let result = result(&ran);
    assert_eq!((&result["outcome"], &result["phase"]), (&"rolled_back".into(), &"rolled_back".into()), "{result}");
    let second = text(&result["deployment"]);
    assert_eq!(scene.at_rest().await, "v2");

    let history = scene.expect(&["history", "web", "--json"], DONE, &[]).await;
    let answer = history.json().unwrap_or_else(|| panic!("{}", told(&history)));
    let all = answer["deployments"].as_array().unwrap_or_else(|| panic!("{}", told(&history)));
    let listed: Vec<_> = all.iter().map(|one| (text(&one["version"]), text(&one["kind"]))).collect();
    let expected = [
        ("v2", "rollback"),
        ("late", "deploy"),
        ("v2", "rollback"),
        ("late", "deploy"),
        ("v2", "deploy"),
        ("v1", "deploy"),
    ];
    assert_eq!(listed, expected.map(|(version, kind)| (version.to_owned(), kind.to_owned())), "{}", told(&history));
    for (index, id) in [(3, first), (1, second)] {
        let (late, back) = (&all[index], &all[index - 1]);
        assert_eq!((text(&late["deployment"]), &late["phase"]), (id, &"rolled_back".into()), "{late}");
        assert_eq!(late["rolled_back_by"], back["deployment"], "{late}");
        let reason = text(&late["reason"]);
        let names_a_host = scene.fleet().hosts().iter().any(|host| reason.contains(&host.name));
        assert!(names_a_host && reason.contains("exited with code 1"), "where and why is not told: {late}");
        assert_eq!(back["actor"], "watch", "{back}");
    }
    scene.deploy("v3").await;
    let report = scene.users_leave().await;
    assert!(report.targets.iter().all(|target| target.sequence() == "v2 → late → v2 → v3"), "{report}");
    eprintln!("taken back by the watch: {}", lost(&report));
    scene.down().await;
}

//! What operators may type while something runs, and what they may not.

use super::scene::{ABORTED, DONE, LIMIT, REFUSED, Scene, bare, hosts, result, text, told};
use bgctl_tests::fleet::Ran;
use serde_json::Value;
use std::time::{Duration, Instant};

const ASK_EVERY: Duration = Duration::from_millis(50);
const SLOW: [&str; 5] = ["deploy", "web", "--version", "slow", "--json"];

/// The deployment that is open.
async fn open(scene: &Scene) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = scene.status().await;
        if let Ok(status) = &status
            && let Some(id) = status["pending"]["deployment"].as_str()
        {
            return id.to_owned();
        }
        assert!(Instant::now() < deadline, "no deployment is open: {status:?}");
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// `slow` boots for three seconds: time to type something else once it is open.
async fn while_slow<T>(scene: &Scene, act: impl AsyncFnOnce(String) -> T) -> (Ran, T) {
    tokio::join!(scene.bgctl(&SLOW), async { act(open(scene).await).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_while_a_deployment_runs() {
    let scene = Scene::with_users(hosts(3)).await;

    // The same again attaches; another version is refused; an abort ends it.
    let (first, (again, other, id)) = while_slow(&scene, async |id| {
        let (again, other) = tokio::join!(scene.bgctl(&SLOW), async {
            scene.expect(&["deploy", "web", "--version", "v2"], REFUSED, &[&id]).await
        });
        (again, other, id)
    })
    .await;
    for (ran, attached) in [(&first, false), (&again, true)] {
        let result = result(ran);
        assert_eq!((ran.code, result["attached"].as_bool()), (Some(DONE), Some(attached)), "{}", told(ran));
        assert_eq!(text(&result["deployment"]), id, "{}", told(ran));
    }
    assert!(other.took < first.took, "it was refused at the end only: {}", told(&other));
    assert_eq!(scene.at_rest().await, "slow");
    // Two others, or `slow` would be warm and not slow at all.
    scene.deploy("v2").await;
    scene.deploy("v1").await;

    let (aborted, abort) = while_slow(&scene, async |_| scene.expect(&["abort", "--json"], DONE, &[]).await).await;
    assert_eq!(aborted.code, Some(ABORTED), "{}", told(&aborted));
    let reason = text(&result(&aborted)["reason"]);
    assert!(reason.contains("aborted by fleet"), "who did it is not told: {}", told(&aborted));
    assert_eq!(abort.json().map(|answer| text(&answer["phase"])), Some("aborted".to_owned()), "{}", told(&abort));
    assert_eq!(scene.at_rest().await, "v1");
    scene.expect(&["abort"], REFUSED, &[]).await;
    scene.expect(&["abort", "web"], REFUSED, &["web"]).await;

    // A rollback ends what is open, and goes back all the same: to what served before v1.
    let (overtaken, back) = while_slow(&scene, async |_| scene.bgctl(&["rollback", "web", "--json"]).await).await;
    assert_eq!(overtaken.code, Some(ABORTED), "{}", told(&overtaken));
    assert_eq!(back.code, Some(DONE), "{}", told(&back));
    assert_eq!(scene.at_rest().await, text(&result(&back)["version"]));

    scene.deploy("v3").await;
    // The very same version again is no deployment.
    let before = scene.committed().await.len();
    scene.expect(&["deploy", "web", "--version", "v3"], DONE, &[]).await;
    assert_eq!(scene.committed().await.len(), before, "the version that serves was deployed again");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_until_there_is_no_way_back() {
    let mut scene = Scene::quiet(bare(2)).await;
    scene.expect(&["rollback"], REFUSED, &[]).await;
    scene.expect(&["rollback", "web"], REFUSED, &["web"]).await;
    scene.expect(&["status", "web"], REFUSED, &["web"]).await;
    scene.expect(&["history", "web"], REFUSED, &["web"]).await;
    scene.expect(&["deploy", "web", "--version", "v1"], REFUSED, &["web", "bgctl apply"]).await;
    let spec = scene.fleet().plan().spec().to_string_lossy().into_owned();
    scene.expect(&["apply", "-f", &spec], DONE, &["web"]).await;
    scene.expect(&["rollback", "web"], REFUSED, &["nothing was ever deployed"]).await;
    scene.expect(&["deploy", "web", "--version", "v1"], DONE, &[]).await;
    scene.users_come().await;
    scene.expect(&["rollback", "web"], REFUSED, &["no release before v1"]).await;
    scene.expect(&["rollback"], REFUSED, &["no release before v1"]).await;
    scene.deploy("v2").await;
    scene.deploy("v3").await;
    scene.roll_back(&["rollback"], "v2").await;
    scene.roll_back(&["rollback", "web"], "v1").await;
    scene.expect(&["rollback", "web"], REFUSED, &["no release before v1"]).await;
    let status = scene.status().await.expect("a status");
    assert_eq!(status["rollback_version"], Value::Null, "{status}");
    scene.end().await;
}

//! The same on a real etcd, which is killed as well: a deployment decides or aborts, and nothing is forgotten.

use super::scene::{ABORTED, DONE, LIMIT, Scene, on_etcd, told};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn switches_on_etcd_lose_nothing_also_when_etcd_dies() {
    let scene = Scene::with_users(on_etcd(3)).await;
    scene.deploy("v2").await;
    scene.roll_back(&["rollback"], "v1").await;
    scene.deploy("v3").await;
    let whole = scene.deploy("v2").await.took;
    assert_eq!(scene.committed().await, ["v1", "v2", "v1", "v3", "v2"]);

    let mut serving = "v2".to_owned();
    for (part, version) in [(0.2, "v1"), (0.7, "v3"), (0.95, "v2")] {
        let moment: Duration = whole.mul_f64(part);
        scene.note(format!("--- etcd dies {moment:?} into a deployment of {version}"));
        let deploy = ["deploy", "web", "--version", version];
        let (ran, ()) = tokio::join!(scene.bgctl(&deploy), async {
            tokio::time::sleep(moment).await;
            let before = scene.fleet().kill("etcd").await.expect("it runs");
            scene.fleet().wait_restarted("etcd", before, LIMIT).await.expect("a restart");
        });
        let now = scene.at_rest().await;
        eprintln!("etcd dies after {moment:?}: exit code {:?} after {:?}, {now} serves", ran.code, ran.took);
        match ran.code {
            Some(DONE) => assert_eq!(now, version, "{}", told(&ran)),
            Some(ABORTED) => assert_eq!(now, serving, "{}", told(&ran)),
            _ => panic!("bgctl does not tell how it ended: {}", told(&ran)),
        }
        serving = now;
    }
    // While nothing runs.
    let before = scene.fleet().kill("etcd").await.expect("it runs");
    scene.fleet().wait_restarted("etcd", before, LIMIT).await.expect("a restart");
    assert_eq!(scene.at_rest().await, serving);
    scene.deploy(if serving == "v1" { "v2" } else { "v1" }).await;
    scene.end().await;
}

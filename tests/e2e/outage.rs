//! Users of the one host where something breaks, who notice, and users of the others, who must not. How long the
//! first are turned away is measured and told, not judged: nobody listens meanwhile.

use super::scene::{LIMIT, Scene, users};
use bgctl_tests::load::LoadHandle;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// So long without a failure, with an answer to every connection twice, and it is over.
const CALM: Duration = Duration::from_secs(1);

/// Users of host `number`, from 1 on, and of all others.
pub async fn apart(scene: &Scene, number: usize) -> (LoadHandle, LoadHandle) {
    let mut others = scene.fleet().targets();
    let hit = others.remove(number - 1);
    (users(vec![hit]).await, users(others).await)
}

/// Waits until users were turned away or cut off, and then all were served again. They met this version alone.
pub async fn over(hit: LoadHandle, what: &str, version: &str) {
    over_or_mended(hit, what, version, || false).await;
}

/// The same where nobody answers and nobody refuses: users may also be kept waiting until it is mended, and lose
/// nothing.
pub async fn over_or_mended(hit: LoadHandle, what: &str, version: &str, mut is_mended: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    let trouble = || {
        let total = hit.snapshot().total;
        total.failed + total.closed_idle
    };
    let (mut count, mut first, mut last) = (0, None, Instant::now());
    let mut mended = false;
    while (first.is_none() && !mended) || last.elapsed() < CALM {
        assert!(Instant::now() < deadline, "{what}: users meet it still, or never did: {}", hit.snapshot());
        tokio::time::sleep(LOOK_EVERY).await;
        let now = trouble();
        if now > count {
            (count, last) = (now, Instant::now());
            first.get_or_insert(last);
        } else if first.is_none() && !mended && is_mended() {
            (mended, last) = (true, Instant::now());
        }
    }
    let report = hit.stop().await;
    let lasted = first.map_or(Duration::ZERO, |first| last - first);
    eprintln!("{what}: users met it for {} ms; {}", lasted.as_millis(), report.total);
    assert!(report.targets.iter().all(|target| target.sequence() == version), "{what}: {report}");
}

//! Many switches and no fault: to the next version, and back to the one that stands warm.

use super::case::Case;
use super::prepare::{Prepared, prepare};
use super::scene::{ChaosError, Scene};
use super::table::Line;
use super::trial::{Done, conclude, text};
use std::time::Instant;

pub(super) async fn run(scene: &mut Scene, case: &Case, count: usize, host: usize) -> Result<Line, ChaosError> {
    let Prepared { before, version: there, mut faults } = prepare(scene, host).await?;
    let here = text(&before["services"][0]["version"]);
    let mut path = vec![here.clone()];
    let mut code = None;
    for turn in 0..count {
        let (arguments, to) = match turn % 2 {
            0 => (vec!["deploy", "web", "--version", there], there),
            _ => (vec!["rollback", "web"], here.as_str()),
        };
        let ran = scene.fleet.bgctl(&arguments).await?;
        code = ran.code;
        if code != Some(0) {
            faults.push(format!("switch {} of {count}, to {to}: {}", turn + 1, ran.short()));
            break;
        }
        path.push(to.to_owned());
        // Or nobody could tell the next one from this one that never was.
        scene.wait_seen(to).await?;
    }
    let over = Instant::now();
    let asked = path.last().cloned().unwrap_or_default();
    let done = Done { before: &before, asked: &asked, code, struck: None, path: Some(path), since: over };
    conclude(scene, case, done, faults).await
}

//! Every bad number is named, and good ones are not.

use super::{Figures, Turn};
use crate::load::{Load, LoadOptions, LoadReport, Target};
use std::net::SocketAddr;
use std::time::Duration;

/// A report of one target, with its sequence as the load client would have written it.
async fn report(versions: &[&str]) -> LoadReport {
    let target = Target::new(SocketAddr::from(([127, 0, 0, 1], 1)));
    let none = LoadOptions { time_max: Duration::ZERO, connections: 1, ..LoadOptions::default() };
    let mut report = Load::start(vec![target], none).expect("good options").stop().await;
    report.total = crate::load::Counts::default();
    let change = |(index, to): (usize, &&str)| crate::load::VersionChange {
        from: None,
        to: (*to).to_owned(),
        at_micros: index as u64,
        sent_micros: index as u64,
    };
    report.targets[0].versions = versions.iter().enumerate().map(change).collect();
    report
}

async fn good() -> Figures {
    let turn = Turn {
        took: Duration::from_millis(100),
        skew_told: Duration::from_millis(3),
        skew_seen: Duration::from_millis(5),
    };
    Figures { deploy: turn.clone(), rollback: turn, load: report(&["v1", "v2", "v1"]).await }
}

#[tokio::test]
async fn good_numbers_have_no_faults() {
    assert_eq!(good().await.faults(), [""; 0]);
}

#[tokio::test]
async fn each_bad_number_is_a_fault_of_its_own() {
    let mut failed = good().await;
    failed.load.total.failed = 1;
    let mut closed = good().await;
    closed.load.total.closed_idle = 2;
    let mut skewed = good().await;
    skewed.deploy.skew_seen = Duration::from_secs(1);
    let mut slow = good().await;
    slow.rollback.took = Duration::from_secs(2);
    let flapped = Figures { load: report(&["v1", "v2", "v1", "v2", "v1"]).await, ..good().await };
    for (figures, word) in [
        (failed, "1 requests failed"),
        (closed, "2 client connections"),
        (skewed, "deployment's skew"),
        (slow, "rollback took"),
        (flapped, "instead of"),
    ] {
        let faults = figures.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(word), "{faults:?}");
    }
}

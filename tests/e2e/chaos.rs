//! The core of `make chaos`: crashes at named points, a cut and a loss of power on five hosts, with three controllers and
//! three etcd members, under load.

use bgctl_tests::chaos::{ChaosOptions, case, run};
use bgctl_tests::workspace;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_ends_on_one_version_and_loses_nothing_whatever_dies() {
    let options = ChaosOptions {
        rate_per_second: 60,
        time_max: Duration::from_secs(3600),
        keep_logs_in: Some(workspace::root().join("target/chaos/core")),
    };
    let table = run(case::core(), &options, |line| println!("{line}")).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(table.is_good(), "the logs are in target/chaos/core\n{table}");
}

//! What is too large for every change: `make model-full`. Counts are pinned here too.

use bgctl_model::check::holds;
use bgctl_model::config::Config;

#[test]
#[ignore = "minutes and gigabytes: make model-full"]
fn a_replaced_host_and_a_takeover() {
    let config = Config { replacements: 1, ..Config::of(2, 1, 2, 0) };
    assert_eq!(holds("a replaced host, a takeover", config), REPLACED);
}

#[test]
#[ignore = "minutes and gigabytes: make model-full"]
fn a_silent_host_and_a_rollback() {
    let config = Config { may_be_missing: 1, ..Config::of(2, 2, 1, 0) };
    assert_eq!(holds("a silent host, a rollback", config), SILENT);
}

#[test]
#[ignore = "minutes and gigabytes: make model-full"]
fn one_host_a_crash_and_a_takeover_under_a_rollback() {
    assert_eq!(holds("a crash and a takeover under a rollback", Config::of(1, 2, 2, 1)), CRASH);
}

#[test]
#[ignore = "minutes and gigabytes: make model-full"]
fn a_group_on_two_hosts() {
    assert_eq!(holds("a group on two hosts", Config::group(2, 1, 0)), GROUP);
}

#[test]
#[ignore = "minutes and gigabytes: make model-full"]
fn a_switch_is_given_up_and_the_host_crashes() {
    let config = Config { failures: 1, deaths: 1, ..Config::side_by_side(1, 1, 1) };
    assert_eq!(holds("given up, and a crash", config), GIVEN_UP);
}

const REPLACED: usize = 16_936_921;
const SILENT: usize = 1_253_998;
const CRASH: usize = 602_164;
const GROUP: usize = 316_934;
const GIVEN_UP: usize = 2_233_493;

//! The fleets that every change is checked against. The counts are pinned: a change of the protocol, or of the
//! world around it, changes them, and whoever makes it should know that it did.

use bgctl_model::check::holds;
use bgctl_model::config::Config;

#[test]
fn two_hosts_a_takeover_and_a_crash() {
    assert_eq!(holds("takeover", Config::of(2, 1, 2, 1)), TAKEOVER);
}

#[test]
fn two_hosts_a_deployment_and_its_rollback() {
    assert_eq!(holds("rollback", Config::of(2, 2, 1, 0)), ROLLBACK);
}

#[test]
fn three_hosts_and_a_crash() {
    assert_eq!(holds("three hosts", Config::of(3, 1, 1, 1)), THREE);
}

#[test]
fn a_takeover_under_a_rollback() {
    assert_eq!(holds("takeover under a rollback", Config::of(1, 2, 2, 0)), TAKEOVER_UNDER_A_ROLLBACK);
}

#[test]
fn a_host_is_replaced() {
    assert_eq!(holds("replaced", Config { replacements: 1, ..Config::of(2, 1, 1, 0) }), REPLACED);
}

#[test]
fn a_host_is_left_out_and_crashes_while_it_catches_up() {
    assert_eq!(holds("left out", Config { exclusions: 1, ..Config::of(2, 1, 1, 1) }), LEFT_OUT);
}

#[test]
fn a_silent_host_is_decided_without() {
    assert_eq!(holds("silent", Config { may_be_missing: 1, ..Config::of(2, 1, 2, 0) }), SILENT);
}

#[test]
fn a_group_of_two_services() {
    assert_eq!(holds("group", Config::group(1, 1, 1)), GROUP);
}

#[test]
fn work_switches_and_writes_fail() {
    assert_eq!(holds("failures", Config { failures: 2, ..Config::of(1, 1, 1, 1) }), FAILURES);
}

#[test]
fn a_promised_container_dies() {
    assert_eq!(holds("deaths", Config { deaths: 1, ..Config::of(2, 1, 1, 0) }), DEATHS);
}

#[test]
fn traffic_is_moved_by_hand() {
    // Two new releases: a rollback would adopt what is held.
    let mut config = Config { moves_by_hand: 2, ..Config::of(1, 3, 1, 1) };
    config.plan.pop();
    assert_eq!(holds("by hand", config), BY_HAND);
}

/// What one service's switch came to is not known when the other's is made.
#[test]
fn a_switch_given_up_for_a_dead_container_is_not_undone_by_another_service() {
    let config = Config { failures: 1, deaths: 1, ..Config::side_by_side(1, 1, 0) };
    assert_eq!(holds("given up", config), GIVEN_UP);
}

#[test]
fn acknowledgements_are_counted() {
    assert_eq!(holds("acknowledgements", Config { acknowledgements: true, ..Config::of(2, 1, 1, 1) }), ACKNOWLEDGED);
}

const TAKEOVER: usize = 310_540;
const ROLLBACK: usize = 317_318;
const TAKEOVER_UNDER_A_ROLLBACK: usize = 97_345;
const THREE: usize = 37_497;
const REPLACED: usize = 74_168;
const LEFT_OUT: usize = 4_170;
const SILENT: usize = 318_189;
const GROUP: usize = 12_394;
const FAILURES: usize = 1_806;
const DEATHS: usize = 2_694;
const BY_HAND: usize = 109_074;
const GIVEN_UP: usize = 285_977;
const ACKNOWLEDGED: usize = 3_142;

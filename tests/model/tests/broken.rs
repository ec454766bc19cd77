//! Each guard that the design rests on is taken out once, and the model must notice, by the property named.

use bgctl_model::check::{explore, holds};
use bgctl_model::config::Config;
use bgctl_model::sabotage::Sabotage;

/// The smallest fleet in which it shows. Prints the story.
fn caught_by(config: Config) -> &'static str {
    let verdict = explore(config);
    let broken = verdict.failures.iter().find(|(_, story)| !story.starts_with("never"));
    let (property, story) = broken.unwrap_or_else(|| panic!("nothing noticed, in {} states", verdict.states));
    println!("{story}");
    property
}

/// A takeover under a deployment and its rollback, and a crash within a takeover.
fn nothing_notices(sabotage: Sabotage) {
    holds("two deployments", Config::of(1, 2, 2, 0).broken(sabotage));
    holds("a crash", Config::of(1, 1, 2, 1).broken(sabotage));
}

#[test]
fn a_store_without_the_epoch_compare_breaks_s6() {
    assert_eq!(caught_by(Config::of(1, 1, 2, 0).broken(Sabotage::NoEpochCompare)), "S6");
}

#[test]
fn a_vote_before_the_fsync_breaks_s3() {
    assert_eq!(caught_by(Config::of(1, 1, 1, 1).broken(Sabotage::VoteBeforeFsync)), "S3");
}

#[test]
fn promises_dropped_on_restart_break_s3() {
    assert_eq!(caught_by(Config::of(1, 1, 1, 1).broken(Sabotage::ForgetPromises)), "S3");
}

#[test]
fn release_without_the_revision_guard_breaks_s3() {
    assert_eq!(caught_by(Config::of(1, 1, 1, 0).broken(Sabotage::NoRevisionGuard)), "S3");
}

#[test]
fn no_generation_guard_breaks_s5() {
    assert_eq!(caught_by(Config::of(1, 1, 1, 1).broken(Sabotage::NoGenerationGuard)), "S5");
}

#[test]
fn the_vote_of_a_replaced_host_counted_breaks_s2() {
    let config = Config { replacements: 1, ..Config::of(1, 1, 1, 0) };
    assert_eq!(caught_by(config.broken(Sabotage::CountOldLife)), "S2");
}

#[test]
fn a_generation_reused_after_an_abort_breaks_s5() {
    let config = Config { exclusions: 1, ..Config::of(2, 2, 1, 0) };
    assert_eq!(caught_by(config.broken(Sabotage::ReuseGeneration)), "S5");
}

#[test]
fn a_commit_told_before_it_is_stored_breaks_s4() {
    assert_eq!(caught_by(Config::of(1, 1, 1, 0).broken(Sabotage::AnnounceBeforeStored)), "S4");
}

#[test]
fn an_acknowledgement_before_the_probe_breaks_s10() {
    assert_eq!(caught_by(Config::of(1, 1, 1, 0).broken(Sabotage::AcknowledgeBeforeProbe)), "S10");
}

#[test]
fn a_catch_up_switched_before_it_is_written_breaks_s5() {
    let config = Config { exclusions: 1, ..Config::of(2, 1, 1, 1) };
    assert_eq!(caught_by(config.broken(Sabotage::ForgetPlaces)), "S5");
}

/// The epochs at the hosts quiet leaders that do not know that they were deposed. Safety does not rest on them:
/// the store refuses those leaders, generations never fall, and a promise is let go only by news newer than
/// itself. So nothing can catch their absence, and no claim may rest on their presence.
#[test]
fn hosts_that_take_a_prepare_of_any_epoch_break_nothing() {
    nothing_notices(Sabotage::NoEpochCheckOnPrepare);
}

/// See above.
#[test]
fn hosts_that_take_a_state_of_any_epoch_break_nothing() {
    nothing_notices(Sabotage::NoEpochCheckOnState);
}

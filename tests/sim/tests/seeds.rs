//! The gate: seeds that must pass, seeds that failed once, and bugs put in on purpose that must be caught.

use bgctl_sim::sabotage::Sabotage;
use bgctl_sim::sweep::{Sweep, Total};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bgctl-sim");

/// Seeds of one test, so that several run side by side.
const SEEDS_EACH: u64 = 25;

/// A bug must be caught within so many seeds.
const SABOTAGED_SEEDS_MAX: u64 = 40;

fn sweep(from: u64, seeds: u64) -> Sweep {
    Sweep { from, seeds, jobs: 1, twice: false, sabotage: None }
}

fn total(sweep: &Sweep) -> Total {
    sweep.total_with(Path::new(PROGRAM)).expect("it runs")
}

/// Runs the seeds of one part and shows what was hit.
fn pass(sweep: &Sweep) {
    let total = total(sweep);
    println!("{}", total.coverage);
    println!("{} of {} seeds count; {} commits, {} aborts", total.counted, total.seeds, total.commits, total.aborts);
    assert_eq!(total.failures, [], "`make sim SEED=…` tells what happened");
    assert!(total.counted * 10 >= total.seeds * 9, "too many seeds with nothing in them: {} count", total.counted);
    assert!(total.commits > 0, "nothing was ever committed");
}

fn part(number: u64) {
    pass(&sweep(1 + number * SEEDS_EACH, SEEDS_EACH));
}

#[test]
fn seeds_1_to_25_hold() {
    part(0);
}

#[test]
fn seeds_26_to_50_hold() {
    part(1);
}

#[test]
fn seeds_51_to_75_hold() {
    part(2);
}

#[test]
fn seeds_76_to_100_hold() {
    part(3);
}

#[test]
fn seeds_101_to_125_hold() {
    part(4);
}

#[test]
fn seeds_126_to_150_hold() {
    part(5);
}

#[test]
fn seeds_151_to_175_hold() {
    part(6);
}

#[test]
fn seeds_176_to_200_hold() {
    part(7);
}

#[test]
fn one_seed_gives_one_trace() {
    pass(&Sweep { twice: true, ..sweep(1, 10) });
}

/// A simulation that looks at the machine's clock somewhere goes another way when the machine is slow.
#[test]
fn a_process_that_stands_still_for_a_while_gives_the_same_trace() {
    let replay = || {
        let mut command = Command::new(PROGRAM);
        command.args(["replay", "7"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs")
    };
    let told = |child: Child| {
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().last().expect("an outcome").to_owned()
    };
    let undisturbed = told(replay());
    let child = replay();
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill(1)");
        assert!(status.success(), "it ended before");
    };
    std::thread::sleep(Duration::from_millis(600));
    signal("-STOP");
    // Longer than a lease.
    std::thread::sleep(Duration::from_secs(6));
    signal("-CONT");
    assert_eq!(told(child), undisturbed);
}

#[test]
fn seeds_that_failed_once_hold() {
    for line in include_str!("../failed.txt").lines().filter(|line| !line.starts_with('#')) {
        let (seed, story) = line.split_once(' ').expect("a seed and its story");
        let total = total(&sweep(seed.parse().expect("a number"), 1));
        assert_eq!(total.failures, [], "again: {story}");
    }
}

/// Each bug is caught, by the invariant it breaks.
fn caught(sabotage: Sabotage, by: &str) {
    for seed in 1..=SABOTAGED_SEEDS_MAX {
        let total = total(&Sweep { sabotage: Some(sabotage), ..sweep(seed, 1) });
        if let [(_, why)] = &total.failures[..] {
            println!("seed {seed}: {why}");
            assert!(why.contains(by), "{sabotage:?} was caught as something else: {why}");
            return;
        }
    }
    panic!("{sabotage:?} was not caught in {SABOTAGED_SEEDS_MAX} seeds");
}

#[test]
fn a_vote_before_its_promise_is_on_the_disk_is_caught() {
    caught(Sabotage::VoteBeforeSync, "S2:");
}

#[test]
fn a_commit_announced_before_the_store_has_it_is_caught() {
    caught(Sabotage::CommitBeforeStored, "S4:");
}

#[test]
fn a_promise_forgotten_at_a_restart_is_caught() {
    caught(Sabotage::PromiseForgotten, "S3:");
}

#[test]
fn an_acknowledgement_without_proof_is_caught() {
    caught(Sabotage::AcknowledgedUnproven, "S10:");
}

#[test]
fn a_host_that_spares_what_docker_lost_track_of_is_caught() {
    caught(Sabotage::StraysSpared, "L6:");
}

#[test]
fn writes_that_are_not_guarded_by_the_epoch_are_caught() {
    caught(Sabotage::NoEpochGuard, "S6:");
}

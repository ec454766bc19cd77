//! Every input of every corpus, as an ordinary test. A reader that accepts or refuses fewer than it did has
//! changed, or its corpus has come to nothing: either is to be looked at.

use bgctl_fuzz_cases::{TARGETS, Verdict, corpus, nginx_accepts, nginx_config};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic;
use std::path::Path;

thread_local! {
    /// Panics on this thread, those a runtime catches in its tasks too.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.set(PANICS.get() + 1);
        before(info);
    }));
}

/// Runs a corpus; answers how many inputs were accepted and refused.
fn run(name: &str) -> (usize, usize) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is in the table");
    count_panics();
    let (mut accepted, mut refused) = (0, 0);
    for input in corpus::inputs(target).expect("the corpus can be read") {
        let outcome = panic::catch_unwind(|| (target.run)(&input));
        let shown: String = corpus::escape(&input).chars().take(2000).collect();
        assert!(outcome.is_ok() && PANICS.get() == 0, "{name} falls over this input:\n{shown}");
        match outcome {
            Ok(Verdict::Accepted) => accepted += 1,
            Ok(Verdict::Refused) => refused += 1,
            Err(_) => unreachable!("it was asserted"),
        }
    }
    println!("{name}: {accepted} accepted, {refused} refused");
    (accepted, refused)
}

/// At least so many of each.
fn holds(name: &str, accepted: usize, refused: usize) {
    let found = run(name);
    assert!(found.0 >= accepted && found.1 >= refused, "{name}: {found:?}, expected {accepted} and {refused} at least");
}

#[test]
fn specs() {
    holds("spec", 800, 6500);
}

#[test]
fn configs_of_nginx() {
    holds("nginx", 1200, 4500);
}

#[test]
fn messages_of_hosts() {
    holds("host_message", 90, 20);
}

#[test]
fn messages_of_controllers() {
    holds("controller_message", 28, 90);
}

#[test]
fn requests_of_operators() {
    holds("operator_request", 160, 120);
}

#[test]
fn journals() {
    holds("journal", 600, 280);
}

#[test]
fn stores() {
    holds("store", 300, 800);
}

#[test]
fn certificates() {
    holds("certificate", 34, 80);
}

#[test]
fn images() {
    holds("image", 17, 45);
}

#[test]
fn documents() {
    holds("yaml", 40, 22);
}

#[test]
fn times() {
    holds("duration", 14, 30);
}

#[test]
fn versions() {
    holds("version", 15, 19);
}

#[test]
fn nginx_itself_reads_every_config_that_is_rendered() {
    let target = TARGETS.iter().find(|target| target.name == "nginx").expect("it is in the table");
    let directory = tempfile::tempdir().expect("a directory");
    let mut seen = BTreeSet::new();
    for input in corpus::inputs(target).expect("the corpus can be read") {
        let Some(text) = nginx_config(&input, Path::new("/")) else { continue };
        if seen.insert(text) {
            nginx_accepts(&input, directory.path()).unwrap_or_else(|said| panic!("{said}"));
        }
    }
    println!("{} configs", seen.len());
    assert!(seen.len() >= 100, "{} configs", seen.len());
}

#[test]
fn payloads_are_many_and_each_is_there_once() {
    let payloads = corpus::payloads().expect("they can be read");
    let distinct: BTreeSet<_> = payloads.iter().collect();
    assert_eq!(distinct.len(), payloads.len());
    assert!(payloads.len() >= 200, "{} payloads", payloads.len());
}

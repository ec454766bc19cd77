//! The two state machines, case by case. A case is a text: what it shows, the events, and under each event
//! what came of it, as recorded. `RECORD=1 cargo test -p cutover --test cases` records anew; read the
//! difference before you keep it.
//!
//! ```text
//! > event          happens
//! ? event          is tried on a copy, and undone; several in a row are joined by "; "
//!     effect       what was asked for, in order; "-" is nothing
//!     = ...        what is true afterwards, where that changed
//! ```

mod coordinator;
mod participant;
mod script;
mod words;

use coordinator::Deployment;
use participant::Host;
use std::collections::BTreeSet;

#[test]
fn coordinator_cases_are_as_recorded() {
    let seen = script::run::<Deployment>("coordinator");
    expect_all(&seen, &coordinator::PHASES.map(str::to_owned), &coordinator::EVENTS);
}

#[test]
fn participant_cases_are_as_recorded() {
    let seen = script::run::<Host>("participant");
    let situations: BTreeSet<_> =
        seen.iter().map(|(situation, _)| situation.clone()).filter(|name| name.starts_with("in ")).collect();
    assert!(situations.len() >= 14, "situations are missing: {situations:?}");
    expect_all(&seen, &situations.into_iter().collect::<Vec<_>>(), &participant::EVENTS);
}

/// Every event in every situation, or the table has a hole.
fn expect_all(seen: &script::Seen, situations: &[String], events: &[&'static str]) {
    let pairs = situations.iter().flat_map(|situation| events.iter().map(move |event| (situation.clone(), *event)));
    let holes: Vec<_> = pairs.filter(|pair| !seen.contains(pair)).collect();
    assert!(holes.is_empty(), "no case shows what comes of: {holes:#?}");
}

#[test]
fn a_recorded_effect_that_changes_is_noticed() {
    let text = "Shows it.\n\n> open d2@20 epoch 5 rev 22 web=r2 on h1/1\n    = collecting: h1/1\n> begin\n    -\n";
    let told = script::replay::<Deployment>(text).expect("a case").text;
    assert!(told.contains("> begin\n    prepare h1: d2@20 epoch 5 rev 22 web=r2\n"), "{told}");
    assert_eq!(
        script::first_difference(text, &told),
        Some((6, "    -", "    prepare h1: d2@20 epoch 5 rev 22 web=r2"))
    );
}

#[test]
fn a_case_that_is_not_one_says_where() {
    for (text, expected) in [
        ("> open d2@20 epoch 5 rev 22 web=r2 on h1/1\n", "line 1: expected what the case shows"),
        ("Shows it.\n\n> begin\n", "line 3: \"begin\": expected `open"),
        ("Shows it.\n\n> open d2@20 epoch 5 rev 22 web=r2 on h1/1\n> jump\n", "line 4: \"jump\": no such event"),
        ("Shows it.\n\nopen\n", "line 3: expected"),
        ("Shows it.\n", "it has no event"),
    ] {
        let error = script::replay::<Deployment>(text).err().unwrap_or_default();
        assert!(error.contains(expected), "{text:?} gave {error:?}");
    }
}

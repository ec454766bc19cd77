//! The door, without anybody at it.

use super::*;
use cutover::Incarnation;

fn host() -> HostId {
    "h1".parse().expect("a name")
}

/// The agent of a life, as it says its hello number `count`; each agent's marks are its own.
fn agent(life: u128, agent: u64, count: u64) -> Calling {
    let life = Life { incarnation: Incarnation(life), machine: "m1".to_owned(), labels: BTreeMap::new() };
    let mark = |count: u64| agent * 1_000 + count;
    Calling { life, count, mark: mark(count), mark_before: mark(count - 1), from: format!("a{agent}") }
}

fn registered(life: u128, machine: &str) -> HostRecord {
    HostRecord {
        incarnation: Incarnation(life).to_string(),
        labels: BTreeMap::new(),
        since_unix_millis: 0,
        machine: machine.to_owned(),
    }
}

/// Doors behind which this agent has been let in.
fn behind(calling: &Calling) -> Doors {
    let doors = Doors::default();
    doors.entered(&host(), calling);
    doors
}

fn judged(doors: &Doors, is_linked: bool, calling: &Calling) -> Judgement {
    doors.judge(&host(), Some(&registered(1, "m1")), None, is_linked, calling)
}

#[test]
fn the_first_life_of_a_host_comes_in_freely() {
    assert_eq!(Doors::default().judge(&host(), None, None, false, &agent(1, 1, 1)), Judgement::LetIn);
}

#[test]
fn another_life_waits_for_a_person_whether_the_registered_one_is_linked_or_not() {
    let doors = behind(&agent(1, 1, 5));
    for is_linked in [true, false] {
        assert_eq!(judged(&doors, is_linked, &agent(2, 2, 1)), Judgement::Refuse(Refusal::OtherLife));
    }
}

#[test]
fn the_same_state_on_another_machine_waits_and_an_unknown_machine_does_not() {
    let calling = agent(1, 1, 6);
    let on = |machine: &str| Doors::default().judge(&host(), Some(&registered(1, machine)), None, false, &calling);
    assert_eq!(on("m2"), Judgement::Refuse(Refusal::OtherMachine));
    assert_eq!(on(""), Judgement::LetIn);
    let mut nameless = agent(1, 1, 6);
    nameless.life.machine.clear();
    let judged = Doors::default().judge(&host(), Some(&registered(1, "m2")), None, false, &nameless);
    assert_eq!(judged, Judgement::LetIn);
}

#[test]
fn a_restarted_agent_comes_in_again_at_once_and_takes_the_place_of_a_link_that_is_dead() {
    let doors = behind(&agent(1, 1, 5));
    assert_eq!(judged(&doors, false, &agent(1, 1, 6)), Judgement::LetIn);
    // Some hellos never arrived.
    assert_eq!(judged(&doors, false, &agent(1, 1, 60)), Judgement::LetIn);
    assert_eq!(judged(&doors, true, &agent(1, 1, 6)), Judgement::IfTheOtherIsGone);
}

#[test]
fn a_clone_that_alternates_with_the_host_repeats_a_count() {
    let doors = behind(&agent(1, 1, 5));
    // Copied before the fifth hello, and up while the host is down.
    assert_eq!(judged(&doors, false, &agent(1, 2, 5)), Judgement::Refuse(Refusal::Repeated));
    assert_eq!(judged(&doors, false, &agent(1, 2, 4)), Judgement::Refuse(Refusal::Repeated));
}

#[test]
fn a_twin_that_was_refused_is_known_however_often_it_calls_and_the_host_is_not_locked_out() {
    let doors = behind(&agent(1, 1, 5));
    assert_eq!(judged(&doors, true, &agent(1, 2, 6)), Judgement::IfTheOtherIsGone);
    doors.refused(&host(), agent(1, 2, 6), Refusal::Twin);
    for count in 7..200 {
        let calling = agent(1, 2, count);
        // Also while the host restarts.
        assert_eq!(judged(&doors, count % 2 == 0, &calling), Judgement::Refuse(Refusal::Rival), "hello {count}");
        doors.refused(&host(), calling, Refusal::Rival);
    }
    assert_eq!(judged(&doors, false, &agent(1, 1, 6)), Judgement::LetIn);
    assert!(doors.waiting(&host()).is_some_and(|knock| knock.told(&host()).contains("two agents")));
}

#[test]
fn a_count_that_cannot_be_kept_says_nothing() {
    let doors = behind(&agent(1, 1, 5));
    let calling = Calling { count: 0, ..agent(1, 1, 3) };
    assert_eq!(judged(&doors, false, &calling), Judgement::LetIn);
    doors.entered(&host(), &calling);
    assert_eq!(judged(&doors, false, &agent(1, 1, 5)), Judgement::Refuse(Refusal::Repeated));
}

#[test]
fn after_a_person_let_the_other_in_the_one_before_is_the_rival() {
    let doors = behind(&agent(1, 1, 5));
    doors.refused(&host(), agent(1, 2, 6), Refusal::Twin);
    let knock = doors.waiting(&host()).expect("it knocked");
    doors.replaced(&host(), &knock);
    assert!(doors.waiting(&host()).is_none());
    assert_eq!(judged(&doors, false, &agent(1, 2, 7)), Judgement::LetIn);
    assert_eq!(judged(&doors, false, &agent(1, 1, 6)), Judgement::Refuse(Refusal::Rival));
}

#[test]
fn a_removed_life_waits_and_another_one_under_its_name_does_not() {
    let doors = Doors::default();
    let removed = registered(1, "m1");
    let judged = |calling: &Calling| doors.judge(&host(), None, Some(&removed), false, calling);
    assert_eq!(judged(&agent(1, 1, 6)), Judgement::Refuse(Refusal::Removed));
    assert_eq!(judged(&agent(2, 2, 1)), Judgement::LetIn);
}

//! Every invariant holds where it should, and has been seen to fail on a planted violation.

use cutover::ids::{
    Colour, DeploymentId, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName,
};
use cutover::invariant::{self, Violation};
use cutover::message::{Applied, Committed, Outcome, Participants, Slot};
use cutover::participant::{Prepared, Record};
use std::collections::{BTreeMap, BTreeSet};

fn host() -> HostId {
    "h1".parse().expect("a name")
}

fn service(name: &str) -> ServiceName {
    name.parse().expect("a name")
}

fn release(number: u8) -> ReleaseDigest {
    ReleaseDigest([number; 32])
}

fn slot(generation: u64, content: u8) -> Slot {
    Slot { generation: Generation(generation), release: release(content), colour: Colour::Blue }
}

/// A host that serves these generations and contents.
fn serving(applied: &[(&str, u64, u8)]) -> Record {
    let slots = applied.iter().map(|(name, generation, content)| (service(name), slot(*generation, *content)));
    Record { max_epoch: Epoch(5), applied: slots.collect(), ..Record::new(Incarnation(1)) }
}

/// The same, with a promise of web.
fn promised(generation: u64) -> Record {
    let services = BTreeMap::from([(service("web"), slot(generation, 2))]);
    let prepared = Prepared { generation: Generation(generation), revision: Revision(generation), services };
    Record { prepared: BTreeMap::from([("d2".parse().expect("a name"), prepared)]), ..serving(&[("web", 10, 1)]) }
}

fn expect(outcome: Result<(), Violation>, number: &str, detail: &str) {
    let violation = outcome.expect_err("the planted violation was not noticed");
    assert_eq!(violation.number, number);
    assert_eq!(violation.to_string(), format!("{number}: {detail}"));
}

fn deployment(name: &str) -> DeploymentId {
    name.parse().expect("a name")
}

#[test]
fn a_second_outcome_is_noticed() {
    let check = |before| invariant::decided_once(&deployment("d2"), before, Outcome::Commit);
    assert_eq!(check(None), Ok(()));
    assert_eq!(check(Some(Outcome::Commit)), Ok(()));
    expect(check(Some(Outcome::Abort)), "S1", "d2 was decided to abort and then to commit");
}

#[test]
fn a_commit_without_a_promise_is_noticed() {
    let check = |disks: &[Record]| {
        let participants = Participants::from([(host(), Incarnation(1))]);
        let disks = disks.iter().map(|record| (host(), record.clone())).collect();
        invariant::commit_has_every_promise(Generation(20), &participants, &disks)
    };
    assert_eq!(check(&[promised(20)]), Ok(()));
    let detail = "generation 20 committed without the promise of h1";
    expect(check(&[]), "S2", detail);
    expect(check(&[serving(&[("web", 10, 1)])]), "S2", detail);
    expect(check(&[promised(19)]), "S2", detail);
    expect(check(&[Record { incarnation: Incarnation(2), ..promised(20) }]), "S2", detail);
}

#[test]
fn a_promise_that_is_gone_is_noticed() {
    let services = BTreeMap::from([(service("web"), release(2))]);
    let check = |record| invariant::promise_is_kept(&host(), &record, &deployment("d2"), Generation(20), &services);
    assert_eq!(check(promised(20)), Ok(()));
    assert_eq!(check(serving(&[("web", 20, 2)])), Ok(()));
    assert_eq!(check(serving(&[("web", 30, 3)])), Ok(()));
    let detail = "h1 said yes to d2 and could not apply it";
    expect(check(serving(&[("web", 10, 1)])), "S3", detail);
    expect(check(promised(19)), "S3", detail);
}

#[test]
fn a_switch_to_what_was_never_committed_is_noticed() {
    let history = BTreeMap::from([((service("web"), Generation(10)), release(1))]);
    let committed = |generation| Committed { generation: Generation(generation), release: release(1) };
    let truth = |generation| BTreeMap::from([(service("web"), committed(generation))]);
    let served = |generation, content| serving(&[("web", generation, content)]).applied;
    let check = |served| invariant::routes_only_to_committed(&host(), &served, &history);
    assert_eq!(check(served(10, 1)), Ok(()));
    expect(check(served(20, 2)), "S4", "h1 routes web to generation 20, never committed so");
    expect(check(served(10, 2)), "S4", "h1 routes web to generation 10, never committed so");
    assert_eq!(invariant::never_ahead(&host(), &served(10, 1), &truth(10)), Ok(()));
    assert_eq!(invariant::never_ahead(&host(), &served(8, 1), &truth(10)), Ok(()));
    let ahead = invariant::never_ahead(&host(), &served(12, 1), &truth(10));
    expect(ahead, "S4", "h1 is ahead of the store with web generation 12");
}

#[test]
fn a_write_of_a_stale_leader_is_noticed() {
    assert_eq!(invariant::only_the_leader_writes(Epoch(5), Epoch(5)), Ok(()));
    let stale = invariant::only_the_leader_writes(Epoch(5), Epoch(9));
    expect(stale, "S6", "epoch 5 wrote while epoch 9 led");
}

#[test]
fn half_a_group_is_noticed() {
    let services = BTreeMap::from([(service("api"), release(1)), (service("web"), release(1))]);
    let check = |held: &[(&str, &str)]| {
        let open = held.iter().map(|(name, holder)| (service(name), deployment(holder))).collect();
        invariant::groups_are_whole(&deployment("d2"), &services, &open)
    };
    assert_eq!(check(&[]), Ok(()));
    assert_eq!(check(&[("api", "d2"), ("web", "d2")]), Ok(()));
    assert_eq!(check(&[("web", "d3")]), Ok(()));
    expect(check(&[("web", "d2")]), "S9", "d2 holds 1 of its 2 services");
    expect(check(&[("api", "d2"), ("web", "d3")]), "S9", "d2 holds 1 of its 2 services");
    expect(check(&[("db", "d2")]), "S9", "d2 holds db, which is not among its services");
}

#[test]
fn an_acknowledgement_of_what_is_not_served_is_noticed() {
    let applied =
        |generation| Applied { incarnation: Incarnation(1), services: serving(&[("web", generation, 1)]).applied };
    let served = serving(&[("web", 10, 1)]).applied;
    let check = |generation| invariant::acknowledges_only_what_it_serves(&applied(generation), &served);
    assert_eq!(check(10), Ok(()));
    expect(check(20), "S10", "web generation 20 was acknowledged and is not served");
    let services = BTreeMap::from([(service("web"), release(1))]);
    let check =
        |generation| invariant::what_was_acknowledged_is_served(&host(), &served, &services, Generation(generation));
    assert_eq!(check(10), Ok(()));
    assert_eq!(check(8), Ok(()));
    expect(check(20), "S10", "h1 counts as serving web generation 20, and does not");
}

#[test]
fn serving_what_was_never_committed_is_noticed() {
    let history = BTreeMap::from([
        ((service("web"), Generation(10)), release(1)),
        ((service("api"), Generation(20)), release(2)),
    ]);
    let check = |record: Record| invariant::serves_only_committed(&host(), &record, &history);
    assert_eq!(check(serving(&[])), Ok(()));
    assert_eq!(check(serving(&[("api", 20, 2), ("web", 10, 1)])), Ok(()));
    expect(check(serving(&[("web", 20, 2)])), "S4", "h1 serves web generation 20, never committed so");
    expect(check(serving(&[("web", 10, 2)])), "S4", "h1 serves web generation 10, never committed so");
    expect(check(serving(&[("api", 20, 1), ("web", 10, 1)])), "S4", "h1 serves api generation 20, never committed so");
    // A promise is not served.
    assert_eq!(check(promised(20)), Ok(()));
}

#[test]
fn a_generation_that_falls_is_noticed() {
    let before = serving(&[("api", 8, 1), ("web", 10, 1)]);
    let check = |after: Record| invariant::generation_never_falls(&host(), &before, &after);
    assert_eq!(check(before.clone()), Ok(()));
    assert_eq!(check(serving(&[("api", 8, 1), ("new", 1, 1), ("web", 20, 2)])), Ok(()));
    expect(check(serving(&[("api", 8, 1), ("web", 9, 1)])), "S5", "h1 went back from web generation 10");
    expect(check(serving(&[("web", 10, 1)])), "S5", "h1 went back from api generation 8");
}

#[test]
fn what_users_see_going_back_is_noticed() {
    let before = serving(&[("web", 10, 1)]).applied;
    let check = |after: &Record| invariant::served_never_goes_back(&host(), &before, &after.applied);
    assert_eq!(check(&serving(&[("api", 1, 1), ("web", 10, 1)])), Ok(()));
    expect(check(&serving(&[("web", 9, 1)])), "S5", "h1 went back from web generation 10");
    expect(check(&serving(&[])), "S5", "h1 went back from web generation 10");
}

#[test]
fn serving_from_a_place_that_may_go_is_noticed() {
    let served = serving(&[("web", 10, 1)]).applied;
    let check = |colour| invariant::served_is_kept(&host(), &served, &BTreeSet::from([(service("web"), colour)]));
    assert_eq!(check(Colour::Blue), Ok(()));
    expect(check(Colour::Green), "S8", "h1 serves web from blue, which it would let go");
}

#[test]
fn a_generation_with_two_contents_is_noticed() {
    let before = serving(&[("web", 10, 1)]);
    let check = |after: Record| invariant::one_content_per_generation(&host(), &before, &after);
    assert_eq!(check(before.clone()), Ok(()));
    assert_eq!(check(serving(&[("web", 20, 2)])), Ok(()));
    expect(check(serving(&[("web", 10, 2)])), "S5", "h1 changed the content of web generation 10");
}

/// The same as `serving`, and by hand this.
fn holding(applied: &[(&str, u64, u8)], held: &[(&str, u64, u8)]) -> Record {
    Record { held: serving(held).applied, ..serving(applied) }
}

#[test]
fn holding_what_was_never_committed_is_noticed() {
    let history = BTreeMap::from([((service("web"), Generation(10)), release(1))]);
    let check = |held| invariant::serves_only_committed(&host(), &holding(&[("web", 10, 1)], held), &history);
    assert_eq!(check(&[("web", 10, 1)]), Ok(()));
    expect(check(&[("web", 8, 1)]), "S4", "h1 serves web generation 8, never committed so");
}

#[test]
fn a_hold_that_outlives_the_next_generation_is_noticed() {
    let before = holding(&[("web", 10, 1)], &[("web", 8, 2)]);
    let check = |after: Record| invariant::a_hold_ends_with_the_next_generation(&host(), &before, &after);
    assert_eq!(check(before.clone()), Ok(()));
    assert_eq!(check(serving(&[("web", 20, 3)])), Ok(()));
    expect(check(holding(&[("web", 20, 3)], &[("web", 8, 2)])), "S5", "h1 holds web generation 8 beyond its end");
    let ahead = holding(&[("web", 10, 1)], &[("web", 10, 2)]);
    expect(check(ahead), "S5", "h1 holds web generation 10, not older than applied");
}

#[test]
fn making_ready_in_the_place_that_serves_is_noticed() {
    let served = serving(&[("web", 10, 1)]).applied;
    let check = |colour| {
        let coming = BTreeMap::from([(service("web"), Slot { colour, ..slot(20, 2) })]);
        invariant::makes_ready_beside_what_serves(&host(), &coming, &served)
    };
    assert_eq!(check(Colour::Green), Ok(()));
    expect(check(Colour::Blue), "S7", "h1 makes web ready at blue, which takes its traffic");
}

#[test]
fn a_host_that_is_not_where_the_store_is_is_noticed() {
    let truth = |generation, content| Committed { generation: Generation(generation), release: release(content) };
    let committed = BTreeMap::from([(service("api"), truth(8, 1)), (service("web"), truth(10, 1))]);
    let check = |record: Record| invariant::converged(&host(), &record, &committed);
    assert_eq!(check(serving(&[("api", 8, 1), ("web", 10, 1)])), Ok(()));
    expect(check(serving(&[("web", 10, 1)])), "L2", "h1 does not serve api generation 8");
    expect(check(serving(&[("api", 8, 1), ("web", 9, 1)])), "L2", "h1 does not serve web generation 10");
    expect(check(serving(&[("api", 8, 1), ("web", 10, 2)])), "L2", "h1 does not serve web generation 10");
    let in_doubt = Record { prepared: promised(20).prepared, ..serving(&[("api", 8, 1), ("web", 10, 1)]) };
    expect(check(in_doubt), "L3", "h1 is still in doubt");
}

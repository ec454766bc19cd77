//! When a host may follow a store, as a table.

use cutover::history::{Chronicle, HistoryId, Reign, Seen, Standing};
use cutover::{Epoch, Revision};
use std::collections::BTreeSet;

const OURS: HistoryId = HistoryId(1);

fn reign(epoch: u64) -> Reign {
    Reign { epoch: Epoch(epoch), mark: epoch * 10 }
}

fn store(reigns: &[u64], revision: u64) -> Chronicle {
    let reigns = reigns.iter().map(|epoch| reign(*epoch)).collect();
    Chronicle { history: OURS, replaces: BTreeSet::new(), reigns, revision: Revision(revision) }
}

fn heard(epoch: u64, revision: u64) -> Seen {
    Seen { history: OURS, reign: reign(epoch), revision: Revision(revision) }
}

fn standing(store: &Chronicle, seen: Seen) -> Standing {
    store.standing(Some(&seen))
}

fn went_back(forgotten_from: u64) -> Standing {
    Standing::WentBack { forgotten_from: Revision(forgotten_from) }
}

#[test]
fn a_host_that_never_followed_any_follows() {
    assert_eq!(store(&[2], 3).standing(None), Standing::Follows);
}

#[test]
fn a_store_that_went_on_is_followed_however_often_the_leader_changed() {
    let store = store(&[2, 30, 40], 50);
    for seen in [heard(2, 3), heard(2, 29), heard(30, 39), heard(40, 41), heard(40, 50)] {
        assert_eq!(standing(&store, seen), Standing::Follows, "{seen:?}");
    }
}

#[test]
fn a_store_that_went_back_is_noticed_also_after_it_has_written_far_beyond_what_was_heard() {
    // The copy is of revision 20; since it was put back, another leader was elected at 22.
    let put_back = store(&[2, 22], 5_000);
    assert_eq!(standing(&put_back, heard(2, 20)), Standing::Follows);
    assert_eq!(standing(&put_back, heard(2, 22)), went_back(22));
    assert_eq!(standing(&put_back, heard(2, 4_000)), went_back(22));
    // Heard in a reign that the copy never had.
    assert_eq!(standing(&put_back, heard(30, 35)), went_back(30));
}

#[test]
fn a_reign_of_a_copy_is_not_taken_for_the_one_of_the_same_epoch() {
    let store = store(&[2, 30], 100);
    let other = Seen { reign: Reign { epoch: Epoch(30), mark: 7 }, ..heard(30, 35) };
    assert_eq!(standing(&store, other), went_back(30));
}

#[test]
fn a_revision_beyond_the_present_one_was_heard_from_another_copy() {
    assert_eq!(standing(&store(&[2], 20), heard(2, 21)), went_back(21));
    assert_eq!(standing(&store(&[2], 20), heard(2, 20)), Standing::Follows);
}

#[test]
fn a_reign_that_was_let_go_of_is_judged_by_the_oldest_that_is_kept() {
    let store = store(&[200, 300], 400);
    assert_eq!(standing(&store, heard(150, 199)), Standing::Follows);
    assert_eq!(standing(&store, heard(150, 200)), went_back(200));
}

#[test]
fn another_history_is_followed_only_when_a_person_said_that_it_replaces_ours() {
    let foreign = Chronicle { history: HistoryId(2), ..store(&[2], 1_000) };
    assert_eq!(standing(&foreign, heard(2, 3)), Standing::Foreign);
    assert!(!Standing::Foreign.may_obey());
    let confirmed = Chronicle { replaces: BTreeSet::from([OURS]), ..foreign };
    assert_eq!(standing(&confirmed, heard(2, 3)), Standing::Replaces);
    assert!(Standing::Replaces.may_obey());
}

#[test]
fn what_is_remembered_is_followed_as_long_as_the_store_stays() {
    let now = store(&[2, 22], 25);
    let seen = now.seen(Revision(25)).expect("somebody leads");
    assert_eq!(standing(&now, seen), Standing::Follows);
    assert_eq!(standing(&store(&[2, 22, 26], 27), seen), Standing::Follows);
    assert_eq!(standing(&store(&[2, 22], 24), seen), went_back(25));
}

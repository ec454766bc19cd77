//! `bgctl controllers` and `bgctl store confirm`: who leads, who lags, who is not there, and how the store is.

use crate::connection::nobody;
use crate::fake::{Call, Fake};
use crate::run::{Ended, run};
use bgctl_proto::operator::{
    ConfirmStoreReply, Controller, ControllersReply, ForgetControllerReply, ForgetControllerRequest, KnownController,
    Store, StoreMember,
};
use std::sync::Arc;
use tonic::Status;

const MIB: u64 = 1024 * 1024;
const OLD: &str = "etcd 3.4.23 at https://10.0.0.1:2379 is older than 3.6.9: after a pause of its leader its reads may \
                   be stale, and 3.4 and older get no corrections any more; upgrade it";
const HISTORY: &str = "9f86d081884c7d659a2feaa0c55ad015";

/// Three controllers that know of each other: the first leads, the second lags, and nobody is where the third should be.
struct Trio {
    leader: Fake,
    follower: Fake,
    gone: String,
}

fn own(name: &str, address: String) -> Controller {
    Controller {
        name: name.into(),
        address,
        version: "0.1.0".into(),
        leads: false,
        epoch: 40,
        leader: "10.0.0.1:7443".into(),
        since_millis: 184_000,
        revision: 99,
        newest_revision: 99,
        store_age_millis: Some(300),
    }
}

fn member(number: u64) -> StoreMember {
    StoreMember {
        name: format!("etcd-{number}"),
        address: format!("https://10.0.0.{number}:2379"),
        version: "3.6.9".into(),
        size_bytes: 2000 * MIB,
        in_use_bytes: 3 * MIB,
        leads: number == 2,
        trouble: String::new(),
    }
}

/// A store that has everything that can be wrong with one.
fn troubled() -> Store {
    let silent = StoreMember {
        trouble: "Connection refused".into(),
        version: String::new(),
        size_bytes: 0,
        in_use_bytes: 0,
        ..member(3)
    };
    Store {
        kind: "etcd".into(),
        members: vec![StoreMember { version: "3.4.23".into(), ..member(1) }, member(2), silent],
        size_bytes: 2000 * MIB,
        quota_bytes: 2048 * MIB,
        alarms: vec!["NOSPACE".into()],
        revision: 99,
        warnings: vec!["etcd is over its space quota; run: etcdctl alarm disarm".into(), OLD.into()],
    }
}

impl Trio {
    fn new() -> Self {
        let leader = Fake::new();
        let (follower, gone) = (Fake::with(Arc::clone(&leader.pki)), nobody());
        let named =
            |name: &str, address: String| KnownController { name: name.into(), address, version: "0.1.0".into() };
        let known = vec![named("c1", leader.address()), named("c2", follower.address()), named("c3", gone.clone())];
        let reply = |controller, store| ControllersReply {
            controller: Some(controller),
            known: known.clone(),
            store: Some(store),
        };
        let leads = Controller { leads: true, ..own("c1", leader.address()) };
        leader.answer(|answers| answers.controllers = Ok(reply(leads, troubled())));
        let lags = Controller { revision: 87, store_age_millis: Some(12_000), ..own("c2", follower.address()) };
        let as_seen_there = Store { kind: "not the leader's word".into(), ..Store::default() };
        follower.answer(|answers| answers.controllers = Ok(reply(lags, as_seen_there)));
        Self { leader, follower, gone }
    }

    /// Asks the follower alone: it knows the others.
    fn ask(&self, args: &[&str]) -> Ended {
        self.follower.run(&[&["controllers"], args].concat())
    }

    /// Ports are drawn anew each time, and are as long as these.
    fn tamed(&self, text: &str) -> String {
        let named = [self.leader.address(), self.follower.address(), self.gone.clone()];
        named.iter().zip(1..).fold(text.to_owned(), |text, (address, number)| {
            let port = address.rsplit(':').next().map_or(0, str::len);
            text.replace(address.as_str(), &format!("127.0.0.1:{number:0port$}"))
        })
    }
}

#[test]
fn who_leads_who_lags_who_is_gone_and_what_is_wrong_with_the_store() {
    let trio = Trio::new();
    let ended = trio.ask(&[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    insta::assert_snapshot!("controllers", trio.tamed(&ended.stdout));
    // Each is asked for its own word, once.
    assert_eq!((trio.leader.calls(), trio.follower.calls()), (vec![Call::Controllers], vec![Call::Controllers]));
}

#[test]
fn the_same_for_a_program() {
    let trio = Trio::new();
    let ended = trio.ask(&["--json"]);
    assert_eq!((ended.code, ended.stderr.as_str(), ended.stdout.lines().count()), (0, "", 1), "{ended:?}");
    let document = ended.json();
    let text = format!("{document:#}\n");
    insta::assert_snapshot!("json_controllers", trio.tamed(&text));
}

/// One controller with its file, and one that has not heard of its store since it started.
#[test]
fn a_store_in_a_file_and_one_that_was_never_reached() {
    let fake = Fake::new();
    let store = |kind: &str| Store { kind: kind.into(), size_bytes: 1600 * MIB, revision: 99, ..Store::default() };
    let leads = Controller { leads: true, ..own("c1", "10.0.0.1:7443".into()) };
    let silent = Controller { revision: 0, newest_revision: 0, store_age_millis: None, ..leads.clone() };
    for (name, controller) in [("controllers_alone", leads), ("controllers_blind", silent)] {
        let reply = ControllersReply { controller: Some(controller), known: vec![], store: Some(store("embedded")) };
        fake.answer(|answers| answers.controllers = Ok(reply));
        let ended = fake.run(&["controllers"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        insta::assert_snapshot!(name, ended.stdout);
    }
}

/// With nobody there at all there is nothing to show.
#[test]
fn nobody_answers() {
    let fake = Fake::new();
    let mut command = fake.known_as(&nobody(), &fake.pki.operator());
    command.arg("controllers");
    let ended = run(command);
    assert_eq!((ended.code, ended.stdout.as_str()), (5, ""), "{ended:?}");
    assert!(ended.stderr.contains("Connection refused"), "{}", ended.stderr);
}

#[test]
fn one_is_forgotten_or_it_is_said_why_not() {
    let fake = Fake::new();
    fake.answer(|answers| answers.forget_controller = Ok(ForgetControllerReply {}));
    let ended = fake.run(&["controllers", "--forget", "c3"]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "c3 is forgotten\n", ""), "{ended:?}");
    let document = fake.run(&["controllers", "--forget", "c3", "--json"]).json();
    assert_eq!(document, serde_json::json!({ "forgotten": "c3" }));
    let asked = Call::ForgetController(ForgetControllerRequest { name: "c3".into() });
    assert_eq!(fake.calls(), [asked.clone(), asked]);

    let no = Status::not_found("there is no controller c3; `bgctl controllers` lists all");
    fake.answer(|answers| answers.forget_controller = Err(no));
    let ended = fake.run(&["controllers", "--forget", "c3"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert_eq!(ended.stderr, "bgctl: refused: there is no controller c3; `bgctl controllers` lists all\n");
}

#[test]
fn a_store_is_confirmed_or_it_is_said_why_not() {
    let fake = Fake::new();
    let replaces = vec![HISTORY.chars().rev().collect()];
    let reply = ConfirmStoreReply { history: HISTORY.into(), replaces, revision: 1_000_000_025 };
    fake.answer(|answers| answers.confirm_store = Ok(reply));
    let ended = fake.run(&["store", "confirm"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    insta::assert_snapshot!("store_confirm", ended.stdout);
    insta::assert_snapshot!("json_store_confirm", format!("{:#}\n", fake.run(&["store", "confirm", "--json"]).json()));
    assert_eq!(fake.calls(), [Call::ConfirmStore, Call::ConfirmStore]);

    let no = Status::failed_precondition("there is nothing to confirm: no host doubts the store");
    fake.answer(|answers| answers.confirm_store = Err(no));
    let ended = fake.run(&["store", "confirm"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert_eq!(ended.stderr, "bgctl: refused: there is nothing to confirm: no host doubts the store\n");
}

//! Who is a host, and which store is followed: words of a person, each one question.

use crate::fake::{Call, Fake};
use bgctl_proto::operator::{
    ConfirmStoreReply, RemoveHostReply, RemoveHostRequest, ReplaceHostReply, ReplaceHostRequest, StatusReply,
};
use tonic::Status;

const LIFE: &str = "9f86d081884c7d659a2feaa0c55ad015";

fn willing() -> Fake {
    let fake = Fake::new();
    fake.answer(|answers| {
        answers.replace_host = Ok(ReplaceHostReply { before: LIFE.into(), now: LIFE.chars().rev().collect() });
        answers.remove_host = Ok(RemoveHostReply { before: LIFE.into() });
        let replaces = vec![LIFE.into()];
        answers.confirm_store = Ok(ConfirmStoreReply { history: LIFE.into(), replaces, revision: 1_000_000_025 });
    });
    fake
}

#[test]
fn each_asks_once_and_says_what_follows() {
    let host = || "h2".to_owned();
    let removing = |force| Call::RemoveHost(RemoveHostRequest { host: host(), force });
    let cases: [(&[&str], Call, &str); 4] = [
        (&["hosts", "replace", "h2"], Call::ReplaceHost(ReplaceHostRequest { host: host() }), "h2: replaced"),
        (&["hosts", "remove", "h2"], removing(false), "h2: removed"),
        (&["hosts", "remove", "h2", "--force"], removing(true), "h2: removed"),
        (&["store", "confirm"], Call::ConfirmStore, "from revision 1000000025 on"),
    ];
    for (args, call, told) in cases {
        let fake = willing();
        let ended = fake.run(args);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{args:?}: {ended:?}");
        assert!(ended.stdout.contains(told), "{args:?}: {}", ended.stdout);
        assert_eq!(fake.calls(), [call]);
        let document = willing().run(&[args, &["--json"]].concat()).json();
        assert!(document["host"] == "h2" || document["history"] == LIFE, "{document}");
    }
}

#[test]
fn a_no_is_shown_with_its_words() {
    let fake = Fake::new();
    let no = Status::failed_precondition("no other agent has asked to be h2 within the last minute");
    fake.answer(|answers| answers.replace_host = Err(no));
    let ended = fake.run(&["hosts", "replace", "h2"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert!(ended.stderr.contains("no other agent has asked to be h2"), "{}", ended.stderr);
}

#[test]
fn doubt_about_the_store_is_the_first_thing_that_status_says() {
    let fake = Fake::new();
    let store_doubt = "h1 has heard revision 22: run `bgctl store confirm`".to_owned();
    fake.answer(|answers| answers.status = Ok(StatusReply { store_doubt, ..StatusReply::default() }));
    let ended = fake.run(&["status"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.starts_with("THE STORE IS IN DOUBT  h1 has heard revision 22"), "{}", ended.stdout);
}

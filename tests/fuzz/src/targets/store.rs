//! What a controller finds in its store after somebody, or something, has been at it.

use crate::Verdict;
use crate::bytes::{Bytes, put_chunk};
use crate::fixture::{self, HOSTS, Lead};
use bgctl_controller::ledger::Truth;
use bgctl_controller::planner::state_for;
use bgctl_controller::store::Range;
use cutover::ids::HostId;
use std::collections::BTreeSet;

/// Values that are changed in one case.
const CHANGES_MAX: usize = 4;

/// A value that cannot be read is an error that names its key, and the controller does not lead; with a store
/// that can be read it leads, tells every host what it should serve, and none of its tasks falls over.
pub fn store(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    let shelf = fixture::shelf();
    let keys: Vec<_> = shelf.all().entries.into_iter().map(|entry| entry.key).collect();
    let mut changed = BTreeSet::new();
    for _ in 0..=bytes.below(CHANGES_MAX) {
        if bytes.is_empty() {
            break;
        }
        let known = &keys[bytes.below(keys.len())];
        let mut value = value_of(&shelf.all(), known);
        change(&mut value, &mut bytes);
        let key = match bytes.below(4) {
            0 => bytes.text(known),
            _ => known.clone(),
        };
        shelf.put(&key, value);
        changed.insert(key);
    }
    fixture::run(async {
        let lead = Lead::on(&shelf).await;
        let read = Truth::read(&shelf.all());
        let verdict = match (&read, &lead.leader) {
            (Err(error), None) => {
                assert!(changed.contains(&error.key), "{error} was not touched; {changed:?} were");
                Verdict::Refused
            }
            (Ok(_), Some(leader)) => {
                for (host, life) in HOSTS {
                    let host: HostId = host.parse().expect("a host");
                    drop(fixture::link(leader, &host, life));
                    if let Err(error) = state_for(&leader.ledger, &host) {
                        panic!("it leads, and cannot tell a host what to serve: {error}");
                    }
                }
                fixture::let_all_run().await;
                Verdict::Accepted
            }
            (Err(error), Some(_)) => panic!("it leads, and cannot read: {error}"),
            (Ok(_), None) => panic!("it can read, and does not lead"),
        };
        lead.end().await;
        verdict
    })
}

fn value_of(range: &Range, key: &str) -> Vec<u8> {
    let entry = range.entries.iter().find(|entry| entry.key == key);
    entry.map(|entry| entry.value.clone()).unwrap_or_default()
}

/// One change: of a bit, of a piece, or of what one field of the record says.
fn change(value: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let at = usize::from(bytes.short()) % (value.len() + 1);
    match bytes.below(6) {
        0 => value.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bytes.below(8)),
        1 => value.truncate(at),
        2 => drop(value.splice(at..at, bytes.chunk().iter().copied())),
        3 => *value = bytes.chunk().to_vec(),
        _ => {
            let new = leaf(bytes);
            if let Ok(mut tree) = serde_json::from_slice::<serde_json::Value>(value) {
                let mut steps = at;
                replace(&mut tree, &mut steps, &new);
                *value = tree.to_string().into_bytes();
            }
        }
    }
}

fn leaf(bytes: &mut Bytes<'_>) -> serde_json::Value {
    match bytes.below(6) {
        0 => bytes.number().into(),
        1 => serde_json::Value::Null,
        2 => serde_json::Value::Array(Vec::new()),
        3 => serde_json::Value::Object(serde_json::Map::new()),
        _ => bytes.text("").into(),
    }
}

/// Puts `new` at the node which comes `steps` after this one, counting round; true once it is done.
fn replace(tree: &mut serde_json::Value, steps: &mut usize, new: &serde_json::Value) -> bool {
    let count = nodes(tree);
    *steps %= count;
    if *steps == 0 {
        *tree = new.clone();
        return true;
    }
    *steps -= 1;
    let children: Vec<&mut serde_json::Value> = match tree {
        serde_json::Value::Array(items) => items.iter_mut().collect(),
        serde_json::Value::Object(entries) => entries.values_mut().collect(),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => Vec::new(),
    };
    for child in children {
        let inside = nodes(child);
        if *steps < inside {
            return replace(child, steps, new);
        }
        *steps -= inside;
    }
    false
}

fn nodes(tree: &serde_json::Value) -> usize {
    1 + match tree {
        serde_json::Value::Array(items) => items.iter().map(nodes).sum::<usize>(),
        serde_json::Value::Object(entries) => entries.values().map(nodes).sum(),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => 0,
    }
}

/// Every value broken in every way, every field of every record replaced, and keys nobody writes.
pub fn seeds() -> Vec<Vec<u8>> {
    let entries = fixture::shelf().all().entries;
    let mut seeds = vec![Vec::new()];
    for (entry, index) in entries.iter().zip(0_u8..) {
        let mut push = |at: u16, rest: &[u8]| {
            let [low, high] = at.to_le_bytes();
            seeds.push([&[0, index, low, high], rest].concat());
        };
        for at in [0, 1, 2, 5, 20, 60] {
            push(at, &[0, 5, 1]);
            push(at, &[1, 1]);
            push(at, &[2, 1, b'x', 1]);
        }
        push(0, &[3, 0, 1]);
        push(0, &[3, 2, b'{', b'}', 1]);
        push(0, &[3, 4, 0xff, 0xfe, 0, b'"', 1]);
        push(0, &[3, 4, b'n', b'u', b'l', b'l', 1]);
        let tree = serde_json::from_slice::<serde_json::Value>(&entry.value);
        let fields = tree.map_or(0, |tree| nodes(&tree));
        for field in 1..u16::try_from(fields).unwrap_or(u16::MAX) {
            // The place is counted round the bytes of the value first: no record has more fields than bytes.
            push(field, &[4, 4, 0, 1]);
            push(field, &[4, 4, 5, b'A', b' ', b'/', b'"', b'\n', 1]);
            push(field, &[4, 4, 3, b'a', b'p', b'i', 1]);
            push(field, &[4, 0, 2, 1]);
            push(field, &[4, 3, 1]);
        }
        for key in [
            "agent/",
            "agent/Host",
            "spec/api/x",
            "svc/api",
            "svc/",
            "pending/api",
            "pending/x",
            "deploy/x",
            "history/web",
            "history/web/1/2",
            "history/web/18446744073709551616",
            "req/",
            "members/x",
            "nobody/knows",
        ] {
            let mut rest = vec![2, 0, 0];
            put_chunk(&mut rest, key.as_bytes());
            push(0, &rest);
        }
    }
    seeds
}

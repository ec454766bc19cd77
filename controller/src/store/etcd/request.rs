//! Our types in etcd's words, and back.

use super::super::{Change, Entry, Field, Guard, Operation, Reply, Transaction};
use etcd_client::{
    Compare, CompareOp, Event, EventType, KeyValue, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

/// A transaction under the prefix.
pub(super) fn txn(transaction: &Transaction, prefix: &str) -> Txn {
    let full = |key: &str| format!("{prefix}{key}");
    let operations = transaction.operations.iter().map(|operation| match operation {
        Operation::Put(key, value) => TxnOp::put(full(key), value.clone(), None),
        Operation::Delete(key) => TxnOp::delete(full(key), None),
    });
    let reads = transaction.otherwise.iter().map(|key| TxnOp::get(full(key), None));
    Txn::new()
        .when(transaction.guards.iter().map(|guard| compare(guard, prefix)).collect::<Vec<_>>())
        .and_then(operations.collect::<Vec<_>>())
        .or_else(reads.collect::<Vec<_>>())
}

/// Equal to what the guard says.
pub(super) fn compare(guard: &Guard, prefix: &str) -> Compare {
    let key = format!("{prefix}{}", guard.key);
    // etcd's revisions are signed; what does not fit equals none of them.
    let equals = i64::try_from(guard.equals).unwrap_or(i64::MAX);
    match guard.field {
        Field::CreateRevision => Compare::create_revision(key, CompareOp::Equal, equals),
        Field::ModRevision => Compare::mod_revision(key, CompareOp::Equal, equals),
    }
}

/// The answer to a transaction. None if it lacks its revision.
pub(super) fn reply(answer: &TxnResponse, prefix: &str) -> Option<Reply> {
    let revision = revision(answer.header())?;
    if answer.succeeded() {
        return Some(Reply::Done { revision });
    }
    let mut read = Vec::new();
    for response in answer.op_responses() {
        match response {
            TxnOpResponse::Get(found) => read.extend(entries(found.kvs(), prefix)),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => {}
        }
    }
    Some(Reply::Refused { revision, read })
}

/// The revision of the store when it answered.
pub(super) fn revision(header: Option<&ResponseHeader>) -> Option<u64> {
    header.map(|header| unsigned(header.revision()))
}

/// Keys without the prefix, in etcd's order, which is ours.
pub(super) fn entries(pairs: &[KeyValue], prefix: &str) -> Vec<Entry> {
    pairs.iter().map(|pair| entry(pair, prefix)).collect()
}

/// A change, without the prefix. None for an event without a key, which etcd does not send.
pub(super) fn change(event: &Event, prefix: &str) -> Option<Change> {
    let pair = event.kv()?;
    let entry = entry(pair, prefix);
    Some(match event.event_type() {
        EventType::Put => Change::Put(entry),
        EventType::Delete => Change::Deleted { key: entry.key, revision: entry.mod_revision },
    })
}

/// etcd's revisions are signed and never negative.
pub(super) fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn entry(pair: &KeyValue, prefix: &str) -> Entry {
    let key = String::from_utf8_lossy(pair.key());
    Entry {
        key: key.strip_prefix(prefix).unwrap_or(&key).to_owned(),
        value: pair.value().to_vec(),
        create_revision: unsigned(pair.create_revision()),
        mod_revision: unsigned(pair.mod_revision()),
    }
}

//! What both implementations refuse before they start. A transaction that one of them takes must be taken
//! by the other, or moving from the file to etcd would break what used to work.

use super::{
    KEY_BYTES_MAX, Operation, StoreError, TRANSACTION_BYTES_MAX, TRANSACTION_KEYS_MAX, Transaction, VALUE_BYTES_MAX,
};
use std::collections::HashSet;

/// Refuses what etcd would refuse, in words that name the key and the limit.
pub(super) fn check(transaction: &Transaction) -> Result<(), StoreError> {
    let parts = [
        ("guards", transaction.guards.len()),
        ("operations", transaction.operations.len()),
        ("keys to read", transaction.otherwise.len()),
    ];
    for (what, count) in parts {
        if count > TRANSACTION_KEYS_MAX {
            return refused(format!(
                "a transaction of {count} {what}, and {TRANSACTION_KEYS_MAX} is the limit; change fewer services at once"
            ));
        }
    }
    let mut bytes = 0;
    for guard in &transaction.guards {
        bytes += key(&guard.key)?;
    }
    for name in &transaction.otherwise {
        bytes += key(name)?;
    }
    for operation in &transaction.operations {
        bytes += key(operation.key())?;
        let size = operation.value_bytes();
        if size > VALUE_BYTES_MAX {
            let key = operation.key();
            return refused(format!("the value of `{key}` has {size} bytes, and {VALUE_BYTES_MAX} is the limit"));
        }
        bytes += size;
    }
    if bytes > TRANSACTION_BYTES_MAX {
        return refused(format!(
            "a transaction of {bytes} bytes, and {TRANSACTION_BYTES_MAX} is the limit; change fewer services at once"
        ));
    }
    written_once(&transaction.operations)
}

/// What is put may not be touched a second time, because the order within one revision has no meaning.
fn written_once(operations: &[Operation]) -> Result<(), StoreError> {
    let mut put = HashSet::new();
    let mut deleted = HashSet::new();
    for operation in operations {
        let twice = match operation {
            Operation::Put(key, _) => !put.insert(key) || deleted.contains(key),
            Operation::Delete(key) => {
                deleted.insert(key);
                put.contains(key)
            }
        };
        if twice {
            return refused(format!("`{}` is written twice in one transaction", operation.key()));
        }
    }
    Ok(())
}

fn key(key: &str) -> Result<usize, StoreError> {
    match key.len() {
        0 => refused("an empty key".to_owned()),
        bytes if bytes > KEY_BYTES_MAX => {
            let start: String = key.chars().take(40).collect();
            refused(format!("the key `{start}...` has {bytes} bytes, and {KEY_BYTES_MAX} is the limit"))
        }
        bytes => Ok(bytes),
    }
}

fn refused<T>(detail: String) -> Result<T, StoreError> {
    Err(StoreError::Refused { detail })
}

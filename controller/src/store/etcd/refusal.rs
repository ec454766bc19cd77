//! What an error of etcd says about the write. Only what etcd surely did not apply is a refusal; all else is unknown.

use super::super::StoreError;
use etcd_client::Error;
use std::error::Error as _;
use std::io;
use tonic::{Code, ConnectError};

/// etcd's words when it is full.
pub(super) const NO_SPACE: &str = "database space exceeded";

/// Words of etcd and what they mean for the one who reads the message. Each is said before, or instead of, applying.
const REFUSALS: [(Code, &str, &str); 2] = [
    (Code::ResourceExhausted, NO_SPACE, "etcd is over its space quota. Do not restart the controllers, and make room"),
    (
        Code::PermissionDenied,
        "permission denied",
        "give the controller's user a role with read and write on the prefix",
    ),
];

/// etcd's words for a lease it does not know.
const LEASE_GONE: &str = "requested lease not found";

/// Turns an error into ours.
pub(super) fn classify(error: &Error, endpoints: &[String]) -> StoreError {
    let servers = endpoints.join(", ");
    if let Error::GRpcStatus(status) = error {
        let refusal =
            REFUSALS.iter().find(|(code, words, _)| status.code() == *code && status.message().contains(words));
        if let Some((_, _, help)) = refusal {
            return StoreError::Refused { detail: format!("etcd at {servers}: {}; {help}", status.message()) };
        }
        // Too many operations, too large, a key twice: found before etcd proposes it to anyone.
        if status.code() == Code::InvalidArgument {
            return StoreError::Refused { detail: format!("etcd at {servers}: {}", status.message()) };
        }
    }
    StoreError::Unknown { detail: format!("etcd at {servers}: {}", chain(error)) }
}

/// Is the revision gone?
pub(super) fn is_compacted(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.code() == Code::OutOfRange && status.message().contains("has been compacted"))
}

/// Is the revision still to come?
pub(super) fn is_future(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.code() == Code::OutOfRange && status.message().contains("is a future revision"))
}

/// Is the lease gone?
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.code() == Code::NotFound && status.message().contains(LEASE_GONE))
}

/// True only if no connection was made, so that nothing can have been received.
pub(super) fn was_not_sent(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused = error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
        if refused || error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The whole cause: "transport error" alone helps nobody.
fn chain(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut words = format!("{} ({:?})", status.message(), status.code());
    let mut cause = status.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !words.contains(&next) {
            words = format!("{words}: {next}");
        }
        cause = error.source();
    }
    words
}

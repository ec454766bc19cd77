//! One call to the daemon: its limit, and what its failure means.

use super::EngineError;
use bollard::errors::Error;
use std::future::Future;
use std::time::Duration;

/// Why a call gave no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The daemon answered with an HTTP status of 400 or more. The caller knows what that means there.
    Status {
        operation: String,
        code: u16,
        message: String,
    },
    Engine(EngineError),
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Status { operation, message, .. } => Self::Refused { operation, detail: message },
            Failure::Engine(error) => error,
        }
    }
}

/// Waits for the answer, but not longer than `limit`.
pub(super) async fn within<T>(
    operation: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failure(operation, error)),
        Err(_) => Err(Failure::Engine(unresponsive(operation, limit))),
    }
}

pub(super) fn unresponsive(operation: &str, limit: Duration) -> EngineError {
    EngineError::Unresponsive { operation: operation.to_owned(), limit }
}

pub(super) fn failure(operation: &str, error: Error) -> Failure {
    let operation = operation.to_owned();
    if let Error::DockerResponseServerError { status_code, message } = error {
        return Failure::Status { operation, code: status_code, message };
    }
    if let Error::DockerStreamError { error } = error {
        return Failure::Engine(EngineError::Refused { operation, detail: error });
    }
    let lost = matches!(
        error,
        Error::SocketNotFoundError(_)
            | Error::HyperLegacyError { .. }
            | Error::HyperResponseError { .. }
            | Error::IOError { .. }
    );
    let detail = chain(&error);
    Failure::Engine(match lost {
        true => EngineError::Unreachable { detail },
        false => EngineError::Refused { operation, detail },
    })
}

/// An error with its causes, because the library's outermost words are only "client error (Connect)".
/// Transparent wrappers repeat their cause's words; those are said once.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// Whether a text can stand in a request's path: the library does not escape it.
pub(super) fn checked<'a>(what: &'static str, text: &'a str) -> Result<&'a str, EngineError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    if text.is_empty() || !text.bytes().all(plain) || text.split('/').any(|part| part.is_empty() || part == "..") {
        let text: String = text.chars().take(120).collect();
        return Err(EngineError::Refused {
            operation: format!("looking at {what} {text:?}"),
            detail: format!("this is not the name or id of {what}"),
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_reach_another_part_of_the_api_are_refused() {
        for name in ["web", "demo/web:v1", "r.example:5000/a/b@sha256:00ff", "sha256:00ff"] {
            assert_eq!(checked("an image", name), Ok(name));
        }
        for name in ["", "a b", "a?b", "a#b", "../containers/x", "a/../b", "a//b", "/a", "a%2fb", "ä"] {
            assert!(checked("an image", name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        let error = Error::from(std::io::Error::other("broken pipe"));
        assert_eq!(chain(&error), "broken pipe");
    }
}

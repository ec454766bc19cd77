//! How our programs end: the whole chain of causes once, on one line, and an exit code.

use std::error::Error;
use std::process::ExitCode;

/// Says on stderr why it did not work, if it did not.
pub fn exit(program: &str, outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("{program}: {error:#}");
        ExitCode::FAILURE
    })
}

/// An error with all its causes.
pub fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

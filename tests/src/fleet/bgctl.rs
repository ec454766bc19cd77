//! The command line, as a person or a script would run it.

use super::{Fleet, FleetError};
use crate::workspace::program;
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Longer than any deployment of the sample service may take.
const LIMIT: Duration = Duration::from_secs(120);

/// One run of `bgctl`.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The arguments.
    pub arguments: String,
    /// Its exit code. None: a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
    /// From just before its start to its exit.
    pub took: Duration,
}

impl Fleet {
    /// `bgctl` with the operator's settings, to be run as the caller likes. It dies with the handle.
    ///
    /// # Errors
    /// When it was not built.
    pub fn bgctl_command(&self, arguments: &[&str]) -> Result<Command, FleetError> {
        let mut command = Command::new(program("bgctl")?);
        command.env("BGCTL_CONTROLLERS", self.plan.controllers());
        command.env("BGCTL_IDENTITY", self.plan.operator_identity());
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Runs `bgctl` to its end, whatever its exit code.
    ///
    /// # Errors
    /// When it was not built or cannot be started; [`FleetError::Deadline`] after 120 s.
    pub async fn bgctl(&self, arguments: &[&str]) -> Result<Ran, FleetError> {
        let arguments_text = arguments.join(" ");
        let mut command = self.bgctl_command(arguments)?;
        let start = Instant::now();
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let took = start.elapsed();
        let what = format!("bgctl {arguments_text}");
        let output = output.map_err(|_| FleetError::Deadline { what: format!("the end of {what}"), limit: LIMIT })?;
        let output = output.map_err(|error| FleetError::Program { what, detail: error.to_string() })?;
        Ok(Ran {
            arguments: arguments_text,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took,
        })
    }
}

impl Ran {
    /// Itself, if the exit code is 0.
    ///
    /// # Errors
    /// [`FleetError::Program`] with what it said.
    pub fn success(self) -> Result<Self, FleetError> {
        if self.code == Some(0) {
            return Ok(self);
        }
        Err(FleetError::Program { what: format!("bgctl {}", self.arguments), detail: self.short() })
    }

    /// The one JSON document on stdout. None: it is none.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.stdout).ok()
    }

    /// The JSON lines on stdout; what is none is left out.
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The last line of a deployment's `--json`: how it ended. None: there is no such line.
    pub fn result(&self) -> Option<Value> {
        self.json_lines().pop().filter(|line| line["event"] == "result")
    }

    /// Exit code and words, for an error.
    pub fn short(&self) -> String {
        let code = self.code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
        format!("{code}; {} {}", self.stdout.trim(), self.stderr.trim())
    }
}

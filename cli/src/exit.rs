//! How a command ends, as its exit code; and the one table from errors to exit codes.

use crate::client::CallError;
use crate::commands::apply::SpecFileError;
use crate::render::line::Line;
use crate::settings::SettingsError;
use std::io;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is so. For a deployment: every host it rests on serves the version.
    Done,
    /// The deployment is decided for the version, but not every host that took part serves it yet. They go on
    /// trying by themselves.
    Incomplete,
    /// An error nobody expected, in `bgctl` or in the controller.
    Internal,
    /// Bad arguments, an invalid spec, an unknown name, no permission, or not possible as things stand.
    /// Nothing was started.
    Refused,
    /// The deployment failed before the switch: nothing changed.
    Aborted,
    /// The deployment switched and was taken back: the version from before serves again.
    RolledBack,
    /// No controller answered, or the connection was lost and not got back. What was started goes on.
    Unreachable,
    /// Ctrl-C. What was started goes on.
    Interrupted,
}

/// What `--help` says about exit codes.
pub const HELP: &str = "\
Exit codes:
  0    done; a deployment: every host serves the version, except those that
       the result names as left out, which catch up by themselves
  1    an error nobody expected, here or in the controller
  2    refused: bad arguments, invalid spec, unknown name, no permission,
       or not possible as things stand; nothing was started
  3    the deployment failed and nothing changed (aborted)
  4    the deployment failed and was rolled back
  5    unreachable: no controller answered, or the connection was lost and
       did not come back; a running deployment goes on by itself
  6    decided and served, but a host that took part does not serve the
       version yet: the result names it with its reason; it is not ready,
       and goes on trying by itself
  130  interrupted (Ctrl-C); a running deployment goes on by itself";

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Internal => 1,
            Self::Refused => 2,
            Self::Aborted => 3,
            Self::RolledBack => 4,
            Self::Unreachable => 5,
            Self::Incomplete => 6,
            Self::Interrupted => 130,
        }
    }

    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::Internal => "internal",
            Self::Refused => "refused",
            Self::Aborted => "aborted",
            Self::RolledBack => "rolled_back",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments make no sense together, or the identity is not there.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The spec's file.
    #[error(transparent)]
    SpecFile(#[from] SpecFileError),
    /// The controller said no, or nothing.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Not even started.
    #[error("cannot start: {cause}")]
    Runtime {
        /// As the system says.
        cause: io::Error,
    },
    /// The result has nowhere to go.
    #[error("cannot write the result to stdout: {0}")]
    Output(#[source] io::Error),
    /// An answer that cannot be shown.
    #[error("the controller's answer lacks {missing}; do bgctl and the controller have the same version?")]
    Answer {
        /// The field.
        missing: &'static str,
    },
}

impl Failure {
    /// The exit code it deserves.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::SpecFile(_) => Exit::Refused,
            Self::Call(CallError::Refused { .. }) => Exit::Refused,
            Self::Call(CallError::Unreachable { .. }) => Exit::Unreachable,
            Self::Call(CallError::Broken { .. } | CallError::Identity(_)) => Exit::Internal,
            Self::Runtime { .. } | Self::Output(_) | Self::Answer { .. } => Exit::Internal,
        }
    }

    /// What to tell a person, a line each.
    pub fn lines(&self) -> Vec<Line> {
        self.to_string().lines().map(Line::of).collect()
    }
}

//! One controller among several: its name, where clients reach it, and how both stand in the leader key.

use bgctl_proto::redirect::is_address;
use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes: that of a label of the DNS.
const NAME_BYTES_MAX: usize = 63;

/// A controller. As text `NAME HOST:PORT`, which is what the leader key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Unlike that of any other replica, and the same after a restart.
    pub name: String,
    /// Where agents and operators reach it, `HOST:PORT`.
    pub address: String,
}

/// Whether a text can name a replica: 1 to 63 of `A-Z a-z 0-9 _ . -`, beginning with a letter or digit.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.address)
    }
}

/// Not `NAME HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no replica: expected NAME HOST:PORT")]
pub struct ReplicaError {
    text: String,
}

impl FromStr for Replica {
    type Err = ReplicaError;
    fn from_str(text: &str) -> Result<Self, ReplicaError> {
        match text.split_once(' ') {
            Some((name, address)) if is_name(name) && is_address(address) => {
                Ok(Self { name: name.to_owned(), address: address.to_owned() })
            }
            Some(_) | None => Err(ReplicaError { text: text.to_owned() }),
        }
    }
}

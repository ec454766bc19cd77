//! Which texts may stand where. Each check names the characters it lets through, never those it refuses.

use std::fmt;
use std::str::FromStr;

/// Longest version, in bytes. Docker tags have at most 128; a spec may put `TAG_AROUND_BYTES_MAX` around it.
pub const VERSION_BYTES_MAX: usize = 96;

/// Longest text around `${VERSION}` in an image's tag, in bytes.
pub(crate) const TAG_AROUND_BYTES_MAX: usize = 128 - VERSION_BYTES_MAX;

/// Longest DNS name as text, in bytes (RFC 1035: 255 on the wire, with a length byte before each label and
/// one for the root).
const DNS_NAME_BYTES_MAX: usize = 253;

/// Longest DNS label, in bytes (RFC 1035).
const DNS_LABEL_BYTES_MAX: usize = 63;

/// Longest path of a health check, in bytes: well under nginx's and most servers' limit for a request line.
const PATH_BYTES_MAX: usize = 1024;

/// Longest name of an environment variable, in bytes: generous; names in use stay under 100.
const VARIABLE_BYTES_MAX: usize = 256;

/// What an operator calls a release: a Docker tag or part of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(String);

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "version {0:?} cannot be part of an image's tag: expected 1 to {VERSION_BYTES_MAX} of A-Z, a-z, 0-9, '_', '.' \
     and '-', starting with a letter, digit or '_'"
)]
pub struct VersionError(String);

impl Version {
    /// As long as one can be.
    pub(super) fn longest() -> Self {
        Self("v".repeat(VERSION_BYTES_MAX))
    }

    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.len() <= VERSION_BYTES_MAX && is_tag(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(VersionError(text.chars().take(2 * VERSION_BYTES_MAX).collect()))
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A Docker tag: 1 to 128 of `A-Z a-z 0-9 _ . -`, not starting with `.` or `-`.
pub(crate) fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && !text.starts_with(['.', '-'])
}

/// A DNS label in lower case, as container names are.
pub(crate) fn is_dns_label(text: &str) -> bool {
    is_host_label(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

/// A host name as in RFC 1123, in lower case, with one leading `*.` allowed.
pub(crate) fn server_name(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let fits = text.len() <= DNS_NAME_BYTES_MAX && name.split('.').all(is_host_label);
    fits.then(|| text.to_ascii_lowercase())
}

fn is_host_label(text: &str) -> bool {
    (1..=DNS_LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The path of a health check.
pub(crate) fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= PATH_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.~-".contains(&b))
}

/// The name of an environment variable: a shell's names, and the `.` and `-` that Java and .NET use.
pub(crate) fn is_variable(text: &str) -> bool {
    text.len() <= VARIABLE_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

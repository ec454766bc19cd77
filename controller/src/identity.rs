//! Who may speak: the fleet's own CA, and the certificates it makes for controllers, hosts and operators.
//!
//! What a certificate is for is in its extended key usage and checked by both ends: a host's certificate
//! cannot stand in for a controller, nor an operator's, nor a controller's for a host. Who it names is in its
//! alternative names, as `bgctl_proto::link::Peer` reads them.
//!
//! Certificates are renewed by making new ones; renewal by the agents themselves comes later.

mod authority;
mod files;
#[cfg(test)]
mod tests;

use crate::replica::is_name;
use authority::{Authority, Subject, Validity};
use bgctl_proto::link::CONTROLLER_NAME;
use cutover::ids::HostId;
use files::File;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Ten years: a new CA means a new certificate for every host at once.
pub const AUTHORITY_VALIDITY: Duration = DAY.saturating_mul(3650);

/// A year, for as long as nothing renews by itself. With renewal this becomes days.
pub const CERTIFICATE_VALIDITY: Duration = DAY.saturating_mul(365);

/// Certificates are valid from this long ago, for hosts whose clocks are behind.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2 * 3600);

/// Labels of a host at most: each makes its certificate, and with it every handshake, longer.
pub const LABELS_MAX: usize = 32;

/// Longest key and value of a label, and longest operator's name, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// The CA's certificate, in every identity folder.
pub const AUTHORITY_CERTIFICATE: &str = "ca.crt";
/// The CA's key, on the machine where certificates are made only.
pub const AUTHORITY_KEY: &str = "ca.key";
/// The controller's certificate and key.
pub const CONTROLLER_FILES: (&str, &str) = ("controller.crt", "controller.key");
/// A host's certificate and key.
pub const HOST_FILES: (&str, &str) = ("host.crt", "host.key");
/// An operator's certificate and key.
pub const OPERATOR_FILES: (&str, &str) = ("operator.crt", "operator.key");

/// Why an identity was not made. Nothing half made is left behind.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// There is one already.
    #[error(
        "{path} exists already, and no identity is ever overwritten; \
         use another folder, or move the old files away if nobody needs them"
    )]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// The CA's files are not there.
    #[error("there is no CA in {dir}; make one with `bgctl-controller init`, or name the folder where it is")]
    NoAuthority {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The CA's files cannot be used.
    #[error("the CA in {dir} cannot be used: {detail}")]
    Authority {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A name or label that cannot stand in a certificate.
    #[error("{what} {text:?} is malformed: expected {expected}")]
    Malformed {
        /// Operator, label.
        what: &'static str,
        /// As given.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file or folder could not be made.
    #[error("cannot {operation} {path}")]
    File {
        /// Create, write, rename, ...
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The certificate could not be made.
    #[error("cannot make the certificate of {subject}")]
    Certificate {
        /// Whose.
        subject: String,
        /// The cause.
        source: rcgen::Error,
    },
}

/// Makes a CA, a controller's identity and the first operator's, in `dir` and `dir/operators/NAME`. Answers
/// the operator's folder.
pub fn init(dir: &Path, operator: &str) -> Result<PathBuf, IssueError> {
    check_operator(operator)?;
    let (authority, key) = Authority::create(Validity::from_now(AUTHORITY_VALIDITY))?;
    let controller = Subject::Controller { name: "main".to_owned(), dns: CONTROLLER_NAME };
    let controller = authority.issue(&controller, Validity::from_now(CERTIFICATE_VALIDITY))?;
    let folder = operator_folder(dir, operator);
    files::ensure_absent(&[dir.join(AUTHORITY_CERTIFICATE), dir.join(AUTHORITY_KEY)])?;
    issue(&authority, &Subject::Operator { name: operator.to_owned() }, OPERATOR_FILES, &folder)?;
    let placed = files::place(
        dir,
        &[
            File::secret(CONTROLLER_FILES.1, controller.key),
            File::public(CONTROLLER_FILES.0, controller.certificate),
            File::secret(AUTHORITY_KEY, key),
            // Last: where this file is, the rest is.
            File::public(AUTHORITY_CERTIFICATE, authority.certificate().to_owned()),
        ],
    );
    if placed.is_err() {
        // Signed by a CA that never came to be.
        files::remove(&folder, &[OPERATOR_FILES.0, OPERATOR_FILES.1, AUTHORITY_CERTIFICATE]);
    }
    placed.map(|()| folder)
}

/// Makes a host's identity in the folder `out`, signed by the CA in `dir`. The labels are what specs select
/// hosts by; to change them, make a new identity.
pub fn issue_host(dir: &Path, host: &HostId, labels: &BTreeMap<String, String>, out: &Path) -> Result<(), IssueError> {
    if labels.len() > LABELS_MAX {
        let text = format!("number {}", labels.len());
        return Err(IssueError::Malformed { what: "label", text, expected: "at most 32 labels" });
    }
    for (key, value) in labels {
        if !is_label(key) || !is_label(value) {
            let expected = "KEY=VALUE, each 1 to 63 of A-Z, a-z, 0-9, '_', '.' and '-', starting and ending with a \
                            letter or digit";
            return Err(IssueError::Malformed { what: "label", text: format!("{key}={value}"), expected });
        }
    }
    let subject = Subject::Host { host: host.clone(), labels: labels.clone() };
    issue(&Authority::load(dir)?, &subject, HOST_FILES, out)
}

/// Makes another controller's identity in the folder `out`, signed by the CA in `dir`: for one more replica, or in
/// place of one that expires.
pub fn issue_controller(dir: &Path, name: &str, out: &Path) -> Result<(), IssueError> {
    if !is_name(name) {
        let expected = "1 to 63 of A-Z, a-z, 0-9, '_', '.' and '-', starting with a letter or digit";
        let text = name.chars().take(2 * LABEL_BYTES_MAX).collect();
        return Err(IssueError::Malformed { what: "controller", text, expected });
    }
    let subject = Subject::Controller { name: name.to_owned(), dns: CONTROLLER_NAME };
    issue(&Authority::load(dir)?, &subject, CONTROLLER_FILES, out)
}

/// Makes an operator's identity in the folder `out`, signed by the CA in `dir`.
pub fn issue_operator(dir: &Path, name: &str, out: &Path) -> Result<(), IssueError> {
    check_operator(name)?;
    issue(&Authority::load(dir)?, &Subject::Operator { name: name.to_owned() }, OPERATOR_FILES, out)
}

/// Where the identity of an operator made by [`init`] is.
pub fn operator_folder(dir: &Path, operator: &str) -> PathBuf {
    dir.join("operators").join(operator)
}

/// Whether a text can be a label's key or value: 1 to 63 of `A-Z a-z 0-9 _ . -`, with a letter or digit at
/// both ends.
pub fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.chars().all(|c| plain(c) || "_.-".contains(c))
        && text.starts_with(plain)
        && text.ends_with(plain)
}

fn issue(
    authority: &Authority,
    subject: &Subject,
    names: (&'static str, &'static str),
    out: &Path,
) -> Result<(), IssueError> {
    let made = authority.issue(subject, Validity::from_now(CERTIFICATE_VALIDITY))?;
    files::place(
        out,
        &[
            File::public(AUTHORITY_CERTIFICATE, authority.certificate().to_owned()),
            File::public(names.0, made.certificate),
            // Last: where this file is, the rest is.
            File::secret(names.1, made.key),
        ],
    )
}

/// An operator's name becomes part of a path and of a URI.
fn check_operator(name: &str) -> Result<(), IssueError> {
    let inside = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.@-".contains(c));
    let start = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if inside && start && name.len() <= LABEL_BYTES_MAX {
        return Ok(());
    }
    let expected = "1 to 63 of A-Z, a-z, 0-9, '_', '.', '@' and '-', starting with a letter or digit";
    Err(IssueError::Malformed { what: "operator", text: name.chars().take(2 * LABEL_BYTES_MAX).collect(), expected })
}

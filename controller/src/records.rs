//! What is written in the store: JSON a person can read, under keys a person can list.
//!
//! | key | value | written by |
//! |---|---|---|
//! | `leader` | [`Replica`](crate::replica::Replica) | the election; its create revision is the epoch |
//! | `replica/NAME` | [`ReplicaRecord`] | that replica itself, when it is news: leading or not |
//! | `takeover` | epoch | the first write of a leader |
//! | `chronicle` | [`ChronicleRecord`] | each takeover; a backup that was put back; its confirmation |
//! | `members` | counter | each change of who is a host, and in which life |
//! | `agent/HOST` | [`HostRecord`] | a host's first hello in a life |
//! | `removed/HOST` | [`HostRecord`] | a host that was removed: that life may not join again by itself |
//! | `spec/SERVICE` | [`SpecRecord`] | apply |
//! | `svc/SERVICE` | [`ServiceRecord`] | commit: the truth |
//! | `pending/SERVICE` | deployment | open; its mod revision is the generation |
//! | `deploy/ID` | [`DeploymentRecord`] | open |
//! | `outcome/ID` | [`OutcomeRecord`] | commit, abort |
//! | `req/ID` | deployment | open: a repeated request finds its deployment |
//! | `history/SERVICE/GENERATION` | [`Report`](crate::report::Report) | commit, abort, end |
//! | `audit/EPOCH/NUMBER` | [`AuditRecord`] | every change, in the same transaction |

use bgctl_proto::convert::unhex;
use bgctl_proto::session as wire;
use cutover::ids::{Colour, DeploymentId, Generation, HostId, Incarnation, ReleaseDigest, ServiceName};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Releases kept as ways back, newest first: one warm, the others by their recorded digests.
pub const PREVIOUS_MAX: usize = 5;

/// A host, in its present life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// 32 hexadecimal digits.
    pub incarnation: String,
    /// From its certificate.
    pub labels: BTreeMap<String, String>,
    /// When it was first seen in this life, milliseconds since 1970.
    pub since_unix_millis: u64,
    /// Names the machine it runs on; empty: unknown.
    #[serde(default)]
    pub machine: String,
}

/// A controller that was once here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// Where agents and operators reach it, `HOST:PORT`.
    pub address: String,
    /// Of its program.
    pub version: String,
}

/// Which history the store tells, and who led in it. See [`cutover::history`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChronicleRecord {
    /// 32 hexadecimal digits, drawn at random.
    pub history: String,
    /// When it began, milliseconds since 1970.
    pub since_unix_millis: u64,
    /// Histories it took the place of by a person's word, oldest first.
    pub replaces: Vec<String>,
    /// Why a person must confirm it before anything is deployed; empty: nothing is open.
    pub doubt: String,
    /// Histories it would take the place of.
    pub claims: Vec<String>,
    /// The etcd cluster it was written in; empty: none, or unknown.
    pub cluster: String,
    /// Leaders, oldest first, at most [`REIGNS_KEPT`].
    pub reigns: Vec<ReignRecord>,
}

/// The time of one leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReignRecord {
    /// Its epoch.
    pub epoch: u64,
    /// Hexadecimal, drawn at random.
    pub mark: String,
}

/// Leaders a chronicle names at most: a host that was away for longer is judged by the oldest that is kept.
pub const REIGNS_KEPT: usize = 256;

/// Histories a chronicle replaces at most: each is a backup that a person has confirmed.
pub const HISTORIES_KEPT: usize = 64;

/// An accepted spec.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecRecord {
    /// From 1, one more with each accepted change.
    pub revision: u64,
    /// The operator's YAML.
    pub text: String,
    /// What errors called it.
    pub file_name: String,
    /// Who.
    pub actor: String,
    /// When, milliseconds since 1970.
    pub at_unix_millis: u64,
}

/// A release, with everything it takes to send it to a host again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// What the operator calls it.
    pub version: String,
    /// 64 hexadecimal digits.
    pub digest: String,
    /// The wire encoding the digest is of, in hexadecimal.
    pub encoded: String,
    /// Of the spec it was made from.
    pub spec_revision: u64,
    /// Labels a host must carry to run it.
    pub hosts: BTreeMap<String, String>,
    /// How long after the switch a dead container takes it back, milliseconds.
    pub watch_millis: u64,
    /// How long hosts may take to make it ready, milliseconds.
    pub prepare_timeout_millis: u64,
}

/// The committed truth of one service.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// The deployment's generation.
    pub generation: u64,
    /// Which deployment.
    pub deployment: String,
    /// The colour a host has that followed every commit; one that missed some may have the other.
    pub colour: String,
    /// What every host must serve.
    pub release: ReleaseRecord,
    /// The ways back, newest first.
    pub previous: Vec<ReleaseRecord>,
}

/// A deployment as it was opened. Never changed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// Its name.
    pub id: String,
    /// Deploy or rollback.
    pub kind: Kind,
    /// What it brings, by service.
    pub services: BTreeMap<String, ReleaseRecord>,
    /// What was active, by service; a service that never had anything is missing.
    pub from: BTreeMap<String, String>,
    /// Hosts with the lives they had, frozen.
    pub participants: BTreeMap<String, String>,
    /// How many of these may be left out if they do not answer.
    #[serde(default)]
    pub may_be_missing: usize,
    /// Hosts of the service that do not take part, and why.
    #[serde(default)]
    pub left_out: BTreeMap<String, String>,
    /// Who.
    pub actor: String,
    /// The request it answers.
    pub request: String,
    /// When, milliseconds since 1970.
    pub opened_unix_millis: u64,
}

/// Deploy or rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To a version.
    Deploy,
    /// To what was active before.
    Rollback,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// `commit` or `abort`.
    pub outcome: String,
    /// The leader that wrote it.
    pub epoch: u64,
    /// For an abort.
    pub reason: String,
    /// For a commit: the hosts whose promises it rests on, with their lives.
    #[serde(default)]
    pub participants: BTreeMap<String, String>,
}

/// Who changed what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// By the certificate, or `watch` or `deadline` for the controller itself.
    pub actor: String,
    /// One line.
    pub action: String,
    /// Milliseconds since 1970.
    pub at_unix_millis: u64,
}

/// A value in the store that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store's {key} cannot be read: {detail}; was it written by a newer controller, or by hand?")]
pub struct RecordError {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub detail: String,
}

impl RecordError {
    /// About a key.
    pub fn new(key: &str, detail: impl ToString) -> Self {
        Self { key: key.to_owned(), detail: detail.to_string() }
    }
}

/// Reads a value.
pub fn read<T: for<'de> Deserialize<'de>>(key: &str, value: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(value).map_err(|error| RecordError::new(key, error))
}

/// Writes a value. Records hold only texts, numbers and maps with text keys: this cannot fail.
pub fn write<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain JSON")
}

/// Reads one of the checked types.
pub fn parse<T: std::str::FromStr>(key: &str, text: &str) -> Result<T, RecordError>
where
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| RecordError::new(key, error.to_string()))
}

/// What stands in a value must be what its key says.
pub fn same(key: &str, named: &str, found: &str) -> Result<(), RecordError> {
    match named == found {
        true => Ok(()),
        false => Err(RecordError::new(key, format!("it is of {found:?}"))),
    }
}

/// Keys, in one place.
pub mod keys {
    use super::{DeploymentId, Generation, HostId, ServiceName};

    /// The first write of a leader.
    pub const TAKEOVER: &str = "takeover";
    /// Which history the store tells.
    pub const CHRONICLE: &str = "chronicle";
    /// Raised with each change of membership.
    pub const MEMBERS: &str = "members";

    /// A controller.
    pub fn replica(name: &str) -> String {
        format!("replica/{name}")
    }
    /// A host.
    pub fn agent(host: &HostId) -> String {
        format!("agent/{host}")
    }
    /// A host that was removed.
    pub fn removed(host: &HostId) -> String {
        format!("removed/{host}")
    }
    /// A spec.
    pub fn spec(service: &ServiceName) -> String {
        format!("spec/{service}")
    }
    /// The truth of a service.
    pub fn service(service: &ServiceName) -> String {
        format!("svc/{service}")
    }
    /// The open deployment of a service.
    pub fn pending(service: &ServiceName) -> String {
        format!("pending/{service}")
    }
    /// A deployment.
    pub fn deployment(id: &DeploymentId) -> String {
        format!("deploy/{id}")
    }
    /// Its end.
    pub fn outcome(id: &DeploymentId) -> String {
        format!("outcome/{id}")
    }
    /// A request.
    pub fn request(id: &str) -> String {
        format!("req/{id}")
    }
    /// A report. Twenty digits, so that keys sort as numbers do.
    pub fn history(service: &ServiceName, generation: Generation) -> String {
        format!("history/{service}/{:020}", generation.0)
    }
    /// An audit entry.
    pub fn audit(epoch: u64, number: u64) -> String {
        format!("audit/{epoch:020}/{number:010}")
    }
}

impl ReleaseRecord {
    /// The release it holds. `key`: where the record stands.
    pub fn release(&self, key: &str) -> Result<wire::Release, RecordError> {
        let fault = |error: &dyn std::error::Error| RecordError::new(key, format!("release {}: {error}", self.version));
        let bytes = unhex("encoded", &self.encoded).map_err(|error| fault(&error))?;
        wire::Release::decode(bytes.as_slice()).map_err(|error| fault(&error))
    }

    fn check(&self, key: &str, service: &str) -> Result<(), RecordError> {
        let release = self.release(key)?;
        same(key, service, &release.service)?;
        let named: ReleaseDigest = parse(key, &self.digest)?;
        match named == crate::spec::digest(&release) {
            true => Ok(()),
            false => {
                Err(RecordError::new(key, format!("release {}: its content is not what {named} names", self.version)))
            }
        }
    }
}

impl ServiceRecord {
    /// That every part of it can be worked with. `key`: where it stands; `service`: whose it should be.
    pub fn check(&self, key: &str, service: &str) -> Result<(), RecordError> {
        parse::<DeploymentId>(key, &self.deployment)?;
        parse::<Colour>(key, &self.colour)?;
        std::iter::once(&self.release).chain(&self.previous).try_for_each(|release| release.check(key, service))
    }
}

impl DeploymentRecord {
    /// That every part of it can be worked with. `key`: where it stands; `id`: what it should be called.
    pub fn check(&self, key: &str, id: &str) -> Result<(), RecordError> {
        parse::<DeploymentId>(key, id)?;
        same(key, id, &self.id)?;
        if self.services.is_empty() {
            return Err(RecordError::new(key, "it brings nothing"));
        }
        self.digests()?;
        self.participants()?;
        self.services.iter().try_for_each(|(service, release)| release.check(key, service))
    }

    /// The frozen hosts, checked.
    pub fn participants(&self) -> Result<BTreeMap<HostId, Incarnation>, RecordError> {
        let each = self.participants.iter().map(|(host, incarnation)| {
            let key = format!("deploy/{}", self.id);
            Ok((parse(&key, host)?, parse(&key, incarnation)?))
        });
        each.collect()
    }

    /// What it brings, checked.
    pub fn digests(&self) -> Result<BTreeMap<ServiceName, ReleaseDigest>, RecordError> {
        let each = self.services.iter().map(|(service, release)| {
            let key = format!("deploy/{}", self.id);
            Ok((parse(&key, service)?, parse(&key, &release.digest)?))
        });
        each.collect()
    }
}

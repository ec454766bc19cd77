//! The CA: making it, reading it, signing with it.

use super::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, CLOCK_TOLERANCE, IssueError};
use cutover::ids::HostId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A CA that can sign.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    ends: SystemTime,
}

/// Who a certificate is for.
pub(super) enum Subject {
    Controller { name: String, dns: &'static str },
    Host { host: HostId, labels: BTreeMap<String, String> },
    Operator { name: String },
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    pub from: SystemTime,
    pub to: SystemTime,
}

/// A certificate and its key, as PEM.
pub(super) struct Made {
    pub certificate: String,
    pub key: String,
}

impl Validity {
    pub(super) fn from_now(length: Duration) -> Self {
        let now = SystemTime::now();
        Self { from: now - CLOCK_TOLERANCE, to: now + length }
    }
}

impl Authority {
    /// A new CA, and its key as PEM.
    pub(super) fn create(validity: Validity) -> Result<(Self, String), IssueError> {
        let fault = |source| IssueError::Certificate { subject: "the CA".to_owned(), source };
        let key = KeyPair::generate().map_err(fault)?;
        let key_pem = key.serialize_pem();
        let mut params = CertificateParams::default();
        // A name of its own: the certificate of another fleet is then "of an unknown issuer", not "badly signed".
        let name = format!("bgctl CA {}", uuid::Uuid::new_v4().simple());
        params.distinguished_name.push(DnType::CommonName, name);
        // No CA below this one: whoever steals a host's key cannot make more of them.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = validity.from.into();
        params.not_after = validity.to.into();
        let certificate = params.self_signed(&key).map_err(fault)?.pem();
        Ok((Self { issuer: Issuer::new(params, key), certificate, ends: validity.to }, key_pem))
    }

    /// The CA of a folder.
    pub(super) fn load(dir: &Path) -> Result<Self, IssueError> {
        let read = |name: &str| {
            std::fs::read_to_string(dir.join(name)).map_err(|source| {
                if source.kind() == io::ErrorKind::NotFound {
                    return IssueError::NoAuthority { dir: dir.to_owned() };
                }
                IssueError::File { operation: "read", path: dir.join(name), source }
            })
        };
        let (certificate, key) = (read(AUTHORITY_CERTIFICATE)?, read(AUTHORITY_KEY)?);
        Self::from_pem(certificate, &key).map_err(|detail| IssueError::Authority { dir: dir.to_owned(), detail })
    }

    fn from_pem(certificate: String, key: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(|error| format!("{AUTHORITY_KEY}: {error}"))?;
        let unreadable = |error: String| format!("{AUTHORITY_CERTIFICATE}: {error}");
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|e| unreadable(e.to_string()))?;
        let parsed = pem.parse_x509().map_err(|error| unreadable(error.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(format!("{AUTHORITY_KEY} is not the key of {AUTHORITY_CERTIFICATE}"));
        }
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
        if ends <= SystemTime::now() {
            return Err(format!("it expired on {}; make a new one, and new identities", parsed.validity().not_after));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { issuer, certificate, ends })
    }

    /// The CA's own certificate, as PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a new certificate with a new key. It never outlives the CA.
    pub(super) fn issue(&self, subject: &Subject, validity: Validity) -> Result<Made, IssueError> {
        let fault = |source| IssueError::Certificate { subject: subject.name().to_owned(), source };
        let key = KeyPair::generate().map_err(fault)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject.name());
        params.subject_alt_names = subject.alternative_names().map_err(fault)?;
        params.extended_key_usages = vec![subject.usage()];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = validity.from.into();
        params.not_after = validity.to.min(self.ends).into();
        let certificate = params.signed_by(&key, &self.issuer).map_err(fault)?;
        Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Subject {
    fn name(&self) -> &str {
        match self {
            Self::Controller { name, .. } | Self::Operator { name } => name,
            Self::Host { host, .. } => host.as_str(),
        }
    }

    fn usage(&self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Controller { .. } => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Host { .. } | Self::Operator { .. } => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }

    fn alternative_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let uri = |text: String| Ia5String::try_from(text).map(SanType::URI);
        match self {
            Self::Controller { name, dns } => {
                Ok(vec![SanType::DnsName((*dns).try_into()?), uri(format!("bgctl://controller/{name}"))?])
            }
            Self::Host { host, labels } => {
                let labels = labels.iter().map(|(key, value)| uri(format!("bgctl://label/{key}={value}")));
                std::iter::once(uri(format!("bgctl://host/{host}"))).chain(labels).collect()
            }
            Self::Operator { name } => Ok(vec![uri(format!("bgctl://operator/{name}"))?]),
        }
    }
}

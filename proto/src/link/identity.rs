//! Certificates: reading them from files, and reading who they name.

use cutover::ids::{HostId, NAME_BYTES_MAX};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name every controller's certificate carries and every client insists on, whatever the address
/// it dialled. Not a name of the DNS.
pub const CONTROLLER_NAME: &str = "controller.bgctl.internal";

const ALPN_HTTP2: &[u8] = b"h2";

/// Who is at the other end, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An agent.
    Host {
        /// Its host.
        host: HostId,
        /// The labels it was given when its certificate was made.
        labels: BTreeMap<String, String>,
    },
    /// A person or a tool.
    Operator {
        /// As written in history.
        name: String,
    },
    /// A controller.
    Controller,
}

impl Peer {
    /// Reads who a certificate names: subject alternative names of the form `bgctl://host/NAME`,
    /// `bgctl://label/KEY=VALUE`, `bgctl://operator/NAME`, `bgctl://controller/NAME`. One of them says who it
    /// is: a certificate that names two, or a label twice, names nobody.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let unreadable = |detail: String| IdentityError::Certificate { detail };
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|error| unreadable(error.to_string()))?;
        let names = parsed.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
        let mut peers = Vec::new();
        let mut labels = BTreeMap::new();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            let x509_parser::extensions::GeneralName::URI(uri) = name else { continue };
            let Some((kind, value)) = uri.strip_prefix("bgctl://").and_then(|rest| rest.split_once('/')) else {
                continue;
            };
            match kind {
                "host" => {
                    let host = value.parse().map_err(|error| unreadable(format!("{error}")))?;
                    peers.push(Self::Host { host, labels: BTreeMap::new() });
                }
                "operator" if is_printed(value) => peers.push(Self::Operator { name: value.to_owned() }),
                "operator" => return Err(unreadable(format!("{value:?} is no operator's name"))),
                "controller" => peers.push(Self::Controller),
                "label" => {
                    let (key, value) =
                        value.split_once('=').ok_or_else(|| unreadable(format!("label {value:?} has no '='")))?;
                    if !is_printed(key) || !is_printed(value) {
                        return Err(unreadable(format!("label {key:?}={value:?} is malformed")));
                    }
                    if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                        return Err(unreadable(format!("label {key} is there twice")));
                    }
                }
                unknown => return Err(unreadable(format!("unknown kind of name {unknown:?}"))),
            }
        }
        match (peers.pop(), peers.is_empty()) {
            (Some(Self::Host { host, .. }), true) => Ok(Self::Host { host, labels }),
            (Some(other), true) => Ok(other),
            (Some(_), false) => Err(unreadable("it names more than one host, operator or controller".to_owned())),
            (None, _) => Err(unreadable("it names no host, operator or controller of bgctl".to_owned())),
        }
    }
}

/// What may stand in a log, in history and on a terminal: the characters that names and labels are made of.
fn is_printed(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(fits)
}

/// What went wrong with a certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read as PEM.
    #[error("cannot read {what} from {path}: {detail}; expected a PEM file made by `bgctl-controller`")]
    File {
        /// Certificate, key, CA.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// The parts do not fit.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
    /// The CA cannot be used to check others.
    #[error("the CA certificate cannot be used: {detail}")]
    Ca {
        /// Why not.
        detail: String,
    },
    /// A certificate names nobody.
    #[error("the certificate says not who it is for: {detail}")]
    Certificate {
        /// Why not.
        detail: String,
    },
}

/// A certificate with its key, and the CA whose word counts.
pub struct Identity {
    ca: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the three PEM files.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        fn fault(what: &'static str, path: &Path) -> impl Fn(rustls::pki_types::pem::Error) -> IdentityError + use<> {
            let path = path.to_owned();
            move |error| IdentityError::File { what, path: path.clone(), detail: error.to_string() }
        }
        let chain = |what, path: &Path| -> Result<Vec<CertificateDer<'static>>, IdentityError> {
            let chain: Vec<_> = CertificateDer::pem_file_iter(path)
                .map_err(fault(what, path))?
                .collect::<Result<_, _>>()
                .map_err(fault(what, path))?;
            if chain.is_empty() {
                let detail = "there is no certificate in it".to_owned();
                return Err(IdentityError::File { what, path: path.to_owned(), detail });
            }
            Ok(chain)
        };
        let mut roots = RootCertStore::empty();
        for root in chain("the CA certificate", ca)? {
            roots.add(root).map_err(|error| IdentityError::Ca { detail: error.to_string() })?;
        }
        Ok(Self {
            ca: roots,
            chain: chain("the certificate", certificate)?,
            key: PrivateKeyDer::from_pem_file(key).map_err(fault("the key", key))?,
        })
    }

    /// Who this is.
    pub fn peer(&self) -> Result<Peer, IdentityError> {
        Peer::from_certificate(&self.chain[0])
    }

    /// For a controller: demands a certificate of the same CA from whoever connects.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.ca.clone()), provider.clone())
            .build()
            .map_err(|error| IdentityError::Ca { detail: error.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(IdentityError::Unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(IdentityError::Unusable)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok(Arc::new(config))
    }

    /// For an agent or operator: shows this certificate, and accepts only a controller of the same CA.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(IdentityError::Unusable)?
            .with_root_certificates(self.ca.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(IdentityError::Unusable)?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok(Arc::new(config))
    }
}

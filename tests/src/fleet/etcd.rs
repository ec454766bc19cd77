//! A fleet's etcd: who its members are, how each is started, and the certificates on every link of it. The fleet of
//! namespaces has the same, on other addresses.

use super::FleetError;
use super::plan::Program;
use crate::workspace::system_program;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Also the name of its program.
    pub name: String,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// For clients.
    pub clients: u16,
    /// For other members.
    pub peers: u16,
}

impl Member {
    /// Where controllers find it.
    pub fn endpoint(&self) -> String {
        self.url(self.clients)
    }

    fn url(&self, port: u16) -> String {
        format!("https://{}:{port}", self.address)
    }
}

/// The certificates: one CA, and one certificate that every member and every controller shows.
pub(crate) struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Of the fleet in this folder.
    pub(crate) fn of(dir: &Path) -> Self {
        let file = |name| dir.join("etcd-tls").join(name);
        Self { ca: file("ca.crt"), certificate: file("etcd.crt"), key: file("etcd.key") }
    }

    /// Makes them, for members at these addresses.
    pub(crate) fn make(&self, addresses: &[Ipv4Addr]) -> Result<(), FleetError> {
        let failed = |error: rcgen::Error| FleetError::Program {
            what: "making etcd's certificates".to_owned(),
            detail: error.to_string(),
        };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "etcd CA of a local fleet");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(failed)?).map_err(failed)?;
        let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "etcd of a local fleet");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &authority).map_err(failed)?;
        let texts =
            [(&self.ca, authority.pem()), (&self.certificate, certificate.pem()), (&self.key, key.serialize_pem())];
        for (path, text) in texts {
            let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
            made.map_err(|source| FleetError::File { action: "write", path: path.clone(), source })?;
        }
        Ok(())
    }

    /// `store` of a controller's config.
    pub(crate) fn store(&self, endpoints: &[String]) -> serde_json::Value {
        let [ca, certificate, key] = [&self.ca, &self.certificate, &self.key].map(|path| path.to_string_lossy());
        serde_json::json!({ "etcd": { "endpoints": endpoints, "ca": ca, "certificate": certificate, "key": key } })
    }
}

/// What a member is started with: `members` are all of them, `data` is its own folder.
pub(crate) fn arguments(member: &Member, members: &[Member], data: &Path, files: &Files) -> Vec<String> {
    let (clients, peers) = (member.endpoint(), member.url(member.peers));
    let cluster: Vec<_> = members.iter().map(|each| format!("{}={}", each.name, each.url(each.peers))).collect();
    let [ca, certificate, key] = [&files.ca, &files.certificate, &files.key].map(|path| path.display());
    vec![
        format!("--name={}", member.name),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster={}", cluster.join(",")),
        format!("--trusted-ca-file={ca}"),
        format!("--cert-file={certificate}"),
        format!("--key-file={key}"),
        "--client-cert-auth".to_owned(),
        format!("--peer-trusted-ca-file={ca}"),
        format!("--peer-cert-file={certificate}"),
        format!("--peer-key-file={key}"),
        "--peer-client-cert-auth".to_owned(),
    ]
}

/// How the members of the fleet in this folder are started.
pub(super) fn programs(dir: &Path, members: &[Member], extra: &[String]) -> Result<Vec<Program>, FleetError> {
    let files = Files::of(dir);
    let one = |member: &Member| {
        let mut arguments = arguments(member, members, &dir.join(&member.name), &files);
        arguments.extend_from_slice(extra);
        let path = system_program("etcd", "etcd-server")?;
        Ok(Program { name: member.name.clone(), path, arguments, environment: Vec::new() })
    };
    members.iter().map(one).collect()
}

//! Certificates, as `bgctl-controller` makes them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType};
use std::fs;
use std::path::{Path, PathBuf};

/// A CA, with a controller's and an operator's identity in folders of their own.
#[derive(Debug)]
pub struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        issue(&ca, &folder.path().join("controller"), "controller", "controller/test");
        issue(&ca, &folder.path().join("operator"), "operator", "operator/alice");
        Self { folder }
    }

    /// ca.crt, controller.crt, controller.key.
    pub fn controller(&self) -> PathBuf {
        self.folder.path().join("controller")
    }

    /// ca.crt, operator.crt, operator.key.
    pub fn operator(&self) -> PathBuf {
        self.folder.path().join("operator")
    }
}

fn issue(ca: &CertifiedIssuer<'_, KeyPair>, folder: &Path, file: &str, name: &str) {
    let mut params = CertificateParams::new(vec![bgctl_proto::link::CONTROLLER_NAME.to_owned()]).expect("a name");
    params.subject_alt_names.push(SanType::URI(format!("bgctl://{name}").try_into().expect("a URI")));
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    fs::create_dir(folder).expect("a folder");
    fs::write(folder.join("ca.crt"), ca.pem()).expect("the CA written");
    fs::write(folder.join(format!("{file}.crt")), certificate.pem()).expect("the certificate written");
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).expect("the key written");
}

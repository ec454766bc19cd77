//! What etcd refuses, and what cannot be reached or believed.

use super::super::super::etcd_server::{EtcdServer, ServerTls};
use super::super::super::{Operation, Reply, Store, StoreError, Transaction, VALUE_BYTES_MAX};
use super::super::{Etcd, EtcdConfig, EtcdTls};
use super::{connect, putting, within};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

#[tokio::test]
async fn over_its_quota_it_refuses_but_removes() {
    let server = EtcdServer::start_with(&["--quota-backend-bytes=8388608"], None).await;
    let store = connect(&server.config()).await;
    let large = putting("large", &"x".repeat(VALUE_BYTES_MAX));
    let refused = loop {
        match store.transact(&large).await {
            Ok(Reply::Done { .. }) => {}
            other => break other,
        }
    };
    let Err(StoreError::Refused { detail }) = refused else { panic!("{refused:?}") };
    assert!(detail.contains("space quota") && detail.contains(server.endpoint()), "{detail}");
    let remove = Transaction { operations: vec![Operation::Delete("large".to_owned())], ..Transaction::default() };
    assert!(matches!(store.transact(&remove).await, Ok(Reply::Done { .. })), "a transaction without a put goes on");
    let elected = within("an election", store.campaign("one")).await.map(|leading| leading.epoch());
    assert!(matches!(elected, Err(StoreError::Refused { .. })), "etcd gives no lease: {elected:?}");
}

#[tokio::test]
async fn with_certificates_it_lets_in_only_whom_the_authority_signed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ours = Authority::new(directory.path(), "ours");
    let theirs = Authority::new(directory.path(), "theirs");
    let (cert, key) = ours.sign("server");
    let server = EtcdServer::start_with(&[], Some(&ServerTls { ca: ours.file.clone(), cert, key })).await;
    let with = |ca: &Authority<'_>, pair: Option<(PathBuf, PathBuf)>| {
        let (cert, key) = pair.unzip();
        EtcdConfig { tls: Some(EtcdTls { ca: ca.file.clone(), cert, key }), ..server.config() }
    };
    let store = connect(&with(&ours, Some(ours.sign("client")))).await;
    assert!(matches!(store.transact(&putting("a", "1")).await, Ok(Reply::Done { .. })));
    for wrong in
        [with(&ours, None), with(&ours, Some(theirs.sign("stranger"))), with(&theirs, Some(ours.sign("client")))]
    {
        let answer = Etcd::connect(&wrong).await.map(drop);
        let Err(StoreError::Unknown { detail }) = answer else { panic!("{answer:?}") };
        assert!(detail.contains(server.endpoint()), "{detail}");
    }
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_named_at_the_start() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let endpoint = format!("http://{}", taken.local_addr().expect("bound"));
    // Listening, but nobody ever answers.
    let silent = EtcdConfig { request_timeout_milliseconds: 300, ..EtcdConfig::new(vec![endpoint.clone()]) };
    let answer = Etcd::connect(&silent).await.map(drop);
    let Err(StoreError::Unknown { detail }) = answer else { panic!("{answer:?}") };
    assert!(detail.contains(&endpoint) && detail.contains("300ms"), "{detail}");
    drop(taken);
    let answer = Etcd::connect(&EtcdConfig::new(vec![endpoint.clone()])).await.map(drop);
    let Err(StoreError::Unknown { detail }) = answer else { panic!("{answer:?}") };
    assert!(detail.contains(&endpoint) && detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn a_setting_that_cannot_work_is_named() {
    let good = EtcdConfig::new(vec!["http://127.0.0.1:1".to_owned()]);
    let tls = |cert: Option<&str>, key: Option<&str>| {
        Some(EtcdTls { ca: "/nowhere/ca.pem".into(), cert: cert.map(PathBuf::from), key: key.map(PathBuf::from) })
    };
    let https = vec!["https://127.0.0.1:1".to_owned()];
    let cases = [
        ("`endpoints` is empty", EtcdConfig { endpoints: vec![], ..good.clone() }),
        (
            "`127.0.0.1:1` must start with `http://`",
            EtcdConfig { endpoints: vec!["127.0.0.1:1".into()], ..good.clone() },
        ),
        ("must start with `https://`", EtcdConfig { tls: tls(None, None), ..good.clone() }),
        ("`prefix` is `/bg`", EtcdConfig { prefix: "/bg".into(), ..good.clone() }),
        ("`prefix` is `/`", EtcdConfig { prefix: "/".into(), ..good.clone() }),
        ("`lease_ttl_seconds` is 1", EtcdConfig { lease_ttl_seconds: 1, ..good.clone() }),
        ("`request_timeout_milliseconds` is 99", EtcdConfig { request_timeout_milliseconds: 99, ..good.clone() }),
        ("set both or neither", EtcdConfig { endpoints: https.clone(), tls: tls(Some("c"), None), ..good.clone() }),
        ("`/nowhere/ca.pem` cannot be read", EtcdConfig { endpoints: https, tls: tls(None, None), ..good }),
    ];
    for (words, config) in cases {
        let answer = Etcd::connect(&config).await.map(drop);
        let Err(StoreError::Unusable { detail }) = answer else { panic!("{words}: {answer:?}") };
        assert!(detail.contains(words), "{detail}");
    }
}

struct Authority<'a> {
    directory: &'a Path,
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl<'a> Authority<'a> {
    fn new(directory: &'a Path, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let file = directory.join(format!("{name}.pem"));
        fs::write(&file, issuer.pem()).expect("written");
        Self { directory, issuer, file }
    }

    /// Certificate and key, for a server on the loopback address or a client.
    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()]).expect("an address");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = ["crt", "key"].map(|kind| self.directory.join(format!("{name}.{kind}")));
        fs::write(&files[0], cert.pem()).expect("written");
        fs::write(&files[1], key.serialize_pem()).expect("written");
        files.into()
    }
}

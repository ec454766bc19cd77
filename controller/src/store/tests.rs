//! How a configuration becomes a store.

use super::etcd::EtcdConfig;
use super::{StoreConfig, StoreError, open};
use std::path::{Path, PathBuf};

fn parsed(text: &str) -> Result<StoreConfig, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn the_configuration_names_one_store() {
    assert_eq!(parsed("embedded: {}"), Ok(StoreConfig::default()));
    assert_eq!(parsed("embedded: {path: /a/b}"), Ok(StoreConfig::Embedded { path: Some(PathBuf::from("/a/b")) }));
    let etcd = EtcdConfig::new(vec!["http://127.0.0.1:2379".to_owned()]);
    assert_eq!(parsed("etcd: {endpoints: ['http://127.0.0.1:2379']}"), Ok(StoreConfig::Etcd(etcd.clone())));
    assert_eq!((etcd.prefix.as_str(), etcd.lease_ttl_seconds, etcd.request_timeout_milliseconds), ("/bg/v1/", 5, 2000));
    for (text, word) in
        [("embedded: {file: x}", "file"), ("etcd: {endpoints: [], ttl: 5}", "ttl"), ("redis: {}", "redis")]
    {
        let error = parsed(text).expect_err("a word that is not known");
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn the_file_is_in_the_state_directory_unless_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(&StoreConfig::default(), directory.path()).await.map(drop).expect("opened");
    assert!(directory.path().join("store.redb").exists());
    let named = directory.path().join("named.redb");
    open(&StoreConfig::Embedded { path: Some(named.clone()) }, Path::new("/nowhere")).await.map(drop).expect("opened");
    assert!(named.exists());
    let wrong = open(&StoreConfig::Etcd(EtcdConfig::new(vec![])), directory.path()).await.map(drop);
    assert!(matches!(wrong, Err(StoreError::Unusable { .. })), "{wrong:?}");
}

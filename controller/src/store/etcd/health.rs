//! Asks every member how it is.

use super::super::health::{Health, Member, REVISIONS_KEPT_MAX};
use super::{Etcd, EtcdConfig, refusal, request, watching};
use etcd_client::{AlarmAction, AlarmType, Client, ClusterClient, MaintenanceClient, StatusResponse};
use futures_util::future::join_all;
use std::collections::BTreeMap;

/// Ways to the members, one each: the connection of all else goes to any of them.
#[derive(Clone)]
pub(super) struct Members {
    cluster: Option<ClusterClient>,
    each: Vec<(String, MaintenanceClient)>,
    /// What makes `etcdctl` ask the same ones, as whom we ask.
    flags: String,
    quota_bytes: u64,
}

impl Members {
    /// Of a cluster that is not reached at its endpoints: none can be asked on its own.
    pub(super) fn unknown(config: &EtcdConfig) -> Self {
        Self { cluster: None, each: Vec::new(), flags: config.etcdctl_flags(), quota_bytes: config.quota_bytes }
    }

    /// Connects to nobody yet.
    pub(super) async fn of(client: &Client, config: &EtcdConfig) -> Result<Self, super::StoreError> {
        let mut members = Self { cluster: Some(client.cluster_client()), ..Self::unknown(config) };
        for endpoint in &config.endpoints {
            let options = config.connect_options().await?;
            let client = Client::connect([endpoint], Some(options)).await;
            let client = client.map_err(|error| config.unusable(&format!("`{endpoint}` cannot be used: {error}")))?;
            members.each.push((endpoint.clone(), client.maintenance_client()));
        }
        Ok(members)
    }

    /// What to type when the store is full: at this revision it is compacted.
    pub(super) fn remedy(&self, revision: u64) -> Vec<String> {
        ["compact ", "defrag", "alarm disarm"]
            .iter()
            .map(|verb| match *verb {
                "compact " => format!("etcdctl {} compact {revision}", self.flags),
                verb => format!("etcdctl {} {verb}", self.flags),
            })
            .collect()
    }
}

/// Asks them all, each within the time of a request.
pub(super) async fn ask(etcd: &Etcd) -> Health {
    let members = &etcd.members;
    let names = names(etcd).await;
    let asked = members.each.iter().map(|(endpoint, client)| one(etcd, endpoint, client.clone(), &names));
    let (each, quotas): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().unzip();
    // Since 3.6 they say what their quota is.
    let quota_bytes = quotas.into_iter().max().filter(|quota| *quota > 0).unwrap_or(members.quota_bytes);
    let mut health = Health { kind: "etcd", members: each, quota_bytes, ..Health::default() };
    match etcd.newest().await {
        Ok(revision) => {
            health.revision = revision;
            let old = revision.saturating_sub(REVISIONS_KEPT_MAX);
            health.is_history_long = old > 1 && watching::is_kept(etcd, &etcd.prefix, old).await.unwrap_or(false);
        }
        Err(error) => health.trouble = Some(error.to_string()),
    }
    health.remedy = members.remedy(health.revision);
    health.alarms = alarms(etcd).await;
    health
}

async fn one(etcd: &Etcd, endpoint: &str, client: MaintenanceClient, names: &BTreeMap<u64, String>) -> (Member, u64) {
    let asked = etcd.ask(|| {
        let mut client = client.clone();
        async move { client.status().await }
    });
    match asked.await {
        Ok(status) => (member(endpoint, &status, names), request::unsigned(status.db_size_quota())),
        Err(error) => {
            let trouble = Some(error.to_string());
            (Member { address: endpoint.to_owned(), trouble, ..Member::default() }, 0)
        }
    }
}

fn member(endpoint: &str, status: &StatusResponse, names: &BTreeMap<u64, String>) -> Member {
    let id = status.header().map(etcd_client::ResponseHeader::member_id).unwrap_or_default();
    Member {
        name: names.get(&id).cloned().unwrap_or_default(),
        address: endpoint.to_owned(),
        version: status.version().to_owned(),
        size_bytes: request::unsigned(status.db_size()),
        in_use_bytes: request::unsigned(status.raft_used_db_size()),
        leads: status.leader() == id,
        trouble: None,
    }
}

async fn names(etcd: &Etcd) -> BTreeMap<u64, String> {
    let Some(cluster) = &etcd.members.cluster else { return BTreeMap::new() };
    let listed = etcd.ask(|| {
        let mut cluster = cluster.clone();
        async move { cluster.member_list().await }
    });
    let listed = listed.await.map(|list| list.members().to_vec()).unwrap_or_default();
    listed.iter().map(|member| (member.id(), member.name().to_owned())).collect()
}

/// Any member knows all alarms.
async fn alarms(etcd: &Etcd) -> Vec<String> {
    for (_, client) in &etcd.members.each {
        let asked = etcd.ask(|| {
            let mut client = client.clone();
            async move { client.alarm(AlarmAction::Get, AlarmType::None, None).await }
        });
        if let Ok(answer) = asked.await {
            let mut names: Vec<_> = answer.alarms().iter().map(|alarm| name(alarm.alarm())).collect();
            names.sort_unstable();
            names.dedup();
            return names;
        }
    }
    Vec::new()
}

fn name(alarm: AlarmType) -> String {
    match alarm {
        AlarmType::Nospace => "NOSPACE".to_owned(),
        AlarmType::Corrupt => "CORRUPT".to_owned(),
        AlarmType::None => "NONE".to_owned(),
    }
}

/// A refusal for want of space, with what to type.
pub(super) fn advise(etcd: &Etcd, error: super::StoreError) -> super::StoreError {
    match error {
        super::StoreError::Refused { detail } if detail.contains(refusal::NO_SPACE) => {
            let revision = etcd.seen.load(std::sync::atomic::Ordering::Relaxed);
            let commands = etcd.members.remedy(revision).join("\n  ");
            super::StoreError::Refused { detail: format!("{detail}:\n  {commands}") }
        }
        other @ (super::StoreError::Unknown { .. }
        | super::StoreError::Refused { .. }
        | super::StoreError::Doubtful { .. }
        | super::StoreError::Compacted { .. }
        | super::StoreError::Unusable { .. }) => other,
    }
}

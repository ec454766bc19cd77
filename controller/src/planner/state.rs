//! What each host is told.

use crate::ledger::{Ledger, Opening, Truth};
use crate::records::{RecordError, ReleaseRecord, keys};
use bgctl_proto::convert::unhex;
use bgctl_proto::session as wire;
use cutover::ids::{HostId, Revision};
use cutover::message::Prepare;
use std::collections::{BTreeMap, BTreeSet};

/// What the store says of every service of a host. A service is a host's if its committed release or its
/// open deployment selects the host's labels; a host hears of no other.
pub fn state_for(ledger: &Ledger, host: &HostId) -> Result<wire::State, RecordError> {
    let epoch = ledger.epoch().0;
    ledger.read(|truth| {
        let labels = truth.hosts.get(host).map(|record| record.labels.clone()).unwrap_or_default();
        let names: BTreeSet<_> = truth.services.keys().chain(truth.pending.keys()).cloned().collect();
        let mut services = Vec::new();
        for name in names {
            let committed = truth.services.get(&name).filter(|(record, _)| selects(&record.release, &labels));
            let pending =
                truth.pending.get(&name).filter(|pending| takes_part(truth, pending.deployment.as_str(), host));
            if committed.is_none() && pending.is_none() {
                continue;
            }
            services.push(wire::ServiceState {
                service: name.to_string(),
                generation: committed.map_or(0, |(record, _)| record.generation),
                committed: committed
                    .map(|(record, _)| service_release(&keys::service(&name), name.as_str(), &record.release))
                    .transpose()?,
                pending: pending.map(|pending| pending.deployment.to_string()).unwrap_or_default(),
            });
        }
        Ok(wire::State { epoch, revision: truth.revision, services })
    })
}

fn selects(release: &ReleaseRecord, labels: &BTreeMap<String, String>) -> bool {
    release.hosts.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn takes_part(truth: &Truth, deployment: &str, host: &HostId) -> bool {
    let record = truth.deployments.iter().find(|(id, _)| id.as_str() == deployment);
    record.is_some_and(|(_, record)| record.participants.contains_key(host.as_str()))
}

fn service_release(key: &str, service: &str, release: &ReleaseRecord) -> Result<wire::ServiceRelease, RecordError> {
    let digest = unhex("digest", &release.digest).map_err(|error| RecordError::new(key, error))?;
    Ok(wire::ServiceRelease { service: service.to_owned(), digest, release: Some(release.release(key)?) })
}

/// The protocol's `Prepare` with what its digests stand for.
pub fn prepare_for(opening: &Opening, prepare: &Prepare, is_rollback: bool) -> Result<wire::Prepare, RecordError> {
    let key = keys::deployment(&prepare.deployment);
    let services = prepare.services.keys().map(|name| {
        let release = opening.record.services.get(name.as_str());
        let release = release.ok_or_else(|| RecordError::new(&key, format!("it has no release of {name}")))?;
        service_release(&key, name.as_str(), release)
    });
    let Revision(revision) = prepare.revision;
    Ok(wire::Prepare {
        epoch: prepare.epoch.0,
        deployment: prepare.deployment.to_string(),
        generation: prepare.generation.0,
        revision,
        services: services.collect::<Result<_, _>>()?,
        rollback: is_rollback,
    })
}

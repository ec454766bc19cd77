//! Before a deployment opens: who is there, who is left out, and which images they have.

use super::error::images_status;
use crate::leader::Leader;
use crate::planner::{self, Absence, Roll, RollError, choose_pins};
use crate::records::ReleaseRecord;
use crate::spec::{ImagePin, ImageReference, MissingHosts, Spec};
use bgctl_proto::session::Image;
use cutover::ids::{HostId, ServiceName};
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tonic::Status;

/// How long a deployment waits for hosts that are away: an agent that is being restarted is back within a
/// second or two. Whoever has been away for longer than that is not waited for, if it may be missing.
const HOSTS_WITHIN: Duration = Duration::from_secs(5);

/// How often a host is asked for its images: one that is lost twice meanwhile has other troubles.
const IMAGES_TRIES: usize = 2;

/// The hosts of a service, called together.
pub(super) struct Muster<'a> {
    leader: &'a Leader,
    service: &'a ServiceName,
    policy: MissingHosts,
    host_count: usize,
    /// Who came.
    pub(super) roll: Roll,
}

impl<'a> Muster<'a> {
    /// The hosts a spec selects.
    pub(super) async fn of_spec(
        leader: &'a Leader,
        service: &'a ServiceName,
        spec: &Spec,
        excluded: BTreeSet<String>,
    ) -> Result<Self, Status> {
        let selected = selected(leader, &spec.hosts);
        if selected.is_empty() {
            let labels: Vec<_> = spec.hosts.iter().map(|(key, value)| format!("{key}={value}")).collect();
            return Err(Status::failed_precondition(format!(
                "no host carries the labels of {service} ({}); `bgctl hosts` lists what each carries",
                labels.join(", ")
            )));
        }
        Self::call(leader, service, spec.missing_hosts, &selected, excluded).await
    }

    /// The hosts a release was made for, under the policy that the service's spec has now.
    pub(super) async fn of_release(
        leader: &'a Leader,
        service: &'a ServiceName,
        release: &ReleaseRecord,
        excluded: BTreeSet<String>,
    ) -> Result<Self, Status> {
        let policy = leader.ledger.read(|truth| truth.specs.get(service).map(|(_, spec)| spec.missing_hosts));
        let selected = selected(leader, &release.hosts);
        Self::call(leader, service, policy.unwrap_or_default(), &selected, excluded).await
    }

    async fn call(
        leader: &'a Leader,
        service: &'a ServiceName,
        policy: MissingHosts,
        selected: &[HostId],
        excluded: BTreeSet<String>,
    ) -> Result<Self, Status> {
        let host_count = selected.len();
        let refused = |error| refusal(leader, service, policy, host_count, error);
        let call = |away: &[HostId]| planner::call(selected, &excluded, away, policy);
        let wanted = planner::wanted(selected, &excluded).map_err(refused)?;
        let is_long_gone =
            |host: &&HostId| leader.fleet.view(host).is_some_and(|view| !view.connected && view.since >= HOSTS_WITHIN);
        let long_gone: Vec<_> = wanted.iter().filter(is_long_gone).cloned().collect();
        let is_without_them = call(&long_gone).is_ok();
        let awaited: Vec<_> =
            wanted.into_iter().filter(|host| !(is_without_them && long_gone.contains(host))).collect();
        leader.fleet.wait_for(&awaited, HOSTS_WITHIN).await;
        let away: Vec<_> = selected.iter().filter(|host| !leader.fleet.is_connected(host)).cloned().collect();
        let roll = call(&away).map_err(refused)?;
        for (host, why) in &roll.left_out {
            tracing::warn!(%service, %host, %why, "a deployment does without this host");
        }
        Ok(Self { leader, service, policy, host_count, roll })
    }

    /// Makes a version exact: one image for all hosts, whatever the tag says tomorrow.
    pub(super) async fn resolve(
        &mut self,
        references: &[ImageReference],
    ) -> Result<BTreeMap<String, ImagePin>, Status> {
        let names: Vec<_> = references.iter().map(|image| image.reference.clone()).collect();
        let asked = self.roll.participants.iter().map(|host| async {
            let images = self.images_of(host, names.clone(), false).await?;
            Ok::<_, Status>((host.clone(), images))
        });
        let answers = try_join_all(asked).await?;
        let away: Vec<_> =
            answers.iter().filter(|(_, images)| images.is_none()).map(|(host, _)| host.clone()).collect();
        self.leave_out(away)?;
        let answers: BTreeMap<_, _> = answers.into_iter().filter_map(|(host, images)| Some((host, images?))).collect();
        let first = choose_pins(references, &answers, &BTreeMap::new()).map_err(images_status)?;
        if first.ask.is_empty() {
            return Ok(first.pins);
        }
        let wanted: Vec<_> = first.ask.keys().cloned().collect();
        let host = self.roll.participants[0].clone();
        let said = self.images_of(&host, wanted, true).await?;
        let said = said.ok_or_else(|| self.refused(RollError::TooManyAway(vec![host])))?.into_iter().map(|image| {
            let answer = if image.registry_digest.is_empty() { Err(image.error) } else { Ok(image.registry_digest) };
            (image.reference, answer)
        });
        let second = choose_pins(references, &answers, &said.collect()).map_err(images_status)?;
        match second.ask.into_values().next() {
            Some(unsettled) => Err(images_status(unsettled)),
            None => Ok(second.pins),
        }
    }

    /// Which images a host has; none if it went away. An agent that is restarted while it is asked is asked again.
    async fn images_of(
        &self,
        host: &HostId,
        references: Vec<String>,
        ask_registry: bool,
    ) -> Result<Option<Vec<Image>>, Status> {
        for _ in 0..IMAGES_TRIES {
            if !self.leader.fleet.wait_for(std::slice::from_ref(host), HOSTS_WITHIN).await.is_empty() {
                return Ok(None);
            }
            if let Some(images) = self.leader.fleet.find_images(host, references.clone(), ask_registry).await {
                return Ok(Some(images));
            }
        }
        Err(Status::failed_precondition(format!("{host} did not say which images it has; look at its agent's log")))
    }

    /// They went away since they were called.
    fn leave_out(&mut self, away: Vec<HostId>) -> Result<(), Status> {
        let Some(left) = self.roll.may_be_missing.checked_sub(away.len()) else {
            return Err(self.refused(RollError::TooManyAway(away)));
        };
        self.roll.may_be_missing = left;
        self.roll.participants.retain(|host| !away.contains(host));
        self.roll.left_out.extend(away.into_iter().map(|host| (host, Absence::Away)));
        Ok(())
    }

    fn refused(&self, error: RollError) -> Status {
        refusal(self.leader, self.service, self.policy, self.host_count, error)
    }
}

fn selected(leader: &Leader, labels: &BTreeMap<String, String>) -> Vec<HostId> {
    leader.ledger.read(|truth| {
        let carries = |has: &BTreeMap<String, String>| labels.iter().all(|(key, value)| has.get(key) == Some(value));
        truth.hosts.iter().filter(|(_, record)| carries(&record.labels)).map(|(host, _)| host.clone()).collect()
    })
}

fn refusal(
    leader: &Leader,
    service: &ServiceName,
    policy: MissingHosts,
    host_count: usize,
    error: RollError,
) -> Status {
    match error {
        RollError::NotAHost(name) => Status::invalid_argument(format!(
            "{name:?} is no host of {service}; `bgctl status {service}` lists its hosts"
        )),
        RollError::AllExcluded => Status::invalid_argument(format!("no host of {service} would take part")),
        RollError::TooManyAway(away) => {
            let needs = match policy {
                MissingHosts::None => format!("{service} needs all of its hosts"),
                MissingHosts::Count(_) | MissingHosts::Percent(_) => {
                    let allowed = policy.of(host_count);
                    format!("{service} may do without {allowed} of its {host_count} hosts (missing_hosts: {policy})")
                }
            };
            let names: Vec<_> = away.iter().map(HostId::as_str).collect();
            let since = away.iter().map(|host| match leader.fleet.view(host) {
                Some(view) => format!("{host} (for {:.0} s)", view.since.as_secs_f64()),
                None => format!("{host} (not seen since this controller leads)"),
            });
            Status::failed_precondition(format!(
                "{needs}, and these are away: {}; look at `systemctl status bgctl-agent` there, or leave them out this once with `--exclude {}`",
                since.collect::<Vec<_>>().join(", "),
                names.join(",")
            ))
        }
    }
}

//! The operators' service. Who asks is known from the certificate.

use super::act::{self, Deploy};
use super::stream::{self, Events};
use super::{error, membership, restored, view};
use crate::follower::Follower;
use crate::leader::Leader;
use crate::ledger::Truth;
use crate::seat::{LEADER_WITHIN, Seat};
use crate::spec::Version;
use bgctl_proto::link::{Caller, Peer};
use bgctl_proto::operator as wire;
use bgctl_proto::operator::operator_server::Operator;
use bgctl_proto::redirect::{self, Reads};
use cutover::ids::{DeploymentId, ServiceName};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Who only reads, and would take a follower's word, is not kept waiting for a leader for long.
const READ_LEADER_WITHIN: Duration = Duration::from_secs(1);

/// Entries of history that are shown unless more are asked for.
const HISTORY_SHOWN: u32 = 20;

/// The operators' service.
pub struct Operators {
    seat: Seat,
}

/// Whose word an answer is.
enum Word {
    Leader(Arc<Leader>),
    Follower(Arc<Follower>),
}

impl Operators {
    /// Serves whenever there is a leader here.
    pub fn new(seat: Seat) -> Self {
        Self { seat }
    }

    /// The leader and the operator, or why not.
    async fn admit<T>(&self, request: &Request<T>) -> Result<(Arc<Leader>, String), Status> {
        let name = operator(request)?;
        let leader = self.seat.leader(redirect::tried(request.metadata()), LEADER_WITHIN).await?;
        Ok((leader, name))
    }

    /// Whose word the operator gets: the leader's if that can be, or this follower's if that is asked for.
    async fn admit_reader<T>(&self, request: &Request<T>) -> Result<Word, Status> {
        operator(request)?;
        let tried = redirect::tried(request.metadata());
        let within = match redirect::reads(request.metadata()) {
            None => LEADER_WITHIN,
            Some(Reads::Leader) => READ_LEADER_WITHIN,
            Some(Reads::Follower) => {
                let follower = Arc::clone(self.seat.follower());
                return match self.seat.now() {
                    Some(leader) => Ok(Word::Leader(leader)),
                    None if follower.freshness().age.is_some() => Ok(Word::Follower(follower)),
                    None => Err(Status::unavailable("this controller has not reached the store since it started")),
                };
            }
        };
        Ok(Word::Leader(self.seat.leader(tried, within).await?))
    }
}

impl Word {
    fn read<T>(&self, look: impl FnOnce(&Truth, Option<&Leader>) -> T) -> T {
        match self {
            Self::Leader(leader) => leader.ledger.read(|truth| look(truth, Some(leader))),
            Self::Follower(follower) => follower.read(|truth| look(truth, None)),
        }
    }

    /// For an answer that is not the leader's.
    fn follower(&self) -> Option<wire::FollowerView> {
        match self {
            Self::Leader(_) => None,
            Self::Follower(follower) => Some(view::follower(follower)),
        }
    }
}

/// What a leader was asked to do, for as long as it leads: whoever asked one that cannot go on asks the next one, and
/// the request's id keeps that from being done twice.
async fn while_leading<T>(leader: &Leader, act: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::select! {
        done = act => done,
        () = leader.stopped.cancelled() => {
            Err(Status::unavailable("this controller stopped, or leads no longer; ask again"))
        }
    }
}

/// Who asks, by the certificate.
fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    match request.extensions().get::<Caller>().map(|caller| &caller.peer) {
        Some(Peer::Operator { name }) => Ok(name.clone()),
        Some(Peer::Host { .. } | Peer::Controller) | None => {
            Err(Status::permission_denied("this certificate is not an operator's"))
        }
    }
}

fn name<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Status>
where
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| Status::invalid_argument(format!("{what}: {}", error.to_string())))
}

#[tonic::async_trait]
impl Operator for Operators {
    type DeployStream = Events;
    type RollbackStream = Events;
    type WatchStream = Events;

    async fn apply(&self, request: Request<wire::ApplyRequest>) -> Result<Response<wire::ApplyReply>, Status> {
        let (leader, actor) = self.admit(&request).await?;
        let wire::ApplyRequest { text, file_name } = request.into_inner();
        let file_name = if file_name.is_empty() { "spec.yaml".to_owned() } else { file_name };
        let (spec, revision, changed) = while_leading(&leader, act::apply(&leader, &text, &file_name, &actor)).await?;
        let hosts = leader.ledger.read(|truth| {
            let selected = truth.hosts.iter().filter(|(_, record)| spec.selects(&record.labels));
            selected.map(|(host, _)| host.to_string()).collect()
        });
        Ok(Response::new(wire::ApplyReply { service: spec.service.to_string(), revision, changed, hosts }))
    }

    async fn deploy(&self, request: Request<wire::DeployRequest>) -> Result<Response<Events>, Status> {
        let arrived = Instant::now();
        let (leader, actor) = self.admit(&request).await?;
        let wire::DeployRequest { service, version, request_id, force, exclude } = request.into_inner();
        let deploy = Deploy {
            service: name("service", &service)?,
            version: name::<Version>("version", &version)?,
            is_forced: force,
            excluded: exclude.into_iter().collect(),
            actor,
            request: name::<DeploymentId>("request_id", &request_id)?.to_string(),
            arrived,
        };
        let started = while_leading(&leader, act::start_deploy(&leader, deploy)).await?;
        Ok(Response::new(stream::tell(started, true, leader.stopped.clone())))
    }

    async fn rollback(&self, request: Request<wire::RollbackRequest>) -> Result<Response<Events>, Status> {
        let arrived = Instant::now();
        let (leader, actor) = self.admit(&request).await?;
        let wire::RollbackRequest { service, request_id, exclude } = request.into_inner();
        let request = name::<DeploymentId>("request_id", &request_id)?.to_string();
        let before = leader.ledger.read(|truth| truth.requests.get(&request).cloned());
        let started = match before {
            Some(id) => act::find(&leader, &id)?,
            None => {
                let service = if service.is_empty() { latest_service(&leader)? } else { name("service", &service)? };
                let excluded = exclude.into_iter().collect();
                let act = act::start_rollback(&leader, &service, &actor, Some(request), None, excluded, arrived);
                while_leading(&leader, act).await?
            }
        };
        Ok(Response::new(stream::tell(started, true, leader.stopped.clone())))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Result<Response<wire::AbortReply>, Status> {
        let (leader, actor) = self.admit(&request).await?;
        let service = request.into_inner().service;
        let service: Option<ServiceName> = if service.is_empty() { None } else { Some(name("service", &service)?) };
        let open: Vec<_> = leader.ledger.read(|truth| {
            let pending =
                truth.pending.iter().filter(|(name, _)| service.as_ref().is_none_or(|service| service == *name));
            pending.map(|(name, pending)| (name.clone(), pending.deployment.clone())).collect()
        });
        let id = match &open[..] {
            [] => {
                let whose = service.map(|service| format!(" of {service}")).unwrap_or_default();
                return Err(Status::failed_precondition(format!("no deployment{whose} is open; nothing to abort")));
            }
            [(_, id)] => id,
            several => {
                let names: Vec<_> = several.iter().map(|(name, _)| name.as_str()).collect();
                return Err(Status::failed_precondition(format!(
                    "deployments of {} are open; name the service",
                    names.join(", ")
                )));
            }
        };
        let report = act::end_open(&leader, id, &actor).await?;
        Ok(Response::new(wire::AbortReply { deployment: Some(view::deployment(&report)) }))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Events>, Status> {
        let (leader, _) = self.admit(&request).await?;
        let wire::WatchRequest { deployment, until_settled } = request.into_inner();
        let started = act::find(&leader, &name("deployment", &deployment)?)?;
        Ok(Response::new(stream::tell(started, until_settled, leader.stopped.clone())))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        let word = self.admit_reader(&request).await?;
        let service = request.into_inner().service;
        let wanted = if service.is_empty() { None } else { Some(name::<ServiceName>("service", &service)?) };
        let mut reply = word.read(|truth, leader| {
            let all: std::collections::BTreeSet<_> = match wanted {
                Some(name) => [name].into(),
                None => truth.specs.keys().chain(truth.services.keys()).cloned().collect(),
            };
            let services = all.iter().map(|name| view::service(truth, leader, name)).collect::<Result<_, Status>>()?;
            let known = truth.leader.as_ref().map_or(0, |(_, epoch)| *epoch);
            Ok::<_, Status>(wire::StatusReply {
                services,
                revision: truth.revision,
                epoch: leader.map_or(known, |leader| leader.ledger.epoch().0),
                history: truth.chronicle.history.clone(),
                store_doubt: restored::doubt(truth, leader).unwrap_or_default(),
                ..wire::StatusReply::default()
            })
        })?;
        reply.warnings = self.seat.follower().warnings();
        reply.follower = word.follower();
        Ok(Response::new(reply))
    }

    async fn history(&self, request: Request<wire::HistoryRequest>) -> Result<Response<wire::HistoryReply>, Status> {
        let word = self.admit_reader(&request).await?;
        let wire::HistoryRequest { service, limit } = request.into_inner();
        let service: ServiceName = name("service", &service)?;
        let limit = if limit == 0 { HISTORY_SHOWN } else { limit };
        let deployments = word.read(|truth, _| {
            let is_known = truth.specs.contains_key(&service) || truth.services.contains_key(&service);
            is_known.then(|| view::history(truth, &service, limit as usize))
        });
        let unknown = || Status::not_found(format!("there is no service {service}; `bgctl status` lists all"));
        let deployments = deployments.ok_or_else(unknown)?;
        Ok(Response::new(wire::HistoryReply { deployments, follower: word.follower() }))
    }

    async fn hosts(&self, request: Request<wire::HostsRequest>) -> Result<Response<wire::HostsReply>, Status> {
        let word = self.admit_reader(&request).await?;
        let hosts = word.read(view::fleet);
        Ok(Response::new(wire::HostsReply { hosts, follower: word.follower() }))
    }

    async fn controllers(
        &self,
        request: Request<wire::ControllersRequest>,
    ) -> Result<Response<wire::ControllersReply>, Status> {
        operator(&request)?;
        let store = view::store(&self.seat.store().health().await);
        let known = self.seat.follower().read(view::controllers);
        let controller = Some(view::controller(&self.seat));
        Ok(Response::new(wire::ControllersReply { controller, known, store: Some(store) }))
    }

    async fn forget_controller(
        &self,
        request: Request<wire::ForgetControllerRequest>,
    ) -> Result<Response<wire::ForgetControllerReply>, Status> {
        let (leader, actor) = self.admit(&request).await?;
        let name = request.into_inner().name;
        if !self.seat.follower().read(|truth| truth.replicas.contains_key(&name)) {
            return Err(Status::not_found(format!("there is no controller {name:?}; `bgctl controllers` lists all")));
        }
        while_leading(&leader, act::forget_controller(&leader, name, actor)).await?;
        Ok(Response::new(wire::ForgetControllerReply {}))
    }

    async fn replace_host(
        &self,
        request: Request<wire::ReplaceHostRequest>,
    ) -> Result<Response<wire::ReplaceHostReply>, Status> {
        let (leader, actor) = self.admit(&request).await?;
        membership::replace(&leader, &name("host", &request.into_inner().host)?, &actor).await.map(Response::new)
    }

    async fn remove_host(
        &self,
        request: Request<wire::RemoveHostRequest>,
    ) -> Result<Response<wire::RemoveHostReply>, Status> {
        let (leader, actor) = self.admit(&request).await?;
        let wire::RemoveHostRequest { host, force } = request.into_inner();
        membership::remove(&leader, &name("host", &host)?, force, &actor).await.map(Response::new)
    }

    async fn confirm_store(
        &self,
        request: Request<wire::ConfirmStoreRequest>,
    ) -> Result<Response<wire::ConfirmStoreReply>, Status> {
        let (leader, actor) = self.admit(&request).await?;
        restored::confirm(&leader, &actor).await.map(Response::new)
    }
}

/// Of the newest deployment, whichever way it ended.
fn latest_service(leader: &Leader) -> Result<ServiceName, Status> {
    let newest = leader.ledger.read(|truth| {
        let open = truth.pending.iter().map(|(name, pending)| (pending.generation, name.clone()));
        let past =
            truth.history.iter().filter_map(|(name, reports)| Some((*reports.keys().next_back()?, name.clone())));
        open.chain(past).max_by_key(|(generation, _)| *generation)
    });
    let (_, name) = newest.ok_or_else(error::nothing_deployed)?;
    Ok(name)
}

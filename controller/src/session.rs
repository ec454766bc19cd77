//! The agents' streams. Who speaks is known from the certificate; generated types stop here.

use crate::board::Notice;
use crate::door::{ANSWERS_WITHIN, Calling, Judgement, Knock, Refusal};
use crate::fleet::HostStatus;
use crate::leader::Leader;
use crate::ledger::Life;
use crate::seat::{LEADER_WITHIN, Seat};
use bgctl_proto::convert::{WireError, incarnation, parse, slots};
use bgctl_proto::crashpoint;
use bgctl_proto::link::{Caller, Peer};
use bgctl_proto::redirect;
use bgctl_proto::session as wire;
use bgctl_proto::session::agent_message::Kind;
use bgctl_proto::session::controller_message::Kind as First;
use bgctl_proto::session::session_server::Session;
use cutover::history::Seen;
use cutover::ids::{DeploymentId, HostId, Incarnation};
use cutover::message::Verdict;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

/// An agent that says nothing at first is no agent.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Messages waiting to go out to one host. See [`crate::fleet::Fleet::send`].
const OUTBOX_MESSAGES: usize = 256;

/// The agents' service. Streams live only under a leader; where there is none, agents are sent to it.
pub struct Sessions {
    seat: Seat,
}

impl Sessions {
    /// Serves whenever there is a leader here.
    pub fn new(seat: Seat) -> Self {
        Self { seat }
    }
}

#[tonic::async_trait]
impl Session for Sessions {
    type OpenStream = ReceiverStream<Result<wire::ControllerMessage, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let Some(Caller { peer: Peer::Host { host, labels }, from }) = caller else {
            return Err(Status::permission_denied("this certificate is not a host's"));
        };
        let leader = self.seat.leader(redirect::tried(request.metadata()), LEADER_WITHIN).await?;
        let (outbox, messages) = mpsc::channel(OUTBOX_MESSAGES);
        let stream = request.into_inner();
        tokio::spawn(async move {
            let stopped = leader.stopped.clone();
            let said = converse(&leader, &host, (labels, from), stream, outbox.clone());
            let ended = tokio::select! {
                ended = said => ended,
                () = stopped.cancelled() => Err(Status::unavailable("this controller stops or leads no longer")),
            };
            if let Err(status) = ended {
                tracing::info!(%host, reason = status.message(), "session ended");
                drop(outbox.try_send(Err(status)));
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

fn malformed(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

async fn converse(
    leader: &Arc<Leader>,
    host: &HostId,
    (labels, from): (BTreeMap<String, String>, String),
    mut stream: Streaming<wire::AgentMessage>,
    outbox: mpsc::Sender<Result<wire::ControllerMessage, Status>>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, stream.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
    let Some(Kind::Hello(hello)) = first.and_then(|message| message.kind) else {
        return Err(Status::invalid_argument("the first message is not a hello"));
    };
    let life = incarnation(&hello.incarnation).map_err(malformed)?;
    let given_up = CancellationToken::new();
    let calling = calling(&hello, life, labels, from);
    let number = greet(leader, host, calling, hello, outbox, given_up.clone().drop_guard()).await?;
    tracing::info!(%host, "linked");
    let ended = loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = given_up.cancelled() => {
                break Err(Status::unavailable("this stream takes no more messages, or there is a newer one"));
            }
        };
        match message {
            Ok(Some(message)) => {
                if let Err(error) = heard(leader, host, life, message) {
                    break Err(malformed(error));
                }
            }
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    leader.fleet.disconnected(host, number);
    if !leader.fleet.is_connected(host) {
        leader.board.tell_all(&Notice::Disconnected { host: host.clone() });
    }
    ended
}

/// Before anything else of it is believed: another protocol may mean something else by the same words.
fn speaks_ours(hello: &wire::Hello) -> Result<(), Status> {
    let ours = bgctl_proto::PROTOCOL_VERSION;
    if (hello.protocol_min..=hello.protocol_max).contains(&ours) {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "this agent speaks protocol {} to {}, the controller speaks {ours}: upgrade the older of the two",
        hello.protocol_min, hello.protocol_max
    )))
}

async fn greet(
    leader: &Arc<Leader>,
    host: &HostId,
    calling: Calling,
    hello: wire::Hello,
    outbox: mpsc::Sender<Result<wire::ControllerMessage, Status>>,
    up: DropGuard,
) -> Result<u64, Status> {
    speaks_ours(&hello)?;
    let applied = slots("hello.applied", &hello.applied).map_err(malformed)?;
    let remembers = hello.seen.as_ref().map(Seen::try_from).transpose().map_err(malformed)?;
    let _turn = leader.doors.turn(host).await;
    if let Err(refusal) = admit(leader, host, &calling).await {
        leader.doors.refused(host, calling, refusal);
        let told = leader.doors.waiting(host).map(|knock: Knock| knock.told(host)).unwrap_or_default();
        tracing::error!(%host, ?refusal, "an agent is not let in: {told}");
        return Err(Status::failed_precondition(format!("not let in as {host}: {told}")));
    }
    let life = calling.life.incarnation;
    leader.ledger.register(host, &calling.life).await.map_err(crate::api::ledger_status)?;
    leader.doors.entered(host, &calling);
    let chronicle = leader.ledger.chronicle().map_err(|error| Status::internal(error.to_string()))?;
    let standing = chronicle.standing(remembers.as_ref());
    if !standing.may_obey() {
        tracing::error!(%host, ?standing, "this host has lived through what the store does not know");
    }
    let status = HostStatus {
        incarnation: Some(life),
        applied: applied.clone(),
        versions: [hello.agent_version, hello.docker_version, hello.nginx_version],
        remembers,
        standing: Some(standing),
        ..HostStatus::default()
    };
    // Before anything else: an agent obeys nothing before it knows whose word it is.
    let first = wire::ControllerMessage { kind: Some(First::Chronicle((&chronicle).into())) };
    outbox.try_send(Ok(first)).map_err(|_| Status::unavailable("this stream takes no messages"))?;
    let number = leader.fleet.connected(host, status, outbox, up);
    leader.fleet.tell_state(&leader.ledger, host);
    let at = Instant::now();
    leader.board.tell_all(&Notice::Connected { host: host.clone(), incarnation: life });
    leader.board.tell_all(&Notice::Applied { host: host.clone(), slots: applied, times: None, at });
    Ok(number)
}

fn calling(hello: &wire::Hello, life: Incarnation, labels: BTreeMap<String, String>, from: String) -> Calling {
    Calling {
        life: Life { incarnation: life, machine: hello.machine.clone(), labels },
        count: hello.count,
        mark: hello.mark,
        mark_before: hello.mark_before,
        from,
    }
}

/// Whether this agent may come in; if another one of its life is linked, only if that one does not answer.
async fn admit(leader: &Leader, host: &HostId, calling: &Calling) -> Result<(), Refusal> {
    let (registered, removed) =
        leader.ledger.read(|truth| (truth.hosts.get(host).cloned(), truth.removed.get(host).cloned()));
    let is_linked = leader.fleet.is_connected(host);
    match leader.doors.judge(host, registered.as_ref(), removed.as_ref(), is_linked, calling) {
        Judgement::LetIn => Ok(()),
        Judgement::IfTheOtherIsGone if leader.fleet.answers(host, ANSWERS_WITHIN).await => Err(Refusal::Twin),
        Judgement::IfTheOtherIsGone => Ok(()),
        Judgement::Refuse(refusal) => Err(refusal),
    }
}

/// What a host says after its hello, read and passed on to whom it concerns.
///
/// # Errors
/// A message that does not say what it must; the stream ends with it.
pub fn heard(
    leader: &Arc<Leader>,
    host: &HostId,
    life: Incarnation,
    message: wire::AgentMessage,
) -> Result<(), WireError> {
    let at = Instant::now();
    let host = host.clone();
    match message.kind {
        Some(Kind::Vote(vote)) => {
            let id: DeploymentId = parse("vote.deployment", &vote.deployment)?;
            let verdict = if vote.yes { Verdict::Yes } else { Verdict::No(vote.reason) };
            let incarnation = incarnation(&vote.incarnation)?;
            crashpoint!("before_vote_received");
            leader.board.tell(&id, Notice::Vote { host, incarnation, verdict, log_tail: vote.log_tail, at });
            crashpoint!("after_vote_received");
        }
        Some(Kind::Lost(lost)) => {
            let id: DeploymentId = parse("lost.deployment", &lost.deployment)?;
            let incarnation = incarnation(&lost.incarnation)?;
            leader.board.tell(&id, Notice::Lost { host, incarnation, reason: lost.reason });
        }
        Some(Kind::Applied(applied)) => {
            let now = slots("applied.applied", &applied.applied)?;
            leader.fleet.update(&host, |status| status.applied = now.clone());
            leader.board.tell_all(&Notice::Applied { host, slots: now, times: applied.times, at });
        }
        Some(Kind::Images(images)) => leader.fleet.images(&host, images),
        Some(Kind::Progress(progress)) => {
            let id: DeploymentId = parse("progress.deployment", &progress.deployment)?;
            leader.board.tell(&id, Notice::Progress { host, progress });
        }
        Some(Kind::Health(health)) => {
            note_hands(leader, &host, &health.held);
            leader.fleet.update(&host, |status| status.health = health.clone());
            leader.board.tell_all(&Notice::Health { host, health });
        }
        Some(Kind::Hello(hello)) if incarnation(&hello.incarnation)? != life => {
            return Err(WireError::new("hello.incarnation", "it changed within one stream"));
        }
        // Said again, or of a newer agent: nothing the protocol rests on.
        Some(Kind::Hello(_)) | None => {}
    }
    Ok(())
}

/// What was done on a host without asking goes into the record of changes as soon as it is heard of.
fn note_hands(leader: &Arc<Leader>, host: &HostId, held: &[wire::Held]) {
    for held in leader.fleet.news_by_hand(host, held) {
        let wire::Held { service, slot, at_unix_millis, uid, version } = held;
        let colour =
            slot.map(|slot| slot.colour()).and_then(|colour| bgctl_proto::convert::colour("held", colour.into()).ok());
        let colour = colour.map_or("another colour", |colour| colour.as_str());
        // A host says what it likes, and the formatter goes no further than the year 9999.
        let at = std::time::UNIX_EPOCH + Duration::from_millis(at_unix_millis.min(253_402_300_799_000));
        let at = humantime::format_rfc3339_seconds(at);
        let action = format!("{service} on {host} switched by hand to {colour} ({version}) at {at} by uid {uid}");
        tracing::warn!(%action, "heard of a switch by hand");
        let (leader, actor) = (Arc::clone(leader), format!("uid {uid} on {host}"));
        tokio::spawn(async move {
            if let Err(error) = leader.ledger.note(&actor, action).await {
                tracing::error!(%error, "a switch by hand is not in the record of changes");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_another_protocol_is_refused_and_told_which_both_speak() {
        let ours = bgctl_proto::PROTOCOL_VERSION;
        let of = |min, max| speaks_ours(&wire::Hello { protocol_min: min, protocol_max: max, ..Default::default() });
        assert!(of(ours, ours).is_ok() && of(0, ours).is_ok() && of(ours, ours + 2).is_ok());
        for (min, max) in [(ours + 1, ours + 2), (0, ours - 1)] {
            let status = of(min, max).expect_err("another protocol");
            assert_eq!(status.code(), tonic::Code::FailedPrecondition);
            assert!(status.message().contains(&format!("{min} to {max}")), "{}", status.message());
        }
    }
}

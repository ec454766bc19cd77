//! The one stream to a controller: dialled, kept, dialled again. Generated types stop here.

mod inbound;
mod outbound;

pub use inbound::{FromLink, Told, read};
pub use outbound::{Outbox, Versions};

use crate::world::{Settings, World};
use bgctl_proto::link::{self, LinkError};
use bgctl_proto::redirect::{self, Elsewhere, LeaderAt, REDIRECTS_MAX};
use bgctl_proto::session::session_client::SessionClient;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Pause before dialling again: doubled each time up to the longest, each drawn from half to whole, so
/// that a thousand agents do not come back at one instant.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

/// The longest while controllers answer that none of them leads.
const PAUSE_LEADERLESS: Duration = Duration::from_secs(1);

/// Before a redirect is followed, drawn from nothing to this: all agents of a fleet are told of a new leader at once.
const REDIRECT_JITTER: Duration = Duration::from_millis(200);

/// Messages waiting to go out. A stream that cannot take so many is as good as broken: it is dropped,
/// and the next one begins with everything the controller needs.
const OUTBOX_MESSAGES: usize = 1024;

/// A release is a few KiB, a host has some tens of services.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the controller at {address} refused the session: {message}")]
    Refused { address: String, message: String },
    #[error("the controller at {address}: {message}")]
    Elsewhere { address: String, message: String, said: Elsewhere },
    #[error("the stream broke: {message}")]
    Broken { message: String },
    #[error("the controller sent what this agent cannot read, {0}; are the versions too far apart?")]
    Malformed(#[from] bgctl_proto::convert::WireError),
    #[error("the controller closed the stream")]
    Closed,
}

/// Holds a stream to whichever controller leads, until `shutdown`. One that does not lead says who does, and that one
/// is dialled next; otherwise the addresses of the config are tried in turn.
pub async fn keep_linked(settings: Settings, world: World, agent: mpsc::Sender<FromLink>, shutdown: CancellationToken) {
    let mut pause = PAUSE_FIRST;
    let mut listed = settings.controllers.iter().cycle();
    let mut road = Road::default();
    loop {
        let sent_to = road.next.take();
        let Some(address) = sent_to.as_ref().map(|leader| &leader.address).or_else(|| listed.next()) else { return };
        let mut was_up = false;
        let ended = tokio::select! {
            ended = one_session(address, road.tried, &world, &agent, &mut was_up) => ended,
            () = shutdown.cancelled() => return,
        };
        if was_up {
            pause = PAUSE_FIRST;
            road = Road::default();
        }
        let wait = match ended {
            Err(SessionError::Elsewhere { said: Elsewhere::At(leader), .. }) if road.redirects < REDIRECTS_MAX => {
                tracing::info!(from = address, leader = leader.address, "sent to the leader");
                road.redirects += 1;
                road.next = Some(leader);
                world.ambient.jittered(REDIRECT_JITTER)
            }
            ended => {
                // Whoever is asked next is told not to send us there again, unless it is all there is.
                if let (false, Some(leader)) = (was_up, sent_to) {
                    road.tried = Some(leader.epoch);
                }
                road.redirects = 0;
                let is_leaderless = matches!(ended, Err(SessionError::Elsewhere { .. }));
                let reason = ended.map_or_else(|error| error.to_string(), |closed| closed.to_string());
                if agent.send(FromLink::Down(reason)).await.is_err() {
                    return;
                }
                // A fleet whose controllers are there will have a leader any moment.
                let longest = if is_leaderless { PAUSE_LEADERLESS } else { PAUSE_LONGEST };
                let jittered = world.ambient.jittered(pause.min(longest));
                pause = (pause * 2).min(PAUSE_LONGEST);
                jittered
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// The way to the leader, since a stream was last up.
#[derive(Default)]
struct Road {
    /// Where it was said to be.
    next: Option<LeaderAt>,
    /// One that was named and could not be reached.
    tried: Option<u64>,
    /// Times in a row that somebody knew better.
    redirects: usize,
}

async fn one_session(
    address: &str,
    tried: Option<u64>,
    world: &World,
    agent: &mpsc::Sender<FromLink>,
    was_up: &mut bool,
) -> Result<SessionError, SessionError> {
    let channel = link::connect(address, world.tls.clone(), world.dial.clone()).await?;
    let mut client = SessionClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (sender, receiver) = mpsc::channel(OUTBOX_MESSAGES);
    let refused = |status: tonic::Status| {
        let (address, message) = (address.to_owned(), status.message().to_owned());
        match Elsewhere::of(&status) {
            Some(said) => SessionError::Elsewhere { address, message, said },
            None => SessionError::Refused { address, message },
        }
    };
    let mut opening = tonic::Request::new(ReceiverStream::new(receiver));
    redirect::set_tried(&mut opening, tried);
    let overflow = CancellationToken::new();
    let mut stream = client.open(opening).await.map_err(refused)?.into_inner();
    let outbox = Outbox::new(sender, overflow.clone());
    if agent.send(FromLink::Up { address: address.to_owned(), outbox }).await.is_err() {
        return Ok(SessionError::Closed);
    }
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = overflow.cancelled() => return Ok(SessionError::Broken { message: "it takes no more messages".to_owned() }),
        };
        match message {
            Ok(Some(message)) => {
                // Only now: a controller that does not let this host in ends the stream without a word in it.
                *was_up = true;
                if let Some(told) = inbound::read(message)?
                    && agent.send(FromLink::Told(told)).await.is_err()
                {
                    return Ok(SessionError::Closed);
                }
            }
            Ok(None) => return Ok(SessionError::Closed),
            Err(status) => return Ok(SessionError::Broken { message: status.message().to_owned() }),
        }
    }
}

//! Asking a controller: which one, and what its silence or its no means.

use crate::settings::{Address, Settings};
use bgctl_proto::link::{Identity, IdentityError, TcpDial, connect, innermost};
use bgctl_proto::operator::operator_client::OperatorClient;
use bgctl_proto::redirect::{self, Elsewhere, REDIRECTS_MAX, Reads};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// Largest answer taken. The first event about 10,000 hosts, each failed with twenty lines of log of
/// a hundred bytes, is about 20 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// As long as controllers are there and none leads, one will: within twice a lease of 5 s and the time to take over.
const LEADER_WITHIN: Duration = Duration::from_secs(20);

/// Between two rounds of asking everybody who leads. They keep whoever asks waiting, so that this is for those that
/// cannot be reached.
const ROUND_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Between two tries to reach a controller that restarts: it listens again in well under a second.
const RESTART_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A connection to one controller.
pub type Controller = OperatorClient<InterceptedService<Channel, Mark>>;

/// The controllers, as this command may ask them.
#[derive(Debug)]
pub struct Client<'a> {
    controllers: &'a [Address],
    identity: &'a Identity,
    connect_timeout: Duration,
}

impl<'a> Client<'a> {
    /// Connects to nobody yet.
    pub fn new(settings: &'a Settings) -> Self {
        let Settings { controllers, identity, connect_timeout, json: _ } = settings;
        Self { controllers, identity, connect_timeout: *connect_timeout }
    }

    /// Puts a question to the controllers, in order, until the leader answers it: one that does not lead says where
    /// the leader is, and that one is asked at once. While they are there and none leads, they are asked again. One
    /// whose store does not answer says so with UNAVAILABLE, and the next is asked. If all look as a controller does
    /// that restarts, they are asked again for as long as one of them may take to answer.
    /// The question may reach more than one of them: it must be one that can be repeated.
    pub async fn call<R>(&self, ask: impl AsyncFn(Controller) -> Result<Response<R>, Status>) -> Result<R, CallError> {
        let begun = Instant::now();
        let mut round = Round::default();
        loop {
            match self.rounds(&ask, None, &mut round, begun).await {
                Err(CallError::Unreachable { .. }) if round.is_leaderless && begun.elapsed() < LEADER_WITHIN => {
                    tokio::time::sleep(ROUND_AGAIN_AFTER).await;
                }
                answered => return answered,
            }
        }
    }

    /// Puts a question that only reads. The leader is preferred, because only it hears how hosts are; if it cannot be
    /// reached soon, another controller answers from what it remembers of the store, and says so in the answer.
    pub async fn read<R>(&self, ask: impl AsyncFn(Controller) -> Result<Response<R>, Status>) -> Result<R, CallError> {
        let mut round = Round::default();
        match self.rounds(&ask, Some(Reads::Leader), &mut round, Instant::now()).await {
            Err(CallError::Unreachable { .. }) if round.is_leaderless => {
                self.round(&ask, Some(Reads::Follower), &mut Round::default()).await
            }
            answered => answered,
        }
    }

    /// Asks each of them, and whoever they name, until somebody is there or nobody will be.
    async fn rounds<R>(
        &self,
        ask: &impl AsyncFn(Controller) -> Result<Response<R>, Status>,
        reads: Option<Reads>,
        round: &mut Round,
        begun: Instant,
    ) -> Result<R, CallError> {
        loop {
            round.is_restarting = false;
            match self.round(ask, reads, round).await {
                Err(CallError::Unreachable { asked: false, .. })
                    if round.is_restarting && !round.is_leaderless && begun.elapsed() < self.connect_timeout =>
                {
                    tokio::time::sleep(RESTART_AGAIN_AFTER).await;
                }
                answered => return answered,
            }
        }
    }

    /// Asks each of them once, and whoever they name.
    async fn round<R>(
        &self,
        ask: &impl AsyncFn(Controller) -> Result<Response<R>, Status>,
        reads: Option<Reads>,
        round: &mut Round,
    ) -> Result<R, CallError> {
        let mut tried = Vec::with_capacity(self.controllers.len());
        let mut asked = false;
        for given in self.controllers {
            let mut address = given.to_string();
            let mut sent_to = None;
            let mut redirects = 0;
            loop {
                let silence = |detail| Silence { address: address.clone(), detail };
                let mark = Mark { tried: round.tried, reads };
                let status = match self.connect(&address, mark).await? {
                    Ok(client) => match ask(client).await {
                        Ok(response) => return Ok(response.into_inner()),
                        Err(status) => status,
                    },
                    Err(error) => {
                        round.is_restarting |= error.is_of_a_restart;
                        tried.push(silence(error.detail));
                        round.tried = sent_to.or(round.tried);
                        break;
                    }
                };
                match Elsewhere::of(&status) {
                    Some(Elsewhere::At(leader)) if redirects < REDIRECTS_MAX => {
                        round.is_leaderless = true;
                        redirects += 1;
                        (address, sent_to) = (leader.address, Some(leader.epoch));
                        continue;
                    }
                    Some(Elsewhere::At(_) | Elsewhere::Nobody) => {
                        round.is_leaderless = true;
                        tried.push(silence(status.message().to_owned()));
                        break;
                    }
                    None => {}
                }
                match Answer::of(&status) {
                    Answer::No => return Err(CallError::refused(&status)),
                    Answer::Fault => return Err(CallError::broken(&status)),
                    Answer::None { detail } => {
                        asked = true;
                        tried.push(silence(detail));
                        round.tried = sent_to.or(round.tried);
                        break;
                    }
                }
            }
        }
        Err(CallError::Unreachable { tried, asked })
    }

    /// Where controllers are said to be.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.controllers.iter().map(Address::as_str)
    }

    /// Asks the controller at this address, and no other, for its own word.
    pub async fn alone<R>(
        &self,
        address: &str,
        ask: impl AsyncFn(Controller) -> Result<Response<R>, Status>,
    ) -> Result<Result<R, String>, CallError> {
        let mark = Mark { tried: None, reads: Some(Reads::Follower) };
        let asking = async {
            let client = match self.connect(address, mark).await? {
                Ok(client) => client,
                Err(nobody) => return Ok(Err(nobody.detail)),
            };
            match ask(client).await {
                Ok(response) => Ok(Ok(response.into_inner())),
                Err(status) => match Answer::of(&status) {
                    Answer::No => Err(CallError::refused(&status)),
                    Answer::Fault => Err(CallError::broken(&status)),
                    Answer::None { detail } => Ok(Err(detail)),
                },
            }
        };
        match tokio::time::timeout(self.connect_timeout, asking).await {
            Ok(answered) => answered,
            Err(_) => Ok(Err(self.no_answer())),
        }
    }

    async fn connect(&self, address: &str, mark: Mark) -> Result<Result<Controller, Nobody>, CallError> {
        let config = self.identity.client_config()?;
        let connecting = connect(address, config, Arc::new(TcpDial));
        Ok(match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(Ok(channel)) => {
                Ok(OperatorClient::with_interceptor(channel, mark).max_decoding_message_size(ANSWER_BYTES_MAX))
            }
            Ok(Err(error)) => Err(Nobody { is_of_a_restart: error.is_of_a_restart(), detail: error.to_string() }),
            Err(_) => Err(Nobody { is_of_a_restart: false, detail: self.no_answer() }),
        })
    }

    fn no_answer(&self) -> String {
        format!("no answer within {}", humantime::format_duration(self.connect_timeout))
    }
}

/// What was learned while everyone was asked.
#[derive(Debug, Default)]
struct Round {
    /// The leader somebody named, who could not be reached.
    tried: Option<u64>,
    /// Somebody is there, who does not lead.
    is_leaderless: bool,
    /// Somebody who could not be reached may be there in a moment.
    is_restarting: bool,
}

/// Why a controller could not be reached.
#[derive(Debug)]
struct Nobody {
    is_of_a_restart: bool,
    detail: String,
}

/// What goes with every question.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    tried: Option<u64>,
    reads: Option<Reads>,
}

impl Interceptor for Mark {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        redirect::set_tried(&mut request, self.tried);
        if let Some(reads) = self.reads {
            redirect::set_reads(&mut request, reads);
        }
        Ok(request)
    }
}

/// What came back instead of what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The controller will not do it, and nothing was started.
    No,
    /// The controller could not do it.
    Fault,
    /// Nothing, or "ask again".
    None {
        /// Why.
        detail: String,
    },
}

impl Answer {
    /// Reads a status. A broken link comes with many codes, so a status with a cause on this side of the wire
    /// is one, whatever its code.
    pub fn of(status: &Status) -> Self {
        if status.source().is_some() {
            return Self::None { detail: innermost(status).to_string() };
        }
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted => Self::No,
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
                Self::None { detail: status.message().to_owned() }
            }
            Code::Ok | Code::Unknown | Code::Aborted | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                Self::Fault
            }
        }
    }
}

/// Why a question got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The controller's no, in its words.
    #[error("refused: {text}")]
    Refused {
        /// What the controller says.
        text: String,
    },
    /// Nobody answered.
    #[error("{}", unreachable(tried, *asked))]
    Unreachable {
        /// Who was tried, in order.
        tried: Vec<Silence>,
        /// The question may have reached one of them.
        asked: bool,
    },
    /// The controller failed at it.
    #[error("the controller failed: {text} ({code:?}); its log says more")]
    Broken {
        /// What the controller says.
        text: String,
        /// gRPC's word for it.
        code: Code,
    },
    /// Our own certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl CallError {
    /// A no.
    pub fn refused(status: &Status) -> Self {
        Self::Refused { text: status.message().to_owned() }
    }

    /// A fault.
    pub fn broken(status: &Status) -> Self {
        Self::Broken { text: status.message().to_owned(), code: status.code() }
    }
}

/// A controller that gave no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {detail}")]
pub struct Silence {
    /// As typed.
    pub address: String,
    /// Why.
    pub detail: String,
}

fn unreachable(tried: &[Silence], asked: bool) -> String {
    let mut text = String::from("no controller answered");
    for silence in tried {
        text.push_str(&format!("\n  {silence}"));
    }
    text.push_str(if asked {
        "\nit may have taken the request; `bgctl status` tells"
    } else {
        "\nthe request reached none of them"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each code the API promises, and what it means here.
    #[test]
    fn codes() {
        for code in [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition, Code::PermissionDenied] {
            assert_eq!(Answer::of(&Status::new(code, "x")), Answer::No, "{code:?}");
        }
        let waiting = Answer::of(&Status::unavailable("no leader"));
        assert_eq!(waiting, Answer::None { detail: "no leader".to_owned() });
        assert_eq!(Answer::of(&Status::internal("bug")), Answer::Fault);
    }

    /// A link that broke arrives as UNKNOWN or INTERNAL, with a cause.
    #[test]
    fn a_cause_on_our_side_is_a_broken_link() {
        let status = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        assert_eq!(Answer::of(&status), Answer::None { detail: "reset by peer".to_owned() });
    }
}

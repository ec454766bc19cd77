//! The news about one deployment, whatever happens to the connection: opens the stream, and opens it
//! again when it breaks.

use crate::args::Until;
use crate::client::{Answer, CallError, Client};
use bgctl_proto::operator::{
    DeployRequest, Deployment, DeploymentEvent, DeploymentPhase, RollbackRequest, WatchRequest,
};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// Between two attempts to get the connection back: the first soon, because a controller that restarts
/// is back in well under a second; then less often.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How the news is asked for first. Each can be asked twice and is one request all the same.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Start it, or attach.
    Deploy(DeployRequest),
    /// Start it, or attach.
    Rollback(RollbackRequest),
    /// It runs already, or is over. The deployment's id.
    Watch(String),
}

/// One piece of news.
#[derive(Debug)]
pub enum News {
    /// From the controller.
    Event(Box<DeploymentEvent>),
    /// The connection broke.
    Lost {
        /// Why.
        detail: String,
    },
    /// It is back: the next event holds everything.
    Restored,
}

/// Why no more news comes.
#[derive(Debug)]
pub enum End {
    /// The controller said that there is none, or the reader has had enough.
    Over,
    /// A no or a fault. After the first event it is about the watching, not about the deployment.
    Failed(CallError),
    /// The connection did not come back in time.
    GaveUp {
        /// The last reason.
        detail: String,
    },
}

/// Sends news until its end. A controller that cannot be reached at first ends it at once; after that, a lost
/// connection is tried again for `patience`, with the same request as long as no deployment is known, and with
/// Watch from then on.
pub async fn run(client: &Client<'_>, ask: Ask, until: Until, patience: Duration, out: Sender<News>) -> End {
    let mut ask = ask;
    let mut heard = false;
    let mut lost: Option<Loss> = None;
    loop {
        let opening = open(client, &ask, until);
        let opened = match &lost {
            None => opening.await,
            Some(loss) => match tokio::time::timeout_at(loss.until, opening).await {
                Ok(opened) => opened,
                Err(_) => return End::GaveUp { detail: loss.detail.clone() },
            },
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(CallError::Unreachable { tried, asked }) => {
                if !asked && !heard && lost.is_none() {
                    return End::Failed(CallError::Unreachable { tried, asked });
                }
                let detail = tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                if !wait(&mut lost, &detail, patience, &out).await {
                    return End::GaveUp { detail };
                }
                continue;
            }
            Err(error @ (CallError::Refused { .. } | CallError::Broken { .. } | CallError::Identity(_))) => {
                return End::Failed(error);
            }
        };
        // Only Watch promises to stay until the watch after the switch is over.
        let to_the_end = matches!(ask, Ask::Watch(_));
        let broken = loop {
            match stream.message().await {
                Ok(Some(event)) => {
                    heard = true;
                    if lost.take().is_some() && out.send(News::Restored).await.is_err() {
                        return End::Over;
                    }
                    let over = event.last;
                    let deployment = event.deployment.clone();
                    if out.send(News::Event(Box::new(event))).await.is_err() {
                        return End::Over;
                    }
                    let Some(deployment) = deployment else { continue };
                    let settling = over && until == Until::Settled && !to_the_end && watches(&deployment);
                    ask = Ask::Watch(deployment.id);
                    if settling {
                        // This stream was about the switch. The watch after it has one of its own.
                        break None;
                    }
                    if over {
                        return End::Over;
                    }
                }
                Ok(None) => break Some("the controller ended the stream".to_owned()),
                Err(status) => match Answer::of(&status) {
                    Answer::No => return End::Failed(CallError::refused(&status)),
                    Answer::Fault => return End::Failed(CallError::broken(&status)),
                    Answer::None { detail } => break Some(detail),
                },
            }
        };
        if let Some(detail) = broken
            && !wait(&mut lost, &detail, patience, &out).await
        {
            return End::GaveUp { detail };
        }
    }
}

async fn open(client: &Client<'_>, ask: &Ask, until: Until) -> Result<Streaming<DeploymentEvent>, CallError> {
    client
        .call(async |mut controller| -> Result<_, Status> {
            match ask {
                Ask::Deploy(request) => controller.deploy(request.clone()).await,
                Ask::Rollback(request) => controller.rollback(request.clone()).await,
                Ask::Watch(deployment) => {
                    let until_settled = until == Until::Settled;
                    controller.watch(WatchRequest { deployment: deployment.clone(), until_settled }).await
                }
            }
        })
        .await
}

/// A connection that is gone: since when, and how long until the next attempt.
#[derive(Debug)]
struct Loss {
    detail: String,
    until: Instant,
    pause: Duration,
}

/// Waits until the next attempt. False: no time is left, or nobody listens any more.
async fn wait(lost: &mut Option<Loss>, detail: &str, patience: Duration, out: &Sender<News>) -> bool {
    let loss = match lost {
        Some(loss) => {
            loss.detail = detail.to_owned();
            loss
        }
        None => {
            let detail = detail.to_owned();
            if out.send(News::Lost { detail: detail.clone() }).await.is_err() {
                return false;
            }
            lost.insert(Loss { detail, until: Instant::now() + patience, pause: RETRY_FIRST })
        }
    };
    let next = Instant::now() + loss.pause;
    loss.pause = (loss.pause * 2).min(RETRY_MAX);
    if next >= loss.until {
        return false;
    }
    tokio::time::sleep_until(next).await;
    true
}

fn watches(deployment: &Deployment) -> bool {
    deployment.phase() == DeploymentPhase::Watching
}

//! Tells a deployment to one who watches: everything first, then what changes, then the end.

use super::act::Started;
use super::view;
use crate::board::{Beat, Story, Told};
use crate::report::Phase;
use bgctl_proto::operator as wire;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Changes within a phase are told together: forty times a second is more than an eye can follow.
const PAUSE: Duration = Duration::from_millis(25);

/// The stream of a deployment's events.
pub type Events = ReceiverStream<Result<wire::DeploymentEvent, Status>>;

/// Tells from now on. `until_settled`: stay through the watch after the switch.
pub fn tell(started: Started, until_settled: bool, stopped: CancellationToken) -> Events {
    let (events, stream) = mpsc::channel(16);
    match started {
        Started::Over(report) => {
            let event = wire::DeploymentEvent {
                deployment: Some(view::deployment(&report)),
                hosts: view::hosts(&report),
                last: true,
                attached: true,
            };
            drop(events.try_send(Ok(event)));
        }
        Started::Running(story, attached) => {
            tokio::spawn(async move {
                tokio::select! {
                    () = follow(&story, attached, until_settled, &events) => {}
                    () = events.closed() => {}
                    () = stopped.cancelled() => {
                        let status = Status::unavailable("this controller stops or leads no longer; the deployment goes on");
                        drop(events.try_send(Err(status)));
                    }
                }
            });
        }
    }
    ReceiverStream::new(stream)
}

async fn follow(
    story: &Arc<Story>,
    attached: bool,
    until_settled: bool,
    events: &mpsc::Sender<Result<wire::DeploymentEvent, Status>>,
) {
    let mut beats = story.follow();
    let mut told = 0;
    loop {
        let Told { report, changed, number } = story.since(told);
        let phase = report.phase;
        let last = phase.is_last() || (phase == Phase::Watching && !until_settled);
        let event = wire::DeploymentEvent {
            deployment: Some(view::deployment(&report)),
            hosts: view::hosts(&report).into_iter().filter(|host| changed.contains(&host.host)).collect(),
            last,
            attached: attached && told == 0,
        };
        if events.send(Ok(event)).await.is_err() || last {
            return;
        }
        told = number;
        if !next(&mut beats, Beat { number, phase }).await {
            return;
        }
    }
}

/// Waits for the next change: a new phase at once, anything else after a pause. False: there is none.
async fn next(beats: &mut watch::Receiver<Beat>, told: Beat) -> bool {
    if beats.wait_for(|beat| beat.number > told.number).await.is_err() {
        return false;
    }
    drop(tokio::time::timeout(PAUSE, beats.wait_for(|beat| beat.phase != told.phase)).await);
    true
}

//! Follows a deployment to its end, and shows it.

use crate::args::Until;
use crate::client::{CallError, Client};
use crate::exit::{Exit, Failure};
use crate::feed::{self, Ask, End, News};
use crate::progress::Progress;
use crate::render::View;
use crate::render::report;
use bgctl_proto::operator::DeploymentPhase;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How often the live view may be drawn: often enough to look alive, seldom enough for a slow terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(50);

/// News not yet shown. The controller's stream waits when it is full.
const NEWS_MAX: usize = 64;

/// What to follow, and how far.
#[derive(Debug)]
pub struct Plan {
    /// How to ask for it.
    pub ask: Ask,
    /// When it is over for this command.
    pub until: Until,
    /// How long a lost connection is tried again.
    pub patience: Duration,
    /// What to type to find out, besides `status`, should it be lost before a deployment was known.
    pub again: Option<String>,
}

/// Why the following ended.
#[derive(Debug)]
pub enum Ended {
    /// The deployment got as far as was asked for, or as far as it will get.
    Reached,
    /// The controller ended its report before that.
    Short,
    /// Ctrl-C.
    Interrupted,
    /// The connection did not come back.
    Lost {
        /// The last reason.
        detail: String,
    },
    /// The deployment goes on, but the controller will not tell of it any more.
    Untold {
        /// Its no, or its fault.
        cause: CallError,
    },
}

/// Follows, shows, and prints the result.
pub async fn follow(client: &Client<'_>, plan: Plan, view: View) -> Result<Exit, Failure> {
    let mut view = view;
    let (patience, again) = (plan.patience, plan.again.clone());
    let (progress, ended) = watch(client, plan, &mut view).await?;
    let exit = exit_of(&progress, &ended);
    let words = report::ending(&progress, &ended, again.as_deref(), patience);
    view.finish(&progress, words.is_empty());
    view.result(&progress, exit, &words).map_err(Failure::Output)?;
    Ok(exit)
}

async fn watch(client: &Client<'_>, plan: Plan, view: &mut View) -> Result<(Progress, Ended), CallError> {
    let Plan { ask, until, patience, again: _ } = plan;
    let (out, mut news) = mpsc::channel(NEWS_MAX);
    let mut feed = pin!(feed::run(client, ask, until, patience, out));
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut draw = tokio::time::interval(DRAW_INTERVAL);
    draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = Progress::default();
    let mut end = None;
    loop {
        tokio::select! {
            // What was told comes before the end of the telling.
            biased;
            told = news.recv() => match told {
                Some(told) => {
                    take(&mut progress, told, view);
                    if progress.reached(until) {
                        return Ok((progress, Ended::Reached));
                    }
                }
                None => return conclude(progress, end, until),
            },
            ended = &mut feed, if end.is_none() => end = Some(ended),
            Ok(()) = &mut interrupt => return Ok((progress, Ended::Interrupted)),
            _ = draw.tick() => view.tick(&progress),
        }
    }
}

fn take(progress: &mut Progress, told: News, view: &mut View) {
    match told {
        News::Event(event) => {
            let changes = progress.merge(*event, Instant::now());
            view.changed(progress, &changes);
        }
        News::Lost { detail } => {
            progress.lost = Some(detail);
            view.link(progress);
        }
        News::Restored => {
            progress.lost = None;
            view.link(progress);
        }
    }
}

fn conclude(progress: Progress, end: Option<End>, until: Until) -> Result<(Progress, Ended), CallError> {
    let ended = match end {
        Some(End::Over) | None if progress.reached(until) || progress.phase() == DeploymentPhase::Watching => {
            Ended::Reached
        }
        Some(End::Over) | None => Ended::Short,
        Some(End::GaveUp { detail }) => Ended::Lost { detail },
        Some(End::Failed(cause)) if progress.deployment.is_none() => return Err(cause),
        Some(End::Failed(cause)) => Ended::Untold { cause },
    };
    Ok((progress, ended))
}

fn exit_of(progress: &Progress, ended: &Ended) -> Exit {
    match ended {
        Ended::Reached => match progress.phase() {
            DeploymentPhase::Watching | DeploymentPhase::Settled if progress.behind().next().is_some() => {
                Exit::Incomplete
            }
            DeploymentPhase::Watching | DeploymentPhase::Settled => Exit::Done,
            DeploymentPhase::Aborted => Exit::Aborted,
            DeploymentPhase::RolledBack => Exit::RolledBack,
            DeploymentPhase::Unspecified
            | DeploymentPhase::Preparing
            | DeploymentPhase::Deciding
            | DeploymentPhase::Switching => Exit::Internal,
        },
        Ended::Short | Ended::Untold { .. } => Exit::Internal,
        Ended::Interrupted => Exit::Interrupted,
        Ended::Lost { .. } => Exit::Unreachable,
    }
}

//! Leading: everything one leader works with, for as long as it leads.

use crate::board::{Board, Story};
use crate::deployment;
use crate::door::Doors;
use crate::fleet::Fleet;
use crate::ledger::{Ledger, LedgerError, Opening};
use crate::records::{self, Kind};
use crate::report::Phase;
use crate::store::{Leadership, Standing, Store, StoreError};
use bgctl_proto::ambient::Ambient;
use cutover::ids::{Epoch, Generation};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[cfg(test)]
mod tests;

/// Pause before standing again after an election that failed.
const STAND_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A controller that leads.
pub struct Leader {
    /// What is written.
    pub ledger: Ledger,
    /// Who is linked.
    pub fleet: Fleet,
    /// Who may be linked.
    pub doors: Doors,
    /// What runs.
    pub board: Board,
    /// Cancelled when it leads no longer, or stops.
    pub stopped: CancellationToken,
    /// Cancelled when it must stand for election again: its store was confirmed, and its epoch is of before.
    pub abdicated: CancellationToken,
    /// The deployments' tasks.
    pub tasks: TaskTracker,
    /// When it took over.
    pub since: Instant,
}

/// Stands for election, leads, and stands again, until `shutdown`. Whoever needs the leader looks at `seat`.
pub async fn keep_leading(
    store: Arc<dyn Store>,
    ambient: Arc<dyn Ambient>,
    candidate: String,
    seat: watch::Sender<Option<Arc<Leader>>>,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let elected = tokio::select! {
            elected = store.campaign(&candidate) => elected,
            () = shutdown.cancelled() => return,
        };
        let outcome = match elected {
            Ok(leadership) => lead(Arc::clone(&store), Arc::clone(&ambient), leadership, &seat, &shutdown).await,
            Err(error) => Err(error.into()),
        };
        seat.send_replace(None);
        if let Err(error) = outcome {
            tracing::error!(%error, "cannot lead");
            tokio::select! {
                () = tokio::time::sleep(STAND_AGAIN_AFTER) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

/// Why leading ended at once.
#[derive(Debug, thiserror::Error)]
enum LeadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

async fn lead(
    store: Arc<dyn Store>,
    ambient: Arc<dyn Ambient>,
    mut leadership: Box<dyn Leadership>,
    seat: &watch::Sender<Option<Arc<Leader>>>,
    shutdown: &CancellationToken,
) -> Result<(), LeadError> {
    let epoch = Epoch(leadership.epoch());
    let mut standing = leadership.standing();
    let mut taken = Ledger::take_over(Arc::clone(&store), Arc::clone(&ambient), epoch).await;
    loop {
        let ledger = match taken {
            Ok(ledger) => ledger,
            Err(error) => {
                drop(leadership.resign().await);
                return Err(error.into());
            }
        };
        let leader = Arc::new(Leader {
            ledger,
            fleet: Fleet::default(),
            doors: Doors::default(),
            board: Board::default(),
            stopped: shutdown.child_token(),
            abdicated: CancellationToken::new(),
            tasks: TaskTracker::new(),
            since: Instant::now(),
        });
        tracing::info!(%epoch, "leading");
        leader.resume();
        seat.send_replace(Some(Arc::clone(&leader)));
        tokio::select! {
            reason = leadership.lost() => {
                tracing::error!(%reason, %epoch, "no longer leading");
                leader.stopped.cancel();
                return Ok(());
            }
            reason = doubtful(&mut standing) => {
                tracing::warn!(%reason, %epoch, "silent until the lease is renewed; others may lead soon");
                leader.stopped.cancel();
                seat.send_replace(None);
            }
            () = leader.ledger.outlived() => {
                tracing::warn!(%epoch, "the store may hold what is not known here; standing for election again");
                give_up(&leader, leadership).await;
                return Ok(());
            }
            () = leader.abdicated.cancelled() => {
                tracing::info!(%epoch, "the store was confirmed; standing for election again");
                give_up(&leader, leadership).await;
                return Ok(());
            }
            () = shutdown.cancelled() => {
                give_up(&leader, leadership).await;
                return Ok(());
            }
        }
        // Whoever still works under the seat that was given up ends before the next one is taken: a memory must have
        // every write of its own process.
        leader.tasks.close();
        leader.tasks.wait().await;
        tokio::select! {
            reason = leadership.lost() => {
                tracing::error!(%reason, %epoch, "no longer leading");
                return Ok(());
            }
            () = firm(&mut standing) => {}
            () = shutdown.cancelled() => {
                drop(leadership.resign().await);
                return Ok(());
            }
        }
        // What the seat that was given up had asked of the store may land yet, and the guards of this epoch let it
        // pass: a new epoch does not. A store that is full elects nobody, but it takes no such write either.
        if Ledger::mark(&*store, epoch).await? {
            tracing::info!(%epoch, "the lease was renewed; standing again, for an epoch without a past");
            return Ok(leadership.resign().await?);
        }
        tracing::warn!(%epoch, "the lease was renewed; the store is full and elects nobody, so this leads on");
        taken = Ledger::lead_on(Arc::clone(&store), Arc::clone(&ambient), epoch).await;
    }
}

/// Returns when the leadership is in doubt, and says why. Its loss is told elsewhere.
async fn doubtful(standing: &mut watch::Receiver<Standing>) -> String {
    match standing.wait_for(|standing| matches!(standing, Standing::Doubtful(_))).await.map(|doubt| doubt.clone()) {
        Ok(Standing::Doubtful(why)) => why,
        Ok(Standing::Firm | Standing::Lost(_)) | Err(_) => std::future::pending().await,
    }
}

/// Returns when it is no longer in doubt.
async fn firm(standing: &mut watch::Receiver<Standing>) {
    let is_firm = standing.wait_for(|standing| matches!(standing, Standing::Firm)).await.is_ok();
    if !is_firm {
        std::future::pending::<()>().await;
    }
}

/// Leaves in order.
async fn give_up(leader: &Leader, leadership: Box<dyn Leadership>) {
    // Streams and deployments first: the next leader must not find this one still speaking.
    leader.stopped.cancel();
    leader.tasks.close();
    drop(tokio::time::timeout(Duration::from_secs(5), leader.tasks.wait()).await);
    if let Err(error) = leadership.resign().await {
        tracing::warn!(%error, "could not resign; the lease will run out");
    }
}

impl Leader {
    /// Goes on with what the leader before left: what is open is prepared again or aborted, what was
    /// committed and not seen through is seen through.
    fn resume(self: &Arc<Self>) {
        let (open, unfinished) = self.ledger.read(|truth| {
            let open: std::collections::BTreeMap<_, _> =
                truth.pending.values().map(|pending| (pending.deployment.clone(), pending.generation)).collect();
            let unfinished: Vec<_> = truth
                .history
                .values()
                .flat_map(|reports| reports.iter().map(move |(generation, report)| (*generation, report, reports)))
                .filter(|(_, report, _)| !report.phase.is_last())
                .map(|(generation, report, reports)| {
                    let mut later = reports.iter().filter(|(later, _)| **later > generation);
                    let overtaken = later.find(|(_, report)| report.phase != Phase::Aborted);
                    (generation, report.clone(), overtaken.map(|(_, by)| (by.id.clone(), by.kind)))
                })
                .collect();
            (open, unfinished)
        });
        for (id, generation) in open {
            let Some(record) = self.ledger.read(|truth| truth.deployments.get(&id).cloned()) else { continue };
            tracing::info!(deployment = %id, "going on with an open deployment");
            self.run(Opening { record, generation }, None);
        }
        for (generation, report, overtaken) in unfinished {
            match overtaken {
                None => self.resume_committed(generation, report),
                Some((by, kind)) => self.finish_overtaken(generation, report, by, kind),
            }
        }
    }

    /// The leader before did not come to write how this one ended.
    fn finish_overtaken(
        self: &Arc<Self>,
        generation: Generation,
        report: crate::report::Report,
        by: String,
        kind: Kind,
    ) {
        let report = match kind {
            Kind::Deploy => crate::report::Report { phase: Phase::Settled, ..report },
            Kind::Rollback => crate::report::Report { phase: Phase::RolledBack, rolled_back_by: by, ..report },
        };
        let leader = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                kept = leader.ledger.keep(generation, &report) => if let Err(error) = kept {
                    tracing::error!(deployment = %report.id, %error, "its report was not kept");
                },
                () = leader.stopped.cancelled() => {}
            }
        });
    }

    fn resume_committed(self: &Arc<Self>, generation: Generation, report: crate::report::Report) {
        let record = records::parse("history", &report.id)
            .ok()
            .and_then(|id| self.ledger.read(|truth| truth.deployments.get(&id).cloned()));
        let Some(record) = record else { return };
        tracing::info!(deployment = %report.id, "seeing a committed deployment through");
        let report = crate::report::Report { phase: Phase::Switching, ..report };
        self.run(Opening { record, generation }, Some(report));
    }

    /// Runs a deployment that is open, or, with its report, one that is committed.
    pub fn run(self: &Arc<Self>, opening: Opening, committed: Option<crate::report::Report>) -> Arc<Story> {
        let spent = self.ledger.ambient().unix_millis().saturating_sub(opening.record.opened_unix_millis);
        let now = Instant::now();
        self.run_since(opening, committed, now.checked_sub(Duration::from_millis(spent)).unwrap_or(now))
    }

    /// The same, for a request that arrived then.
    pub fn run_since(
        self: &Arc<Self>,
        opening: Opening,
        committed: Option<crate::report::Report>,
        arrived: Instant,
    ) -> Arc<Story> {
        let is_committed = committed.is_some();
        let report = committed.unwrap_or_else(|| deployment::report(&opening));
        let story = Arc::new(Story::new(report, arrived));
        let id = opening.record.id.parse().expect("it was checked when it was opened");
        let notices = self.board.add(id, Arc::clone(&story));
        let run = deployment::Run::new(Arc::clone(self), opening, Arc::clone(&story), notices, arrived);
        self.tasks.spawn(run.to_the_end(is_committed));
        story
    }
}

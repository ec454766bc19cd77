//! A store that was put back from a backup: nothing is deployed until a person has confirmed that it is meant.

use super::act::to_its_end;
use super::error::ledger_status;
use crate::leader::Leader;
use crate::ledger::{LedgerError, Truth};
use bgctl_proto::operator as wire;
use cutover::history::Standing;
use std::sync::Arc;
use tonic::Status;

/// What is doubtful about the store, and what to do; none if nothing is. A follower knows of no hosts.
pub fn doubt(truth: &Truth, leader: Option<&Leader>) -> Option<String> {
    let doubt = &truth.chronicle.doubt;
    let history: String = truth.chronicle.history.chars().take(8).collect();
    let mut reasons = Vec::new();
    if !doubt.is_empty() {
        reasons.push(format!("the store was put back: {doubt}"));
    }
    for (host, status) in leader.into_iter().flat_map(|leader| leader.fleet.all()) {
        let (Some(seen), Some(standing)) = (status.remembers, status.standing) else { continue };
        let heard = format!("{host} has heard revision {} of history {}", seen.revision, seen.history.short());
        match standing {
            Standing::Follows | Standing::Replaces => {}
            Standing::WentBack { forgotten_from } => {
                reasons.push(format!("{heard}, and the store has forgotten everything from {forgotten_from} on"));
            }
            Standing::Foreign => reasons.push(format!("{heard}, and the store tells history {history}")),
        }
    }
    if reasons.is_empty() {
        return None;
    }
    Some(format!(
        "{}. Was an old copy put in its place? If it is the one to go on with, run `bgctl store confirm`; \
         if not, stop the controller and put the right one back",
        reasons.join("; ")
    ))
}

/// Refuses while there is doubt.
pub fn refuse_in_doubt(leader: &Leader) -> Result<(), Status> {
    let doubt = leader.ledger.read(|truth| doubt(truth, Some(leader)));
    doubt.map_or(Ok(()), |doubt| Err(Status::failed_precondition(format!("nothing is deployed now: {doubt}"))))
}

/// Confirms the store as the one to follow. Every host then follows it under a new history.
pub async fn confirm(leader: &Arc<Leader>, actor: &str) -> Result<wire::ConfirmStoreReply, Status> {
    if leader.ledger.read(|truth| doubt(truth, Some(leader))).is_none() {
        return Err(Status::failed_precondition(
            "there is nothing to confirm: the store has everything that the hosts have heard",
        ));
    }
    let heard: Vec<_> = leader.fleet.all().into_values().filter_map(|status| status.remembers).collect();
    let (owned, actor) = (Arc::clone(leader), actor.to_owned());
    let confirmed = to_its_end(async move {
        let confirmed = owned.ledger.confirm(&heard, &actor).await;
        match &confirmed {
            // Refused, and nothing was written: this leader goes on.
            Err(LedgerError::Store(crate::store::StoreError::Refused { .. })) => {}
            // Its epoch is of before, and hosts have heard newer ones; or it cannot know what was written.
            Ok(_) | Err(_) => owned.abdicated.cancel(),
        }
        let revision = owned.ledger.read(|truth| truth.revision);
        confirmed.map(|record| (record, revision))
    });
    let (record, revision) = confirmed.await.map_err(ledger_status)?;
    Ok(wire::ConfirmStoreReply { history: record.history, replaces: record.replaces, revision })
}

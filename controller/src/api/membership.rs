//! Replacing a host, and removing one.

use super::act::to_its_end;
use super::error::ledger_status;
use crate::leader::Leader;
use bgctl_proto::operator as wire;
use cutover::ids::HostId;
use std::sync::Arc;
use tonic::Status;

/// Lets in the agent that waits at a host's door, and ends the life that was registered. An open deployment counts
/// the promises of that life no longer, and asks the new one.
pub async fn replace(leader: &Arc<Leader>, host: &HostId, actor: &str) -> Result<wire::ReplaceHostReply, Status> {
    let Some(knock) = leader.doors.waiting(host) else {
        return Err(Status::failed_precondition(format!(
            "no other agent has asked to be {host} within the last minute: start the one that is to replace it, and \
             see it waiting in `bgctl hosts`"
        )));
    };
    let now = knock.calling.life.incarnation.to_string();
    let (leader, host, actor) = (Arc::clone(leader), host.clone(), actor.to_owned());
    let replaced = to_its_end(async move {
        // Nobody is judged between the store's word and ours.
        let _turn = leader.doors.turn(&host).await;
        let before = leader.ledger.replace_host(&host, &knock.calling.life, &actor).await?;
        leader.doors.replaced(&host, &knock);
        leader.fleet.unlink(&host);
        tracing::warn!(%host, %before, %actor, "replaced");
        Ok(before)
    });
    let before = replaced.await.map_err(ledger_status)?;
    Ok(wire::ReplaceHostReply { before, now })
}

/// Takes a host out of the fleet. Its agent, if it still runs, serves on and is let in no more. One
/// that is linked goes only if that is forced: a mistyped name takes no serving host out.
pub async fn remove(
    leader: &Arc<Leader>,
    host: &HostId,
    is_forced: bool,
    actor: &str,
) -> Result<wire::RemoveHostReply, Status> {
    if !is_forced && leader.fleet.is_connected(host) {
        return Err(Status::failed_precondition(format!(
            "the agent of {host} is linked: take {host} out of its load balancers and stop its agent there first \
             (`systemctl disable --now bgctl-agent`); or say --force, and it serves on what it serves, answers load \
             balancers as before, and follows no deployment any more"
        )));
    }
    let (owned, name, actor) = (Arc::clone(leader), host.clone(), actor.to_owned());
    let removed = to_its_end(async move {
        let _turn = owned.doors.turn(&name).await;
        let before = owned.ledger.remove_host(&name, &actor).await?;
        if before.is_some() {
            owned.doors.forget(&name);
            owned.fleet.forget(&name);
            tracing::warn!(host = %name, %actor, "removed");
        }
        Ok(before)
    });
    let before = removed.await.map_err(ledger_status)?;
    let unknown = || Status::not_found(format!("there is no host {host}; `bgctl hosts` lists all"));
    Ok(wire::RemoveHostReply { before: before.ok_or_else(unknown)? })
}

//! What a controller says, read into the protocol's types.

use super::Outbox;
use crate::release::Release;
use bgctl_proto::convert::{WireError, digest, parse};
use bgctl_proto::session as wire;
use cutover::history::Chronicle;
use cutover::ids::{Epoch, Generation, Revision};
use cutover::message::{Committed, Prepare, ServiceState, State};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// What the link tells the agent.
pub enum FromLink {
    /// A stream is up.
    Up {
        /// To which controller.
        address: String,
        /// What goes the other way.
        outbox: Outbox,
    },
    /// The controller said something.
    Told(Told),
    /// The stream ended, for this reason.
    Down(String),
}

/// What a controller says.
pub enum Told {
    /// What its store is; first on every stream.
    Chronicle(Chronicle),
    /// Make ready and vote.
    Prepare {
        /// The protocol's part.
        message: Prepare,
        /// What the digests in it stand for.
        releases: Vec<Release>,
        /// Skip every gate but health.
        is_rollback: bool,
        /// When it arrived.
        at: Instant,
    },
    /// What the store says.
    State {
        /// The protocol's part.
        message: State,
        /// What the digests in it stand for.
        releases: Vec<Release>,
        /// When it arrived.
        at: Instant,
    },
    /// Which images are here?
    FindImages(wire::FindImages),
}

/// Reads one message; none if it is of a kind this agent does not know, from a newer controller.
pub fn read(message: wire::ControllerMessage) -> Result<Option<Told>, WireError> {
    let at = Instant::now();
    let told = match message.kind {
        Some(wire::controller_message::Kind::Prepare(prepare)) => {
            let (message, releases) = read_prepare(&prepare)?;
            Some(Told::Prepare { message, releases, is_rollback: prepare.rollback, at })
        }
        Some(wire::controller_message::Kind::State(state)) => {
            let (message, releases) = read_state(&state)?;
            Some(Told::State { message, releases, at })
        }
        Some(wire::controller_message::Kind::Chronicle(chronicle)) => Some(Told::Chronicle((&chronicle).try_into()?)),
        Some(wire::controller_message::Kind::FindImages(find)) => Some(Told::FindImages(find)),
        None => None,
    };
    Ok(told)
}

fn read_release(service: &wire::ServiceRelease) -> Result<Release, WireError> {
    let release = service.release.as_ref().ok_or_else(|| WireError::new("service.release", "it is not set"))?;
    if release.service != service.service {
        return Err(WireError::new("service.release", "it is another service's"));
    }
    Release::from_wire(release, digest("service.digest", &service.digest)?)
}

fn twice(field: &'static str) -> WireError {
    WireError::new(field, "it is there twice")
}

fn read_prepare(prepare: &wire::Prepare) -> Result<(Prepare, Vec<Release>), WireError> {
    let releases = prepare.services.iter().map(read_release).collect::<Result<Vec<_>, _>>()?;
    let message = Prepare {
        epoch: Epoch(prepare.epoch),
        deployment: parse("prepare.deployment", &prepare.deployment)?,
        generation: Generation(prepare.generation),
        revision: Revision(prepare.revision),
        services: releases.iter().map(|release| (release.service.clone(), release.digest)).collect(),
    };
    if message.services.len() < releases.len() {
        return Err(twice("prepare.services"));
    }
    Ok((message, releases))
}

fn read_state(state: &wire::State) -> Result<(State, Vec<Release>), WireError> {
    let mut releases = Vec::new();
    let mut services = BTreeMap::new();
    for service in &state.services {
        let committed = match &service.committed {
            Some(committed) if service.generation > 0 => {
                if committed.service != service.service {
                    return Err(WireError::new("service.committed", "it is another service's"));
                }
                let release = read_release(committed)?;
                let committed = Committed { generation: Generation(service.generation), release: release.digest };
                releases.push(release);
                Some(committed)
            }
            Some(_) | None => None,
        };
        let pending = match service.pending.as_str() {
            "" => None,
            text => Some(parse("state.pending", text)?),
        };
        let name = parse("state.service", &service.service)?;
        if services.insert(name, ServiceState { committed, pending }).is_some() {
            return Err(twice("state.services"));
        }
    }
    let message = State { epoch: Epoch(state.epoch), revision: Revision(state.revision), services };
    Ok((message, releases))
}

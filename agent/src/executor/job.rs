//! Making a release ready: everything that could fail at the switch fails here.

use super::bring_up::bring_up;
use super::drain::Traffic;
use super::edge::{Edge, Routes};
use crate::berth::Berth;
use crate::docker::Engine;
use crate::health::Prober;
use crate::release::Release;
use crate::retired::Clocks;
use crate::state::Mooring;
use cutover::ids::{Colour, Generation, HostId};
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

/// What every job works with.
#[derive(Clone)]
pub struct Tools {
    /// This host.
    pub host: HostId,
    /// Docker.
    pub engine: Arc<dyn Engine>,
    /// Health checks.
    pub prober: Arc<dyn Prober>,
    /// Who talks to whom.
    pub traffic: Arc<dyn Traffic>,
    /// What time it is.
    pub clocks: Clocks,
    /// The network containers stand in.
    pub network: String,
    /// Who works on which berth.
    pub turns: Turns,
}

/// A berth is the holder's until this goes.
pub type Turn = tokio::sync::OwnedMutexGuard<()>;

/// One worker a berth: what is being cleared away must not be in the way of what comes, nor be adopted.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<BTreeMap<Mooring, Arc<tokio::sync::Mutex<()>>>>>);

impl Turns {
    /// Waits until nobody works on the berth; it is the caller's until the guard goes.
    pub async fn take(&self, mooring: &Mooring) -> Turn {
        let turn = self.of(mooring);
        turn.lock_owned().await
    }

    /// The same without waiting; none if somebody works on it.
    pub fn try_take(&self, mooring: &Mooring) -> Option<Turn> {
        self.of(mooring).try_lock_owned().ok()
    }

    fn of(&self, mooring: &Mooring) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(mooring.clone()).or_default())
    }
}

/// One thing to make ready.
pub struct Job {
    /// What, in which places.
    pub services: Vec<JobService>,
    /// Where their traffic would go after the switch.
    pub after: Routes,
    /// Skip every gate but health.
    pub is_rollback: bool,
}

/// One service of a job.
pub struct JobService {
    /// What.
    pub release: Release,
    /// For which generation.
    pub generation: Generation,
    /// Where.
    pub colour: Colour,
    /// One for each container, in the release's order.
    pub addresses: Vec<Ipv4Addr>,
    /// At which of the service's addresses.
    pub berth: Berth,
    /// It stands there already.
    pub is_adopted: bool,
    /// And its keeper says that it is well.
    pub is_warm: bool,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The image is being fetched.
    Pulling(String),
    /// The container is being made and started.
    Starting(String),
    /// It runs and is asked for its health.
    Probing(String),
    /// All of it is ready.
    Ready,
}

/// Why a job failed: the line for the operator, and what the container printed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One line.
    pub reason: String,
    /// Oldest first.
    pub log_tail: Vec<String>,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { reason: error.to_string(), log_tail: Vec::new() }
    }
}

impl Job {
    /// Starts and checks every container, and brings nginx into shape, side by side.
    pub async fn run(self, tools: &Tools, edge: &Edge, step: &(dyn Fn(Step) + Send + Sync)) -> Result<(), Failure> {
        let Self { services, after, is_rollback } = self;
        let containers = try_join_all(services.into_iter().map(|service| bring_up(tools, service, step)));
        let shape = async { edge.make_ready(&after, is_rollback).await.map_err(Failure::from) };
        tokio::try_join!(containers, shape)?;
        step(Step::Ready);
        Ok(())
    }
}

//! # The switch-over protocol
//!
//! A fleet of hosts goes from one release of a service to the next, all of it or none of it, whatever
//! dies on the way. This crate decides; it does not do. Nothing in it reads a clock, a socket or a file:
//! [`Coordinator::step`] and [`Participant::step`] take an event and return what has to be done, in order.
//!
//! ```text
//!   operator        leader                     store                      host (each of them)
//!      | deploy        |                          |                           |
//!      |-------------->| START  ----------------->|  pending = T, generation  |
//!      |               | Prepare ----------------------------------------->   | pull, start, check, render,
//!      |               |                          |                           | write the promise, fsync
//!      |               |   <------------------------------------------ Vote   |
//!      |               | COMMIT ----------------->|  the decision: one        |
//!      |               |   <---------------- done |  guarded transaction      |
//!      |               | State ------------------------------------------->   | one rename, probe, fsync
//!      |   <-----------|   <--------------------------------------- Applied   |
//! ```
//!
//! **Two-phase commit, presumed abort.** Every host promises before anything is decided. The decision is
//! one transaction, guarded by the leader's epoch, by the deployment still being pending at its generation,
//! and by the membership the promises were counted under. No record means: aborted.
//!
//! **Who may be missing.** A deployment says how many of its hosts may stay silent. Such a host is left out: the
//! decision rests on exactly those that promised, and names them. A promise binds whether its host is linked or
//! not, a no ends the deployment whoever says it, and a host that was left out follows the decision like any
//! other that was away.
//!
//! **Store, then speak.** [`coordinator::Effect::Announce`] comes out only in answer to the store's word,
//! a vote and an acknowledgement only in answer to the disk's. A store that does not answer has said
//! nothing: the same transaction is asked again until it answers.
//!
//! **State instead of commands.** After the decision there is no commit message: [`State`] says what the
//! store holds, at which revision, and a host acts on the difference to what it has. It is the same for a
//! host that was connected all the time, that was away, that crashed, or that is new; and it may be lost,
//! doubled and reordered. A host lets go of a promise only when news at least as new as the promise say
//! that the deployment is neither pending nor committed.
//!
//! **Caught up means written down.** A host that was away makes ready what was committed without it, writes its
//! record with what stands where, and only then switches. So a switch found on disk after a crash always names
//! something known, and [`Participant::recover`] lets it stand: what users see never goes back. It counts as applied
//! when nginx was seen following it, as any other switch does.
//!
//! **Generations.** A deployment's generation is the store revision of its opening transaction: unique for
//! ever, also when it is aborted. A host's generation never falls, and one generation has one content.
//!
//! **In doubt, serve.** A host that promised and does not hear the outcome goes on serving what it served,
//! keeps both releases alive, and waits. No timeout decides anything.
//!
//! **By hand.** With nobody left to ask, somebody on a host may move its traffic back to what it served before.
//! What is applied keeps its generation, and the next one ends the hold. Nothing is ever made ready in the
//! place that takes traffic, by hand or not.
//!
//! The modules follow the life of a deployment.

pub mod ids;
pub mod message;
pub mod coordinator;
pub mod participant;
pub mod invariant;
pub mod history;

pub use coordinator::Coordinator;
pub use ids::{Colour, DeploymentId, Epoch, Generation, HostId, Incarnation, ReleaseDigest, Revision, ServiceName};
pub use message::{Outcome, State};
pub use participant::Participant;

//! # Every order of events
//!
//! Explores all that can happen to a small fleet, step by step, and checks the invariants in every state. The
//! protocol is the real one: [`cutover::Coordinator`], [`cutover::Participant`] and the functions of
//! [`cutover::invariant`]. What stands here is the world around it, and no rule of it a second time.
//!
//! **What is modelled**
//!
//! - The store and its guarded transactions: campaign, opening, registration, commit, abort. A decision is a
//!   message on its way to the store: it may land when its leader has died, or with its answer lost.
//! - Two controllers. The one that is elected later does not tell the one before, which goes on with what it had
//!   read until the store refuses it.
//! - A network that loses, doubles and reorders: the set of everything ever said, any of which may arrive at any
//!   time, any number of times, or never. A leader tells every host what it knows each time that it knows more.
//! - Hosts with a disk, a switch that is apart from it, and a memory. A host crashes between any two of its acts:
//!   the rename made and nothing written, the record on disk and the vote not sent.
//! - Hosts replaced (a new life, an empty disk), left out of a deployment, behind and catching up; work, writes,
//!   renames and probes that fail; promised containers that die; hosts that stay silent and are decided without;
//!   traffic moved by hand; groups of two services; rollbacks.
//!
//! **What is not**: time (a deadline passes whenever it likes), Docker and nginx beyond "it worked" and "it did
//! not", more than two controllers, a store restored from a backup, hosts removed for good, streams (a hello
//! belongs to its own stream and is not delivered late).
//!
//! **What must hold** is one property for each number of the failure matrix, S1 to S10, and L2: a state in which
//! nothing goes on unless something fails is one in which every deployment is decided and every host serves what
//! the store says. Rings of states that lead nowhere are not looked for. What must be seen to happen keeps the
//! model from being safe by doing nothing.
//!
//! A disk that is lost in the moment of a commit cannot be guarded against: until the store is told of the new
//! life, what the old one had promised counts as promised (S2), and the new one catches up (L2).
//!
//! | fleet | states | processor seconds |
//! |---|---|---|
//! | 2 hosts, 1 deployment, a takeover, a crash | 299,940 | 3 |
//! | 2 hosts, 2 deployments, the second a rollback | 317,318 | 3 |
//! | 1 host, 2 deployments, a takeover | 97,345 | 1 |
//! | 3 hosts, 1 deployment, a crash | 37,281 | 1 |
//! | 2 hosts, one replaced | 74,168 | 1 |
//! | 2 hosts, a takeover, one may stay silent | 318,189 | 3 |
//! | 2 hosts, one left out, a crash | 4,074 | 1 |
//! | 1 host, 2 services: a group, then one of them, a crash | 12,220 | 1 |
//! | 1 host, 2 deployments, traffic moved by hand twice, a crash | 96,120 | 1 |
//! | 1 host, two things fail, a crash | 1,770 | 1 |
//! | 2 hosts, a promised container dies | 2,694 | 1 |
//! | 2 hosts, acknowledgements counted, a crash | 3,014 | 1 |
//! | `full`: 2 hosts, one replaced, a takeover | 16,936,921 | 300, 3.5 GB |
//! | `full`: 2 hosts, 2 deployments, one may stay silent | 1,253,998 | 20 |
//! | `full`: 1 host, 2 deployments, a takeover, a crash | 588,707 | 8 |
//! | `full`: 2 hosts, 2 services in a group, then one of them | 316,934 | 5 |
//!
//! The tests: `gate` is run with every change and pins its counts, `broken` takes out one guard after the other,
//! `full` is `make model-full`. A failure is told as a story, one line a step.

pub mod config;
pub mod sabotage;
pub mod model;
pub mod fleet;
pub mod action;
pub mod store;
pub mod leader;
pub mod host;
pub mod network;
pub mod names;
pub mod shared;
pub mod memo;
pub mod check;

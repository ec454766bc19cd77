//! Keeps the desired state of every service, and has one decision written for each deployment.
//!
//! The modules follow the life of a deployment.

pub mod config;
pub mod server;
pub mod api;
pub mod spec;
pub mod planner;
pub mod deployment;
pub mod board;
pub mod report;
pub mod session;
pub mod door;
pub mod fleet;
pub mod seat;
pub mod leader;
pub mod follower;
pub mod replica;
pub mod ledger;
pub mod records;
pub mod store;
pub mod identity;

pub use server::{ServeError, World, serve};

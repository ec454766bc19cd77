//! The program on each host. It makes a release ready beside the one that is served, promises, and moves
//! the host's traffic when the store says so. Loss of everything else changes no traffic here.
//!
//! The modules follow the life of a deployment on a host.

pub mod config;
pub mod world;
pub mod session;
pub mod release;
pub mod berth;
pub mod agent;
pub mod executor;
pub mod docker;
pub mod health;
pub mod nginx;
pub mod journal;
pub mod state;
pub mod retired;
pub mod memory;
pub mod readiness;
pub mod hand;
mod process;

pub use agent::{BootError, by_hand, on_paper, run};
pub use world::{Settings, World};

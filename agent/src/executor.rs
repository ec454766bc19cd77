//! Does what the protocol decided: each effect has its file here, and none of them decides anything.

pub mod job;
mod bring_up;
pub mod edge;
pub mod clear;
pub mod vacate;
pub mod drain;
pub mod keep;
pub mod images;

pub use bring_up::sockets;
pub use edge::Edge;
pub use job::{Failure, Job, JobService, Tools};

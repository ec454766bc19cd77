//! What operators and their tools can ask for. Each request becomes one of a few acts on the leader; each
//! answer is made here from what the leader knows.

mod act;
mod membership;
mod restored;
mod error;
mod grpc;
mod muster;
mod stream;
mod view;

pub use act::{Started, WATCH, start_rollback};
pub use error::ledger_status;
pub use grpc::Operators;

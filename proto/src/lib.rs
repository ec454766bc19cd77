//! What goes over the wire, and the link under it. Generated types stop at `convert`: past the
//! controller's `api/` and `session/` and the agent's `session` there are only the types of `cutover` and
//! of the crate itself.

pub mod ambient;
pub mod convert;
pub mod link;
pub mod out;
pub mod redirect;
pub mod telemetry;
pub mod signals;
pub mod crashpoint;

/// The agents' side, generated from `session.proto`.
#[expect(missing_docs, reason = "documented in the .proto file")]
#[expect(clippy::all, reason = "generated")]
pub mod session {
    tonic::include_proto!("bgctl.session.v1");
}

/// The operators' side, generated from `operator.proto`.
#[expect(missing_docs, reason = "documented in the .proto file")]
#[expect(clippy::all, reason = "generated")]
pub mod operator {
    tonic::include_proto!("bgctl.operator.v1");
}

/// The version of the agents' protocol this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;

//! The mTLS link under every connection: who may speak is decided by certificates, before a byte of
//! gRPC is read.
//!
//! Session resumption is off on both sides: a resumed session presents no certificate, and rustls then
//! accepts one that was revoked or has expired since.

mod client;
mod identity;
mod server;

pub use client::{Dial, LinkError, TcpDial, connect, innermost};
pub use identity::{CONTROLLER_NAME, Identity, IdentityError, Peer};
pub use server::{Caller, Link, Listen, incoming};

/// Bytes both ways, whatever carries them: a TCP stream, or one of a simulated network.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Io for T {}

//! The seam: whoever calls says what is listened on, what the outside is, and when to stop.

use crate::api::Operators;
use crate::follower::Follower;
use crate::leader;
use crate::replica::Replica;
use crate::seat::Seat;
use crate::session::Sessions;
use crate::store::Store;
use bgctl_proto::ambient::Ambient;
use bgctl_proto::link::{self, Listen};
use bgctl_proto::operator::operator_server::OperatorServer;
use bgctl_proto::session::session_server::SessionServer;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// A link on which nothing comes back for this long after a ping is dead.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams that have not ended by then, after they were told to, are cut.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// A spec is at most 256 KiB, an agent's message a few KiB.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Requests one connection may have open at once.
const REQUESTS_PER_CONNECTION_MAX: u32 = 100;

/// The outside, as the controller sees it.
pub struct World {
    /// What is written down.
    pub store: Arc<dyn Store>,
    /// This controller's certificate, and whom it believes.
    pub tls: Arc<ServerConfig>,
    /// Who this replica is, and where others find it.
    pub replica: Replica,
    /// The time of day, and chance.
    pub ambient: Arc<dyn Ambient>,
}

/// Why serving ended unasked.
#[derive(Debug, thiserror::Error)]
#[error("the server failed: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves until `shutdown`, then in stages: no new connections; streams and deployments are told and
/// left to the next leader; the leadership is given up; what is still open is cut.
pub async fn serve(listener: impl Listen, world: World, shutdown: CancellationToken) -> Result<(), ServeError> {
    let World { store, tls, replica, ambient } = world;
    let candidate = replica.to_string();
    let follower = Arc::new(Follower::new(replica));
    let following = tokio::spawn(Arc::clone(&follower).follow(Arc::clone(&store), shutdown.clone()));
    let (seat, leader) = watch::channel(None);
    let leading = tokio::spawn(leader::keep_leading(Arc::clone(&store), ambient, candidate, seat, shutdown.clone()));
    let seat = Seat::new(leader, store, follower);
    let sessions = SessionServer::new(Sessions::new(seat.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let operators = OperatorServer::new(Operators::new(seat)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX)
        .add_service(sessions)
        .add_service(operators)
        .serve_with_incoming_shutdown(link::incoming(listener, tls), shutdown.clone().cancelled_owned());
    let cut = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_WITHIN).await;
    };
    let outcome = tokio::select! {
        served = served => served,
        () = cut => Ok(()),
    };
    shutdown.cancel();
    if let Err(error) = leading.await {
        tracing::error!(%error, "the election's task died");
    }
    if let Err(error) = following.await {
        tracing::error!(%error, "the task that follows the store died");
    }
    Ok(outcome?)
}
